//! Reading sessions from Redis: those that are asked for at the same time go in one pipeline.

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

/// What came of asking the warm tier.
pub(super) enum Asked<D: SessionData> {
    Loaded(Loaded<D>),
    /// It had nothing: the load that asks the tiers below, and whether that was under way before.
    Below(SharedLoad<Loaded<D>>, bool),
}

impl<D: SessionData> Clone for Asked<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(loaded) => Self::Loaded(loaded.clone()),
            Self::Below(flight, under_way) => Self::Below(flight.clone(), *under_way),
        }
    }
}

/// A session that Redis is to be asked for.
struct Wanted<D: SessionData> {
    key: Key,
    flight: SharedLoad<Asked<D>>,
}

/// What Redis is asked for, and is about to be asked for.
pub(super) struct Pipeline<D: SessionData> {
    loads: SingleFlight<Key, Asked<D>>,
    /// They go together: when the runtime has let others ask, or when they are as many as may.
    gathering: Mutex<Gathering<D>>,
    most: usize,
}

struct Gathering<D: SessionData> {
    wanted: Vec<Wanted<D>>,
    /// Whether a batch is about to take them along; and how many full ones have left meanwhile.
    awaited: Option<u32>,
}

/// After so many a batch that is about to leave is not relied on: its thread has something else to do.
const LATE: u32 = 4;

impl<D: SessionData> Pipeline<D> {
    pub(super) fn new(loads: SingleFlight<Key, Asked<D>>, holds: Holds) -> Self {
        Self {
            loads,
            gathering: Mutex::new(Gathering {
                wanted: Vec::new(),
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

    fn gathering(&self) -> MutexGuard<'_, Gathering<D>> {
        self.gathering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: SessionData> Shared<D> {
    /// The answer of the warm tier that others wait for, or one to be asked for now; and whether
    /// others wait for it.
    pub(super) fn ask_warm(self: &Arc<Self>, key: Key) -> (SharedLoad<Asked<D>>, bool) {
        let flight = match self.pipeline.loads.join(key) {
            Join::New(flight) => flight,
            Join::UnderWay(flight) => return (flight, true),
            Join::Full(flight) => {
                self.metrics.shed.increment(1);
                return (flight, false);
            }
        };
        let wanted = Wanted {
            key,
            flight: flight.clone(),
        };
        let mut gathering = self.pipeline.gathering();
        gathering.wanted.push(wanted);
        if gathering.wanted.len() >= self.pipeline.most {
            let full = take(&mut gathering.wanted);
            let left = gathering.awaited.map(|left| left + 1);
            gathering.awaited = left.filter(|left| *left < LATE);
            drop(gathering);
            self.pipeline.loads.spawn(Batch::full(self, full).ask());
        } else if gathering.awaited.is_none() {
            gathering.awaited = Some(0);
            drop(gathering);
            self.pipeline.loads.spawn(Batch::waiting(self).leave());
        }
        (flight, false)
    }
}

/// Those that are asked for by one pipeline. Whatever becomes of it, nobody waits in vain.
struct Batch<D: SessionData> {
    shared: Arc<Shared<D>>,
    wanted: Vec<Wanted<D>>,
    /// Whether it takes nobody along any more.
    has_left: bool,
}

impl<D: SessionData> Batch<D> {
    /// One that takes along whoever has gathered by the time it leaves.
    fn waiting(shared: &Arc<Shared<D>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            wanted: Vec::new(),
            has_left: false,
        }
    }

    fn full(shared: &Arc<Shared<D>>, wanted: Vec<Wanted<D>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            wanted,
            has_left: true,
        }
    }

    async fn leave(mut self) {
        // One that is alone does not wait; else whoever can ask by now does so first.
        if self.shared.pipeline.loads.count() > 1 {
            yield_now().await;
        }
        self.take_along();
        self.ask().await;
    }

    fn take_along(&mut self) {
        self.has_left = true;
        let mut gathering = self.shared.pipeline.gathering();
        gathering.awaited = None;
        self.wanted.append(&mut gathering.wanted);
    }

    /// Asks the warm tier for what is not on its way from below it already, nor has landed since its
    /// caller looked. In this order, so that however many ask for a session, and whenever, it is asked of
    /// Redis once.
    async fn ask(mut self) {
        self.land_what_need_not_be_asked();
        let shared = Arc::clone(&self.shared);
        let keys: Vec<Key> = self.wanted.iter().map(|wanted| wanted.key).collect();
        // What is here already does not wait for others' loads to begin.
        let below = match keys.len() {
            1 => Shared::flight,
            _ => Shared::flight_behind,
        };
        let mut found = read(&shared, &keys).await;
        let now = shared.clock.now();
        self.wanted.reverse();
        // Each is on the list until it has landed.
        while let Some(wanted) = self.wanted.last() {
            // What the application reads of its own data may panic; the others are to get theirs.
            let bring = || found.next()?.bring(&shared, wanted.key, now);
            let asked = match catch_unwind(AssertUnwindSafe(bring)) {
                Ok(Some(loaded)) => Some(Asked::Loaded(loaded)),
                Ok(None) => {
                    let (flight, under_way) = below(&shared, wanted.key, From::Warm);
                    Some(Asked::Below(flight, under_way))
                }
                Err(_) => None,
            };
            self.land(wanted, asked);
            self.wanted.pop();
        }
    }

    fn land_what_need_not_be_asked(&mut self) {
        let keys = self.wanted.iter().map(|wanted| (wanted.key, From::Warm));
        let below = self.shared.loads.all_under_way(keys);
        for (wanted, below) in take(&mut self.wanted).into_iter().zip(below) {
            if let Some(flight) = below {
                self.land(&wanted, Some(Asked::Below(flight, true)));
            } else if let Some(landed) = hot(&self.shared, wanted.key) {
                self.land(&wanted, Some(Asked::Loaded(Ok(landed))));
            } else {
                self.wanted.push(wanted);
            }
        }
    }

    fn land(&self, Wanted { key, flight }: &Wanted<D>, asked: Option<Asked<D>>) {
        self.shared.pipeline.loads.complete(*key, flight, asked);
    }
}

impl<D: SessionData> Drop for Batch<D> {
    fn drop(&mut self) {
        if !self.has_left {
            self.take_along();
        }
        for wanted in take(&mut self.wanted) {
            self.land(&wanted, None);
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
