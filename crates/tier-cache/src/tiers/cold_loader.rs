//! Loads sessions from the database. Sessions that are asked for while it is busy share one statement.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use session_core::{Head, Key};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::answers::Answers;
use super::batcher::{self, Batcher, Turn};
use crate::circuit::Circuit;
use crate::cold::{ColdStore, Row};
use crate::config::ColdConfig;
use crate::error::StoreError;
use crate::metrics::Meter;
use crate::warm::Warm;

/// Whether to read only what no other node is about to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leased {
    /// Read it in any case.
    NotAsked,
    /// Not if another node has its lease.
    IfFree,
}

/// The result of a load from the database.
#[derive(Debug)]
pub(super) enum ColdRead {
    Row(Box<Row>),
    /// There is none.
    None,
    /// Another node is loading it.
    Elsewhere,
}

impl From<Option<Row>> for ColdRead {
    fn from(row: Option<Row>) -> Self {
        row.map_or(Self::None, |row| Self::Row(Box::new(row)))
    }
}

type Answer = Result<ColdRead, StoreError>;

#[derive(Clone, Copy, Debug)]
struct Question {
    key: Key,
    leased: Leased,
}

type Pending = batcher::Pending<Question, Answer>;
type Queue = Arc<Batcher<Question, Answer>>;

/// Loads rows from the database, each by itself or in batches.
pub(crate) struct ColdLoader {
    primary: Primary,
    /// `None` without batching: each load has a statement of its own.
    queue: Option<Queue>,
    /// The batches for the replica, if there is one.
    copy: Option<Queue>,
    /// How long a request waits for the replica.
    patience: Duration,
}

impl ColdLoader {
    /// Creates a loader without batching: each load starts its own statement at once.
    #[cfg(test)]
    pub(super) fn unbatched(store: Arc<dyn ColdStore>) -> Self {
        Self {
            primary: Primary::new(store, None, &Meter::default()),
            queue: None,
            copy: None,
            patience: Duration::MAX,
        }
    }

    /// Creates a loader with batching. Statements run in `tasks` or in the caller. Leases need the warm
    /// tier: without it there are none.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub(super) fn batched(
        store: Arc<dyn ColdStore>,
        warm: Option<Arc<Warm>>,
        config: &ColdConfig,
        meter: &Meter,
        tasks: &TaskTracker,
    ) -> Self {
        let (statements, most) = (config.statements(), config.batch_size);
        let copy = config.replica_url.as_ref().map(|_| {
            let store = Arc::clone(&store);
            let read = move |batch| read_copy_batched(Arc::clone(&store), batch);
            Batcher::new(statements, most, tasks.clone(), read)
        });
        let primary = Primary::new(store, warm, meter);
        let read = {
            let primary = primary.clone();
            move |batch| primary.clone().read_batched(batch)
        };
        Self {
            primary,
            queue: Some(Batcher::new(statements, most, tasks.clone(), read)),
            copy,
            patience: config.replica_timeout,
        }
    }

    /// Returns the circuit breaker of the database. While it is open, no load is started.
    pub(crate) fn circuit(&self) -> &Circuit {
        self.primary.answers.circuit()
    }

    /// Whether the last load succeeded.
    pub(crate) fn succeed(&self) -> bool {
        self.primary.answers.are_good()
    }

    /// Runs one load to find out whether loads succeed again. Must be polled to its end, see [`ColdStore`].
    pub(crate) async fn probe(&self) {
        let row = self.primary.store.load(self.primary.answers.probe()).await;
        self.primary.answers.note_probe(&row);
    }

    /// Loads the row of a key by a statement that starts after this call. Must be polled to its end, see
    /// [`ColdStore`].
    pub(super) async fn read(&self, key: Key, leased: Leased) -> Answer {
        let mut question = Question { key, leased };
        let _permit = match self.queue.as_ref().map(|queue| queue.turn(question)) {
            Some(Turn::Later(answered)) => match answered.await {
                Ok(answer) => return answer,
                Err(_) => {
                    // The batch was lost; the lease may be ours since.
                    question.leased = Leased::NotAsked;
                    None
                }
            },
            Some(Turn::Now(room)) => Some(room),
            None => None,
        };
        self.primary.read(question).await
    }

    /// The row as a copy of the database has it, if there is one, and it has, and says so in time.
    pub(super) async fn read_copy(&self, key: Key) -> Option<Row> {
        // Its turn is waited for no longer either.
        let row = timeout(self.patience, self.read_copy_in_turn(key));
        row.await.ok().flatten()
    }

    async fn read_copy_in_turn(&self, key: Key) -> Option<Row> {
        let leased = Leased::NotAsked;
        let question = Question { key, leased };
        let _permit = match self.copy.as_ref().map(|copy| copy.turn(question)) {
            Some(Turn::Later(answered)) => match answered.await {
                Ok(Ok(ColdRead::Row(row))) => return Some(*row),
                _ => return None,
            },
            Some(Turn::Now(room)) => Some(room),
            None => None,
        };
        self.primary.store.load_replica(vec![key]).await.pop()
    }
}

/// The database itself, as long as it answers.
#[derive(Clone)]
struct Primary {
    store: Arc<dyn ColdStore>,
    answers: Arc<Answers>,
    warm: Option<Arc<Warm>>,
}

impl Primary {
    fn new(store: Arc<dyn ColdStore>, warm: Option<Arc<Warm>>, meter: &Meter) -> Self {
        Self {
            store,
            answers: Arc::new(Answers::new(meter)),
            warm,
        }
    }

    async fn read(&self, Question { key, leased }: Question) -> Answer {
        if !self.answers.circuit().may_ask() {
            return Err(left_alone());
        }
        if leased == Leased::IfFree
            && let Some(warm) = &self.warm
            && warm.lease(&[key]).await == [false]
        {
            return Ok(ColdRead::Elsewhere);
        }
        let row = self.store.load(key).await;
        self.answers.note(row.as_ref().map(Option::as_ref));
        Ok(row?.into())
    }

    /// Nobody is left without an answer: one that is dropped is read alone.
    async fn read_batched(self, mut batch: Vec<Pending>) {
        // Whoever went away needs none.
        batch.retain(|asked| !asked.answer.is_closed());
        if !batch.is_empty() && !self.answers.circuit().may_ask() {
            return answer_all(batch, &left_alone());
        }
        if let Some(warm) = &self.warm {
            batch = leased_here(warm, batch).await;
        }
        let keys: Vec<Key> = batch.iter().map(|asked| asked.question.key).collect();
        let rows = match keys[..] {
            [] => return,
            [key] => self.store.load(key).await.map(Vec::from_iter),
            _ => self.store.load_many(keys).await,
        };
        self.answers.note(rows.as_ref().map(|rows| rows.first()));
        match rows {
            Ok(rows) => answer_each(batch, &rows),
            // One of them may be why: what its row holds is nothing to the others.
            Err(error) if !error.is_unavailable() && batch.len() > 1 => {
                self.read_one_by_one(batch).await;
            }
            Err(error) => answer_all(batch, &error),
        }
    }

    /// As long as the database answers at all.
    async fn read_one_by_one(&self, batch: Vec<Pending>) {
        let mut batch = batch.into_iter();
        while let Some(Pending { question, answer }) = batch.next() {
            let row = self.store.load(question.key).await;
            self.answers.note(row.as_ref().map(Option::as_ref));
            let silent = row.as_ref().err().filter(|error| error.is_unavailable());
            let silent = silent.cloned();
            let _ = answer.send(row.map(Into::into));
            if let Some(error) = silent {
                return answer_all(batch, &error);
            }
        }
    }
}

/// From the copy; whatever it does not tell is asked of the database itself.
async fn read_copy_batched(store: Arc<dyn ColdStore>, mut batch: Vec<Pending>) {
    batch.retain(|asked| !asked.answer.is_closed());
    if batch.is_empty() {
        return;
    }
    let keys = batch.iter().map(|asked| asked.question.key).collect();
    answer_each(batch, &store.load_replica(keys).await);
}

fn answer_each(batch: Vec<Pending>, rows: &[Row]) {
    let rows = by_key(rows);
    for Pending { question, answer } in batch {
        let row = rows.get(&question.key).map(|row| Row::clone(row));
        let _ = answer.send(Ok(row.into()));
    }
}

fn answer_all(batch: impl IntoIterator<Item = Pending>, error: &StoreError) {
    for asked in batch {
        let _ = asked.answer.send(Err(error.clone()));
    }
}

/// What is said in the database's place while its circuit is open.
pub(super) fn left_alone() -> StoreError {
    let reason = "it did not answer a moment ago, and is asked again in a while";
    StoreError::transient("asking the database", reason)
}

/// Those that this node is to read; the others are told that another is doing so.
async fn leased_here(warm: &Warm, batch: Vec<Pending>) -> Vec<Pending> {
    let (asked, mut here): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|asked| asked.question.leased == Leased::IfFree);
    if asked.is_empty() {
        return here;
    }
    let keys: Vec<Key> = asked.iter().map(|asked| asked.question.key).collect();
    for (asked, ours) in asked.into_iter().zip(warm.lease(&keys).await) {
        match ours {
            true => here.push(asked),
            false => drop(asked.answer.send(Ok(ColdRead::Elsewhere))),
        }
    }
    here
}

/// Rows by each key that leads to them.
fn by_key(rows: &[Row]) -> HashMap<Key, &Row> {
    let keys = |head: &Head| {
        let access = head.access.map(Key::AccessJti);
        let refresh = head.refresh.map(Key::Refresh);
        [Some(Key::Id(head.id)), access, refresh]
    };
    rows.iter()
        .flat_map(|row| {
            let keys = keys(&row.head).into_iter().flatten();
            keys.map(move |key| (key, row))
        })
        .collect()
}
