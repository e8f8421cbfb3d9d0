//! Reading sessions from the database: those that are asked for together are read by one statement.
//!
//! One that is asked for while no other is being read goes at once. While some are, the next ones
//! gather, for `cold.batch_delay` at most; and while as many statements run as may, for as long as
//! that lasts. So the busier the database is, the fewer questions it gets.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use session_core::{Head, Key};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::circuit::{Circuit, Says};
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

/// What came of it.
#[derive(Debug)]
pub(super) enum Read {
    Row(Box<Row>),
    /// There is none.
    None,
    /// Another node is loading it.
    Elsewhere,
}

impl From<Option<Row>> for Read {
    fn from(row: Option<Row>) -> Self {
        row.map_or(Self::None, |row| Self::Row(Box::new(row)))
    }
}

type Answer = Result<Read, StoreError>;

struct Asked {
    key: Key,
    leased: Leased,
    answer: oneshot::Sender<Answer>,
}

/// Reads rows, alone or together with others'.
pub(crate) struct Reads {
    store: Arc<dyn ColdStore>,
    /// Of the database: while it is open nothing is asked of it.
    pub(crate) circuit: Arc<Circuit>,
    /// `None`: each by a statement of its own.
    queue: Option<mpsc::Sender<Asked>>,
    /// The same for the copy of the database.
    copy: Option<mpsc::Sender<Asked>>,
}

impl Reads {
    /// Each by a statement of its own, and at once.
    #[cfg(test)]
    pub(super) fn alone(store: Arc<dyn ColdStore>) -> Self {
        Self {
            store,
            circuit: Arc::new(circuit(&Meter::default())),
            queue: None,
            copy: None,
        }
    }

    /// Together with others', by statements that run in `tasks`; what is asked for after `stop` is
    /// read alone. Leases are of the warm tier; without one there are none.
    pub(super) fn together(
        store: Arc<dyn ColdStore>,
        warm: Option<Arc<Warm>>,
        config: &ColdConfig,
        meter: &Meter,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let circuit = Arc::new(circuit(meter));
        let copy = config.replica_url.as_ref().map(|_| {
            let (queue, asked) = mpsc::channel(config.max_waiting);
            let store = Arc::clone(&store);
            let read = move |batch| copy_together(Arc::clone(&store), batch);
            let gather = Gather::new(asked, config, tasks.clone());
            tasks.spawn(gather.run(stop.clone(), read));
            queue
        });
        // As many as may wait for one at all; each has a place.
        let (queue, asked) = mpsc::channel(config.max_waiting);
        let gather = Gather::new(asked, config, tasks.clone());
        let read = {
            let (store, circuit) = (Arc::clone(&store), Arc::clone(&circuit));
            move |batch| {
                let (store, circuit) = (Arc::clone(&store), Arc::clone(&circuit));
                read_together(store, circuit, warm.clone(), batch)
            }
        };
        tasks.spawn(gather.run(stop, read));
        Self {
            store,
            circuit,
            queue: Some(queue),
            copy,
        }
    }

    /// The row that a key leads to, by a statement that begins after this is called.
    pub(super) async fn read(&self, key: Key, leased: Leased) -> Answer {
        match ask(self.queue.as_ref(), key, leased).await {
            Some(answer) => answer,
            None => Ok(self.store.load(key).await?.into()),
        }
    }

    /// The row as a copy of the database has it, if there is one and it has.
    pub(super) async fn read_copy(&self, key: Key) -> Option<Row> {
        match ask(self.copy.as_ref(), key, Leased::NotAsked).await {
            Some(Ok(Read::Row(row))) => Some(*row),
            Some(_) => None,
            None => self.store.load_replica(vec![key]).await.pop(),
        }
    }
}

/// `None` if there is no queue, or nobody reads from it any more.
async fn ask(queue: Option<&mpsc::Sender<Asked>>, key: Key, leased: Leased) -> Option<Answer> {
    let (answer, answered) = oneshot::channel();
    let asked = Asked {
        key,
        leased,
        answer,
    };
    queue?.send(asked).await.ok()?;
    answered.await.ok()
}

struct Gather {
    asked: mpsc::Receiver<Asked>,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    /// How many statements there is room for.
    statements: usize,
    /// How many sessions a statement reads.
    most: usize,
    delay: Duration,
}

impl Gather {
    fn new(asked: mpsc::Receiver<Asked>, config: &ColdConfig, tasks: TaskTracker) -> Self {
        let statements = config.statements();
        Self {
            asked,
            tasks,
            room: Arc::new(Semaphore::new(statements)),
            statements,
            most: config.batch_size,
            delay: config.batch_delay,
        }
    }

    /// Has what was asked for read, until `stop`; and then until all is read that was asked for
    /// before.
    async fn run<F>(mut self, stop: CancellationToken, read: impl Fn(Vec<Asked>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            // Before anything is taken: whatever comes while this waits goes along.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            let mut batch = Vec::new();
            let taken = tokio::select! {
                biased;
                () = stop.cancelled(), if !self.asked.is_closed() => {
                    self.asked.close();
                    continue;
                }
                taken = self.asked.recv_many(&mut batch, self.most) => taken,
            };
            if taken == 0 {
                return;
            }
            let others_run = self.room.available_permits() + 1 < self.statements;
            if others_run {
                self.gather(&mut batch).await;
            }
            let reading = read(batch);
            self.tasks.spawn(async move {
                reading.await;
                drop(room);
            });
        }
    }

    async fn gather(&mut self, batch: &mut Vec<Asked>) {
        let until = Instant::now() + self.delay;
        while batch.len() < self.most {
            let wanted = self.most - batch.len();
            let more = timeout_at(until, self.asked.recv_many(batch, wanted));
            if !more.await.is_ok_and(|more| more > 0) {
                return;
            }
        }
    }
}

/// Nobody is left without an answer: a dropped one is read alone.
async fn read_together(
    store: Arc<dyn ColdStore>,
    circuit: Arc<Circuit>,
    warm: Option<Arc<Warm>>,
    mut batch: Vec<Asked>,
) {
    // Whoever went away needs none.
    batch.retain(|asked| !asked.answer.is_closed());
    if !batch.is_empty() && !circuit.may_ask() {
        return answer_all(batch, &left_alone());
    }
    if let Some(warm) = warm {
        batch = leased_here(&warm, batch).await;
    }
    let keys: Vec<Key> = batch.iter().map(|asked| asked.key).collect();
    let rows = match keys[..] {
        [] => return,
        [key] => store.load(key).await.map(Vec::from_iter),
        _ => store.load_many(keys).await,
    };
    match &rows {
        Err(error) if error.transient => circuit.failed(error),
        _ => circuit.answered(),
    }
    match rows {
        Ok(rows) => answer_each(batch, &rows),
        // One of them may be why: what its row holds is nothing to the others.
        Err(error) if !error.transient && batch.len() > 1 => {
            for Asked { key, answer, .. } in batch {
                let _ = answer.send(store.load(key).await.map(Into::into));
            }
        }
        Err(error) => answer_all(batch, &error),
    }
}

/// From the copy; whatever it does not tell is asked of the database itself.
async fn copy_together(store: Arc<dyn ColdStore>, mut batch: Vec<Asked>) {
    batch.retain(|asked| !asked.answer.is_closed());
    if batch.is_empty() {
        return;
    }
    let keys = batch.iter().map(|asked| asked.key).collect();
    answer_each(batch, &store.load_replica(keys).await);
}

fn answer_each(batch: Vec<Asked>, rows: &[Row]) {
    let rows = by_key(rows);
    for Asked { key, answer, .. } in batch {
        let row = rows.get(&key).map(|row| Row::clone(row));
        let _ = answer.send(Ok(row.into()));
    }
}

fn answer_all(batch: Vec<Asked>, error: &StoreError) {
    for asked in batch {
        let _ = asked.answer.send(Err(error.clone()));
    }
}

fn circuit(meter: &Meter) -> Circuit {
    /// One may be a hiccup, or a statement that was unlucky.
    const FAILURES: u32 = 5;
    let says = Says {
        opened: "the database does not answer: it is left alone but for a try now and then",
        closed: "the database answers again",
    };
    Circuit::new(FAILURES, says, meter.circuit("cold"))
}

/// What is said in the database's place while its circuit is open.
pub(super) fn left_alone() -> StoreError {
    let reason = "it did not answer a moment ago, and is asked again in a while";
    StoreError::transient("asking the database", reason)
}

/// Those that this node is to read; the others are told that another is doing so.
async fn leased_here(warm: &Warm, batch: Vec<Asked>) -> Vec<Asked> {
    let (asked, mut here): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|asked| asked.leased == Leased::IfFree);
    if asked.is_empty() {
        return here;
    }
    let keys: Vec<Key> = asked.iter().map(|asked| asked.key).collect();
    for (asked, ours) in asked.into_iter().zip(warm.lease(&keys).await) {
        match ours {
            true => here.push(asked),
            false => drop(asked.answer.send(Ok(Read::Elsewhere))),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use session_core::SessionId;
    use tokio::time::{sleep, timeout};

    use super::*;

    const READING: Duration = Duration::from_millis(100);
    const DELAY: Duration = Duration::from_millis(10);

    /// A database that takes its time.
    struct Bed {
        queue: mpsc::Sender<Asked>,
        /// How many sessions each statement read, and when it began.
        batches: Arc<Mutex<Vec<(usize, Duration)>>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    }

    impl Bed {
        fn new() -> Self {
            let config = ColdConfig {
                load_concurrency: 2,
                batch_size: 10,
                batch_delay: DELAY,
                ..ColdConfig::default()
            };
            let (queue, asked) = mpsc::channel(100);
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let batches = Arc::<Mutex<Vec<_>>>::default();
            let begun = Instant::now();
            let read = {
                let batches = Arc::clone(&batches);
                move |batch: Vec<Asked>| {
                    batches.lock().unwrap().push((batch.len(), begun.elapsed()));
                    async move {
                        sleep(READING).await;
                        for asked in batch {
                            let _ = asked.answer.send(Ok(Read::None));
                        }
                    }
                }
            };
            let gather = Gather::new(asked, &config, tasks.clone());
            tasks.spawn(gather.run(stop.clone(), read));
            Self {
                queue,
                batches,
                tasks,
                stop,
            }
        }

        async fn ask(&self) -> oneshot::Receiver<Answer> {
            let (answer, answered) = oneshot::channel();
            let asked = Asked {
                key: Key::Id(SessionId::random()),
                leased: Leased::NotAsked,
                answer,
            };
            self.queue.send(asked).await.ok().unwrap();
            answered
        }

        async fn ask_for(&self, count: usize) -> Vec<oneshot::Receiver<Answer>> {
            let mut asked = Vec::new();
            for _ in 0..count {
                asked.push(self.ask().await);
            }
            asked
        }

        fn batches(&self) -> Vec<(usize, Duration)> {
            self.batches.lock().unwrap().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_one_does_not_wait() {
        let bed = Bed::new();
        bed.ask().await.await.unwrap().unwrap();
        assert_eq!(bed.batches(), [(1, Duration::ZERO)]);
        bed.ask().await.await.unwrap().unwrap();
        assert_eq!(bed.batches()[1], (1, READING));
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_is_read_the_next_gather_and_while_all_run_the_rest() {
        let bed = Bed::new();
        let first = bed.ask().await;
        sleep(Duration::from_millis(1)).await;
        // One statement runs: these go together, a little later.
        let mut asked = bed.ask_for(3).await;
        sleep(2 * DELAY).await;
        // Two run, which is all that may.
        asked.extend(bed.ask_for(25).await);
        first.await.unwrap().unwrap();
        for answer in asked {
            answer.await.unwrap().unwrap();
        }
        let batches = bed.batches();
        let sizes: Vec<_> = batches.iter().map(|(size, _)| *size).collect();
        assert_eq!(sizes, [1, 3, 10, 10, 5]);
        let soon = Duration::from_millis(1) + DELAY;
        assert!(
            batches[1].1 <= soon + Duration::from_millis(1),
            "{batches:?}"
        );
        assert!(batches[2].1 >= READING, "{batches:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_waits_for_nobody() {
        let bed = Bed::new();
        let _first = bed.ask().await;
        sleep(Duration::from_millis(1)).await;
        let _asked = bed.ask_for(10).await;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(bed.batches().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_before_the_end_is_answered_and_then_it_ends() {
        let bed = Bed::new();
        let asked = bed.ask_for(30).await;
        bed.stop.cancel();
        for answer in asked {
            answer.await.unwrap().unwrap();
        }
        bed.tasks.close();
        let ended = timeout(Duration::from_secs(1), bed.tasks.wait()).await;
        ended.expect("it ends by itself");
        assert!(bed.queue.is_closed());
    }
}
