//! The clients of a row: several of each class, from its beginning to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use tower_session::{Error, Login, SessionId, Token, TokenKeys, TokenKind};

use crate::bed::{Bed, Held, Node};
use crate::journal::{Journal, Written};
use crate::service::{Answer, Ask, Basket};

/// Between two requests of a client, so that there is room for the servers on a small machine.
const BREATH: Duration = Duration::from_millis(5);

/// One client, whose sessions are one user's.
#[derive(Clone)]
pub(crate) struct Client {
    bed: Arc<Bed>,
    journal: Arc<Journal>,
    name: String,
    user: i64,
    /// Whether it is to go on.
    on: Arc<AtomicBool>,
    /// What it has done so far.
    turns: Arc<AtomicU64>,
}

impl Client {
    /// Clients of these names.
    pub(crate) fn all<const N: usize>(
        names: [&str; N],
        bed: &Arc<Bed>,
        journal: &Arc<Journal>,
        on: &Arc<AtomicBool>,
    ) -> [Self; N] {
        let mut users = bed.add_users(&names).into_iter();
        names.map(|name| Self {
            bed: Arc::clone(bed),
            journal: Arc::clone(journal),
            name: name.to_owned(),
            user: users.next().expect("one for each name"),
            on: Arc::clone(on),
            turns: Arc::default(),
        })
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    pub(crate) async fn log_in(&self, node: &Node) -> Result<Held, Error> {
        let owner = self.name.clone();
        let basket = Basket { owner, count: 0 };
        let issued = node
            .tiers
            .login(Login::user(self.user).data(basket))
            .await?;
        Ok(Held {
            token: issued.access.expose().to_string(),
            id: issued.session.id(),
            user: self.name.clone(),
        })
    }

    /// Sessions that began at the other node, and that nobody has asked for here.
    pub(crate) async fn stock(&self, sessions: usize) -> Vec<Held> {
        let there = &self.bed.there;
        join_all((0..sessions).map(|_| self.must_log_in(there))).await
    }

    /// Logs in where all is well; a slow machine may take more than one try.
    pub(crate) async fn must_log_in(&self, node: &Node) -> Held {
        loop {
            match self.log_in(node).await {
                Ok(held) => return held,
                Err(error) => assert!(matches!(error, Error::Store(_)), "{error}"),
            }
        }
    }

    /// Reads one hot session over and over.
    pub(crate) async fn read_hot(self, held: Held) {
        while self.goes_on().await {
            let answer = self.bed.here.ask(Ask::Basket, &held.token).await;
            self.journal
                .note(&self.journal.hot, &held, Ask::Basket, &answer);
            self.must_be_known(&held, &answer);
        }
    }

    /// Reads sessions that began at the other node, each as a miss and then as a hit.
    pub(crate) async fn read_cold(self) {
        while self.goes_on().await {
            let Ok(held) = self.log_in(&self.bed.there).await else {
                continue;
            };
            for tally in [&self.journal.misses, &self.journal.hot] {
                let answer = self.bed.here.ask(Ask::Me, &held.token).await;
                self.journal.note(tally, &held, Ask::Me, &answer);
                self.must_be_known(&held, &answer);
                if answer.shown().is_none() {
                    break;
                }
            }
        }
    }

    /// Counts in one session; nothing that was acknowledged may be lost, and nothing be done twice.
    pub(crate) async fn write(self, held: Held) {
        let (mut acknowledged, mut in_doubt) = (0, 0);
        while self.goes_on().await {
            let answer = self.bed.here.ask(Ask::Count, &held.token).await;
            self.journal
                .note(&self.journal.writes, &held, Ask::Count, &answer);
            self.must_be_known(&held, &answer);
            let Some(count) = counted(&answer) else {
                in_doubt += 1;
                continue;
            };
            self.must_be(count, acknowledged + 1, acknowledged + 1 + in_doubt);
            (acknowledged, in_doubt) = (count, 0);
            // Whoever wrote reads it where it was written.
            let answer = self.bed.here.ask(Ask::Basket, &held.token).await;
            self.journal
                .note(&self.journal.hot, &held, Ask::Basket, &answer);
            if let Some(count) = counted(&answer) {
                self.must_be(count, acknowledged, acknowledged);
            }
        }
        self.journal.note_written(Written {
            held,
            acknowledged,
            in_doubt,
        });
    }

    /// Ends sessions, by a request or by plain SQL; each is to be refused by every node from then on.
    pub(crate) async fn revoke(self, by_sql: bool) {
        while self.goes_on().await {
            let Ok(held) = self.log_in(&self.bed.there).await else {
                continue;
            };
            for node in self.bed.nodes() {
                let answer = node.ask(Ask::Me, &held.token).await;
                self.journal
                    .note(&self.journal.ending, &held, Ask::Me, &answer);
                self.must_be_known(&held, &answer);
            }
            let revoked = match by_sql {
                true => self.revoke_by_sql(held.id).await,
                false => {
                    let answer = self.bed.here.ask(Ask::Logout, &held.token).await;
                    self.journal
                        .note(&self.journal.ending, &held, Ask::Logout, &answer);
                    answer.status == StatusCode::OK
                }
            };
            if revoked {
                self.must_be_refused_from_now_on(&held).await;
            }
        }
    }

    /// Shows what is no token, or not one of a session.
    pub(crate) async fn intrude(self, hot: Held) {
        let keys = &self.bed.keys;
        let text = |token: Token| token.expose().to_string();
        while self.goes_on().await {
            let made_up = [
                "not a token".to_owned(),
                text(TokenKeys::random().mint(TokenKind::Access, hot.id)),
                text(keys.mint(TokenKind::Access, hot.id)),
                text(keys.mint(TokenKind::Access, SessionId::random())),
            ];
            for token in made_up {
                let answer = self.bed.here.ask(Ask::Me, &token).await;
                self.journal.note_foreign(&token, &answer);
            }
        }
    }

    async fn goes_on(&self) -> bool {
        self.turns.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(BREATH).await;
        self.on.load(Ordering::SeqCst)
    }

    async fn revoke_by_sql(&self, id: SessionId) -> bool {
        let bed = Arc::clone(&self.bed);
        let sql = format!("UPDATE sessions SET is_active = false WHERE id = '{id}'");
        let update = move || bed.database.try_sql(&sql).is_ok();
        tokio::task::spawn_blocking(update).await.expect("it ends")
    }

    async fn must_be_refused_from_now_on(&self, held: &Held) {
        let revoked = self.bed.clock.now().moment;
        let mut last_served = Duration::ZERO;
        for node in self.bed.nodes() {
            loop {
                let answer = node.ask(Ask::Me, &held.token).await;
                self.journal
                    .note(&self.journal.ending, held, Ask::Me, &answer);
                match answer.status {
                    StatusCode::OK => last_served = last_served.max(answer.asked.since(revoked)),
                    StatusCode::UNAUTHORIZED => break,
                    _ if !self.on.load(Ordering::SeqCst) => return,
                    _ => {}
                }
                tokio::time::sleep(BREATH).await;
            }
        }
        for node in self.bed.nodes() {
            let answer = node.ask(Ask::Basket, &held.token).await;
            if answer.shown().is_some() {
                self.journal.wrong(format!("{} is back to life", held.id));
            }
        }
        self.journal
            .note_revoked(last_served, self.bed.promised(), held);
    }

    /// Nobody whose session is valid is told that it is not.
    fn must_be_known(&self, held: &Held, answer: &Answer) {
        if answer.status == StatusCode::UNAUTHORIZED {
            self.journal
                .wrong(format!("{} is valid, and was refused", held.id));
        }
    }

    fn must_be(&self, count: u64, from: u64, to: u64) {
        if count < from || count > to {
            let name = &self.name;
            self.journal
                .wrong(format!("{name} counted {from} to {to}, and found {count}"));
        }
    }
}

pub(crate) fn counted(answer: &Answer) -> Option<u64> {
    Some(answer.shown()?.basket.as_ref()?.count)
}
