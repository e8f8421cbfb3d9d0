//! Loads sessions from Redis. Sessions that are asked for at the same time share one pipeline.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::{Key, Lineage, Record, Standing};
use tokio::task::yield_now;

use super::Shared;
use super::load::{From, Landed, Loaded, hot, leads_to, remember};
use crate::clock::{Moment, Now};
use crate::config::{Holds, Promotion};
use crate::data::SessionData;
use crate::error::Refusal;
use crate::hot::{Entry, Generation};
use crate::session::Tier;
use crate::single_flight::{Join, SharedLoad, SingleFlight};
use crate::warm::{Warm, WarmRecord};

/// The result of asking the warm tier.
pub(super) enum WarmOutcome<D: SessionData> {
    Loaded(Loaded<D>),
    /// The warm tier has no usable record: the load from the database, and whether it was under way
    /// before.
    Below(SharedLoad<Loaded<D>>, bool),
}

impl<D: SessionData> Clone for WarmOutcome<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(loaded) => Self::Loaded(loaded.clone()),
            Self::Below(load, under_way) => Self::Below(load.clone(), *under_way),
        }
    }
}

/// A session to ask Redis for.
struct WarmRequest<D: SessionData> {
    key: Key,
    load: SharedLoad<WarmOutcome<D>>,
}

/// Collects requests for Redis into pipelines.
pub(super) struct WarmLoader<D: SessionData> {
    loads: SingleFlight<Key, WarmOutcome<D>>,
    /// Requests for the next pipeline. It is sent in the next turn of the runtime, or when it is full.
    queue: Mutex<Queue<D>>,
    most: usize,
}

struct Queue<D: SessionData> {
    requests: Vec<WarmRequest<D>>,
    /// `Some` while a batch is about to collect these requests: the number of full batches sent meanwhile.
    awaited: Option<u32>,
}

/// After so many full batches the waiting batch counts as late, and another is started: its thread is
/// busy.
const LATE: u32 = 4;

impl<D: SessionData> WarmLoader<D> {
    pub(super) fn new(loads: SingleFlight<Key, WarmOutcome<D>>, holds: Holds) -> Self {
        Self {
            loads,
            queue: Mutex::new(Queue {
                requests: Vec::new(),
                awaited: None,
            }),
            // Their answers come together: few enough that Redis has the next ones to do while these are
            // brought in, and that all of them come within the time that one may take.
            most: match holds {
                Holds::Head => 32,
                Holds::Full => 8,
            },
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<D>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: SessionData> Shared<D> {
    /// Joins a request to the warm tier for `key`, or queues a new one. The flag says whether one was
    /// under way before.
    pub(super) fn ask_warm(self: &Arc<Self>, key: Key) -> (SharedLoad<WarmOutcome<D>>, bool) {
        let load = match self.warm_loader.loads.join(key) {
            Join::New(load) => load,
            Join::UnderWay(load) => return (load, true),
            Join::Full(load) => {
                self.metrics.shed.increment(1);
                return (load, false);
            }
        };
        let request = WarmRequest {
            key,
            load: load.clone(),
        };
        let mut queue = self.warm_loader.queue();
        queue.requests.push(request);
        if queue.requests.len() >= self.warm_loader.most {
            let full = take(&mut queue.requests);
            let left = queue.awaited.map(|left| left + 1);
            queue.awaited = left.filter(|left| *left < LATE);
            drop(queue);
            self.warm_loader.loads.spawn(Batch::full(self, full).ask());
        } else if queue.awaited.is_none() {
            queue.awaited = Some(0);
            drop(queue);
            self.warm_loader.loads.spawn(Batch::waiting(self).flush());
        }
        (load, false)
    }
}

/// The requests of one pipeline. Dropping it completes all of them, as failed.
struct Batch<D: SessionData> {
    shared: Arc<Shared<D>>,
    requests: Vec<WarmRequest<D>>,
    /// Whether it accepts no more requests.
    is_closed: bool,
}

impl<D: SessionData> Batch<D> {
    /// Creates a batch that collects all queued requests when it is flushed.
    fn waiting(shared: &Arc<Shared<D>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            requests: Vec::new(),
            is_closed: false,
        }
    }

    fn full(shared: &Arc<Shared<D>>, requests: Vec<WarmRequest<D>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            requests,
            is_closed: true,
        }
    }

    async fn flush(mut self) {
        // A single request is sent at once. Otherwise callers that are ready to ask join first.
        if self.shared.warm_loader.loads.count() > 1 {
            yield_now().await;
        }
        self.collect();
        self.ask().await;
    }

    fn collect(&mut self) {
        self.is_closed = true;
        let mut queue = self.shared.warm_loader.queue();
        queue.awaited = None;
        self.requests.append(&mut queue.requests);
    }

    /// Asks the warm tier for what is not on its way from below it already, nor has landed since its
    /// caller looked. In this order, so that however many ask for a session, and whenever, it is asked of
    /// Redis once.
    async fn ask(mut self) {
        self.complete_known();
        let shared = Arc::clone(&self.shared);
        let keys: Vec<Key> = self.requests.iter().map(|request| request.key).collect();
        // What is here already does not wait for others' loads to begin.
        let below = match keys.len() {
            1 => Shared::shared_load,
            _ => Shared::detached_load,
        };
        let mut found = read(&shared, &keys).await;
        let now = shared.clock.now();
        self.requests.reverse();
        // Each is on the list until it has landed.
        while let Some(request) = self.requests.last() {
            // What the application reads of its own data may panic; the others are to get theirs.
            let bring = || found.next()?.bring(&shared, request.key, now);
            let asked = match catch_unwind(AssertUnwindSafe(bring)) {
                Ok(Some(loaded)) => Some(WarmOutcome::Loaded(loaded)),
                Ok(None) => {
                    let (load, under_way) = below(&shared, request.key, From::Warm);
                    Some(WarmOutcome::Below(load, under_way))
                }
                Err(_) => None,
            };
            self.complete(request, asked);
            self.requests.pop();
        }
    }

    fn complete_known(&mut self) {
        let keys = self
            .requests
            .iter()
            .map(|request| (request.key, From::Warm));
        let below = self.shared.loads.all_under_way(keys);
        for (request, below) in take(&mut self.requests).into_iter().zip(below) {
            if let Some(load) = below {
                self.complete(&request, Some(WarmOutcome::Below(load, true)));
            } else if let Some(landed) = hot(&self.shared, request.key) {
                self.complete(&request, Some(WarmOutcome::Loaded(Ok(landed))));
            } else {
                self.requests.push(request);
            }
        }
    }

    fn complete(&self, WarmRequest { key, load }: &WarmRequest<D>, asked: Option<WarmOutcome<D>>) {
        self.shared.warm_loader.loads.complete(*key, load, asked);
    }
}

impl<D: SessionData> Drop for Batch<D> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.collect();
        }
        for request in take(&mut self.requests) {
            self.complete(&request, None);
        }
    }
}

/// A record of the warm tier.
struct Found {
    record: WarmRecord,
    /// That of the hot tier when it was asked for.
    generation: Generation,
}

/// What the warm tier has of one session; `None` if the database has to be asked.
pub(super) async fn read_one<D: SessionData>(
    shared: &Arc<Shared<D>>,
    key: Key,
) -> Option<Loaded<D>> {
    let found = read(shared, &[key]).await.next()?;
    found.bring(shared, key, shared.clock.now())
}

/// What the warm tier has at each of these keys, by one pipeline.
async fn read<'s, D: SessionData>(
    shared: &'s Shared<D>,
    keys: &[Key],
) -> Answers<impl Iterator<Item = Option<WarmRecord>> + use<'s, D>> {
    match asking(shared) {
        Some((warm, lineage, generation)) if !keys.is_empty() => {
            Answers(Some((warm.get(keys, lineage).await, generation)))
        }
        _ => Answers(None),
    }
}

/// In the order of the keys; none at all if it was not asked.
struct Answers<R>(Option<(R, Generation)>);

impl<R: Iterator<Item = Option<WarmRecord>>> Answers<R> {
    fn next(&mut self) -> Option<Found> {
        let (records, generation) = self.0.as_mut()?;
        let (record, generation) = (records.next()??, *generation);
        Some(Found { record, generation })
    }
}

/// The warm tier, if it may be trusted; and what is known before it is asked.
fn asking<D: SessionData>(shared: &Shared<D>) -> Option<(&Warm, Lineage, Generation)> {
    let warm = shared.warm.as_ref()?;
    if !shared.fence.trusts(shared.clock.now().moment) {
        return None;
    }
    let generation = shared.hot.generation();
    // After the generation: what is asked for in an earlier lineage is of an earlier one.
    Some((warm, shared.fence.lineage()?, generation))
}

impl Found {
    /// Brings it into the hot tier, or says what it tells of the session; `None` if the database has to
    /// be asked.
    fn bring<D: SessionData>(
        self,
        shared: &Arc<Shared<D>>,
        key: Key,
        now: Now,
    ) -> Option<Loaded<D>> {
        let (head, body, ends) = match self.record {
            WarmRecord::Session { head, body, ends } => (head, body, ends),
            WarmRecord::Tombstone { id, version, as_of } => {
                // Of a foreign key it may tell of another session, which had the key before.
                let grave = key == Key::Id(id) && shared.fence.admits_at(id, version, as_of);
                return grave.then_some(Err(Refusal::Revoked));
            }
        };
        // A warm no is not taken for an answer, and an entry of a key may be older than the key.
        if head.standing(now.wall) != Standing::Valid || !leads_to(key, &head) {
            return None;
        }
        let id = head.id;
        let whole = body.is_some();
        let data_len = body.as_ref().map_or(0, |body| body.data.len());
        let body = body.map(|body| body.read());
        let record = Record { head, body };
        let entry = Entry::warm(record, data_len, now, self.generation, &shared.hot);
        let entry = shared
            .hot
            .insert(Arc::new(entry), |head| shared.admits(head))?;
        remember(shared, key, &entry);
        if ends.is_due(now.wall, shared.config.warm.ttl) {
            shared.fetch(id);
        }
        if !whole {
            shared.metrics.rebuilds.increment(1);
            match shared.config.session.promotion {
                Promotion::FirstUse | Promotion::Uses { count: 1, .. } => shared.fetch(id),
                Promotion::Body | Promotion::Uses { .. } => {}
            }
        }
        Some(Ok(Landed {
            entry,
            tier: Tier::Warm,
            // Only the fence vouches for it.
            good_until: Moment::LONG_AGO,
        }))
    }
}
