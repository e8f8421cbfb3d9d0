//! What every row has: clients that go on from its beginning to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tower_session::{Strictness, Token};

use crate::bed::{Bed, Held, eventually};
use crate::clients::{Client, counted};
use crate::journal::{Journal, Written};
use crate::service::Ask;

/// Clients of a row whose requests go beyond the hot tier.
pub(crate) const BUSY: u64 = 8;
/// Those who read one hot session each; they are the first.
const READERS: usize = 2;
/// Sessions that are asked for all at once.
const CROWD: usize = 60;

pub(crate) struct Row {
    fault: &'static str,
    pub(crate) bed: Arc<Bed>,
    pub(crate) journal: Arc<Journal>,
    /// Sessions that nobody has asked for here.
    pub(crate) crowd: Vec<Held>,
    /// A session that is hot here, and that no client asks for.
    pub(crate) untouched: Held,
    clients: Vec<Client>,
    on: Arc<AtomicBool>,
    running: JoinSet<()>,
    /// What its line says of the misses, beside their number.
    pub(crate) remark: String,
    /// What its line says of the recovery.
    pub(crate) recovery: String,
}

impl Row {
    /// A row of a fault at Redis, or at none: no request may be undecided.
    pub(crate) async fn begin(fault: &'static str, bed: Bed) -> Self {
        Self::begin_with(fault, bed, Journal::default()).await
    }

    /// A row in which the database is out of order for a while.
    pub(crate) async fn begin_undecidable(fault: &'static str, bed: Bed) -> Self {
        let journal = Journal::default();
        journal.allow_undecided();
        Self::begin_with(fault, bed, journal).await
    }

    async fn begin_with(fault: &'static str, bed: Bed, journal: Journal) -> Self {
        let (bed, journal) = (Arc::new(bed), Arc::new(journal));
        let on = Arc::new(AtomicBool::new(true));
        let names = [
            "ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal", "ida", "mallory",
        ];
        let clients = Client::all(names, &bed, &journal, &on);
        let [bystander] = Client::all(["zoe"], &bed, &journal, &on);
        let mut row = Self {
            fault,
            crowd: bystander.stock(CROWD).await,
            untouched: bystander.must_log_in(&bed.here).await,
            clients: clients.to_vec(),
            running: JoinSet::new(),
            remark: String::new(),
            recovery: String::new(),
            bed,
            journal,
            on,
        };
        row.run(clients).await;
        row.rounds().await;
        row
    }

    async fn run(&mut self, clients: [Client; 10]) {
        let [ada, bob, cleo, dan, eve, fay, gus, hal, ida, mallory] = clients;
        let here = &self.bed.here;
        for client in [ada, bob] {
            let held = client.must_log_in(here).await;
            self.running.spawn(client.read_hot(held));
        }
        for client in [cleo, dan, eve] {
            self.running.spawn(client.read_cold());
        }
        for client in [fay, gus] {
            let held = client.must_log_in(here).await;
            self.running.spawn(client.write(held));
        }
        self.running.spawn(hal.revoke(false));
        self.running.spawn(ida.revoke(true));
        let held = mallory.must_log_in(here).await;
        self.running.spawn(mallory.intrude(held));
    }

    /// Returns when each client has begun and ended something since.
    pub(crate) async fn rounds(&self) {
        let before: Vec<_> = self.clients.iter().map(Client::turns).collect();
        eventually("each client has had a turn", async || {
            let mut turns = self.clients.iter().zip(&before);
            turns.all(|(client, before)| client.turns() >= before + 2)
        })
        .await;
    }

    /// The same for those who read what is hot.
    pub(crate) async fn hot_rounds(&self) {
        let readers = &self.clients[..READERS];
        let before: Vec<_> = readers.iter().map(Client::turns).collect();
        eventually("each reader has had a turn", async || {
            let mut turns = readers.iter().zip(&before);
            turns.all(|(client, before)| client.turns() >= before + 5)
        })
        .await;
    }

    /// Ends the clients, asserts what holds in each row, and prints its line.
    pub(crate) async fn end(mut self) {
        self.rounds().await;
        self.on.store(false, Ordering::SeqCst);
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no client panics");
        }
        for written in self.journal.written() {
            self.must_be_there(&written).await;
        }
        self.journal.must_be_clean();
        self.print();
        for node in self.bed.nodes() {
            assert!(node.tiers.shutdown(Duration::from_secs(60)).await);
        }
    }

    /// The row's line in `docs/failures.md`.
    fn print(&self) {
        let Journal {
            hot,
            misses,
            writes,
            revoked,
            ..
        } = &*self.journal;
        let (hot, misses, writes) = (hot.now(), misses.now(), writes.now());
        let revoked = revoked.load(Ordering::SeqCst);
        let thread = std::thread::current();
        let test = thread.name().and_then(|name| name.rsplit("::").next());
        let latest = match self.journal.latest() {
            // The clock stood still, or was moved past the bound at once.
            Duration::ZERO => "none served past the bound".to_owned(),
            latest => format!("served for {} ms at most", latest.as_millis()),
        };
        println!(
            "| {} | {} by hot, {} from below{} | {} by warm, {} by cold{}{} | {} acknowledged, none lost{} \
             | {revoked}, {latest} | {} | `{}` |",
            self.fault,
            hot.hot,
            hot.warm + hot.cold,
            undecided(hot.undecided),
            misses.warm,
            misses.cold,
            undecided(misses.undecided),
            self.remark,
            writes.served(),
            undecided(writes.undecided),
            self.recovery,
            test.unwrap_or_default(),
        );
    }

    /// Whatever was acknowledged is in the database, and nothing else but what was in doubt; and every
    /// node comes to know it.
    async fn must_be_there(&self, written: &Written) {
        let Written { held, .. } = written;
        let token = Token::parse(&held.token).expect("a token");
        let mut stored = 0;
        eventually("the database tells the count", async || {
            let tiers = &self.bed.here.tiers;
            let Ok(session) = tiers.find_strict(token.clone(), Strictness::Row).await else {
                return false;
            };
            let Ok(body) = session.body().await else {
                return false;
            };
            stored = body.data().expect("it reads").count;
            true
        })
        .await;
        let allowed = written.acknowledged..=written.acknowledged + written.in_doubt;
        assert!(
            allowed.contains(&stored),
            "{stored} where {allowed:?} was acknowledged"
        );
        for node in self.bed.nodes() {
            eventually("every node has the last change", async || {
                counted(&node.ask(Ask::Basket, &held.token).await) == Some(stored)
            })
            .await;
        }
    }
}

fn undecided(count: u64) -> String {
    match count {
        0 => String::new(),
        _ => format!(", {count} times 503"),
    }
}
