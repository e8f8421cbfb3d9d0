//! How a session that is not hot is brought there: one load at a time per key, which goes on whoever
//! goes away, through the one gate.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use session_core::{Head, Key, Standing};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Shared;
use super::backfill::Fill;
use super::cold_loader::{ColdRead, Leased};
use super::warm_loader::{self, WarmOutcome};
use crate::clock::{Moment, Now};
use crate::cold::Row;
use crate::config::Holds;
use crate::data::SessionData;
use crate::error::{Refusal, StoreError};
use crate::hot::{Entry, Generation};
use crate::log_limit::LogLimit;
use crate::session::Tier;
use crate::single_flight::SharedLoad;
use crate::warm::{ExpiryHint, RecordTtl, WarmRecord};

/// The first tier that a load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum From {
    /// Below that, what it has no answer to.
    Warm,
    /// A copy of the database will do, if there is one.
    Cold,
    /// The database itself.
    Primary,
}

/// How a load ended, for everyone who waited for it.
pub(crate) type Loaded<D> = Result<Landed<D>, Refusal>;

/// A session that a load brought into the process.
pub(crate) struct Landed<D> {
    pub(super) entry: Arc<Entry<D>>,
    pub(super) tier: Tier,
    /// Until then it may be handed out even by a node that is blind.
    pub(super) good_until: Moment,
}

impl<D> Clone for Landed<D> {
    fn clone(&self) -> Self {
        Self {
            entry: Arc::clone(&self.entry),
            ..*self
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// Waits for the load of `key`, which is begun if none is under way; and says whether one was. It
    /// lands in any case.
    #[tracing::instrument(level = "debug", name = "session.load", skip(self, deadline))]
    pub(crate) async fn load(self: &Arc<Self>, key: Key, deadline: Instant) -> (Loaded<D>, bool) {
        let loaded = async {
            let (load, joined) = match self.warm {
                Some(_) => {
                    let (asked, joined) = self.ask_warm(key);
                    match asked.result().await? {
                        WarmOutcome::Loaded(loaded) => return Some((loaded, joined)),
                        WarmOutcome::Below(load, under_way) => (load, joined || under_way),
                    }
                }
                None => self.shared_load(key, From::Warm),
            };
            Some((load.result().await?, joined))
        };
        match timeout_at(deadline, loaded).await {
            Ok(Some(loaded)) => loaded,
            // It is late, or panicked, or too many are under way, or the runtime is going down.
            Ok(None) | Err(_) => (Err(self.too_late()), false),
        }
    }

    /// Waits for a load of `key` from the database that began after this was called.
    #[tracing::instrument(level = "debug", name = "session.reread", skip(self))]
    pub(super) async fn load_fresh(self: &Arc<Self>, key: Key) -> Loaded<D> {
        let load = || cold(Arc::clone(self), key);
        match self.loads.run_fresh((key, From::Primary), load).await {
            Some(loaded) => loaded,
            None => Err(self.too_late()),
        }
    }

    pub(super) fn shared_load(
        self: &Arc<Self>,
        key: Key,
        from: From,
    ) -> (SharedLoad<Loaded<D>>, bool) {
        let load = || below_warm(Arc::clone(self), key, from);
        self.loads.run((key, from), load)
    }

    /// The same behind the back of whoever asks for it, who is not to spend his turn on it.
    pub(super) fn detached_load(
        self: &Arc<Self>,
        key: Key,
        from: From,
    ) -> (SharedLoad<Loaded<D>>, bool) {
        let load = || below_warm(Arc::clone(self), key, from);
        self.loads.run_detached((key, from), load)
    }

    /// Whether a head may be served, for all that this node knows.
    pub(crate) fn admits(&self, head: &Head) -> bool {
        let admitted = self.fence.admits(head);
        if !admitted {
            self.metrics.gate_refusals.increment(1);
        }
        admitted
    }

    /// How long a load takes, as far as the last one says.
    pub(super) fn load_took(&self) -> Duration {
        Duration::from_micros(self.load_micros().into())
    }

    pub(super) fn load_micros(&self) -> u32 {
        self.load_took.load(Ordering::Relaxed)
    }

    fn took(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.load_took.store(micros, Ordering::Relaxed);
    }

    /// The database failed: no verdict on the session.
    pub(super) fn unavailable(&self, error: &StoreError) -> Refusal {
        static UNCHECKED: LogLimit = LogLimit::new();
        if let Some(left_out) = UNCHECKED.admit() {
            tracing::warn!(%error, left_out, "a session cannot be checked");
        }
        self.too_late()
    }

    /// Has the feed ask the database now, and waits until it has, but no longer than for a statement, and
    /// not for a feed that was stopped.
    async fn hear_feed(&self) {
        let mut polled = pin!(self.poll_ended.notified());
        // From here on it misses none.
        polled.as_mut().enable();
        self.told.notify_one();
        let polled = timeout(self.config.cold.statement_timeout, polled);
        self.stop.run_until_cancelled(polled).await;
    }

    /// There was no answer, or it came when it could no longer be trusted.
    pub(super) fn too_late(&self) -> Refusal {
        Refusal::Unavailable {
            retry_after: Duration::from_secs(1),
        }
    }
}

/// From the hot tier.
pub(super) fn hot<D: SessionData>(shared: &Shared<D>, key: Key) -> Option<Landed<D>> {
    let (entry, _) = shared.hot_entry_after_all(key)?;
    Some(Landed {
        entry,
        tier: Tier::Hot,
        good_until: Moment::LONG_AGO,
    })
}

/// From below the warm tier, whether or not that was asked.
async fn below_warm<D: SessionData>(shared: Arc<Shared<D>>, key: Key, from: From) -> Loaded<D> {
    match from {
        From::Primary => cold(shared, key).await,
        From::Cold => match replica(&shared, key).await {
            Some(landed) => Ok(landed),
            None => cold(shared, key).await,
        },
        // While the warm tier was asked, another load may have landed.
        From::Warm => match hot(&shared, key) {
            Some(landed) => Ok(landed),
            None => leased(&shared, key).await,
        },
    }
}

/// From below the warm tier, by one node at a time: what another is loading is waited for, as long as
/// its lease may last.
async fn leased<D: SessionData>(shared: &Arc<Shared<D>>, key: Key) -> Loaded<D> {
    /// Between one look and the next: first and last.
    const LOOK: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(16)];

    if let Some(landed) = replica(shared, key).await {
        return Ok(landed);
    }
    if let Some(loaded) = cold_if_leased(shared, key, Leased::IfFree).await {
        end_lease_in_vain(shared, key, &loaded);
        return loaded;
    }
    shared.metrics.lease_waits.increment(1);
    let until = Instant::now() + shared.config.warm.lease;
    let mut pause = LOOK[0];
    while Instant::now() < until {
        sleep(pause).await;
        if let Some(loaded) = warm_loader::read_one(shared, key).await {
            return loaded;
        }
        pause = (2 * pause).min(LOOK[1]);
    }
    cold(Arc::clone(shared), key).await
}

/// Where a load brings nothing to the warm tier, those who wait for that would wait in vain.
fn end_lease_in_vain<D: SessionData>(shared: &Arc<Shared<D>>, key: Key, loaded: &Loaded<D>) {
    let now = shared.clock.now().wall;
    let filled = loaded
        .as_ref()
        .is_ok_and(|landed| landed.entry.head().standing(now) == Standing::Valid);
    if filled || shared.warm.is_none() {
        return;
    }
    let shared = Arc::clone(shared);
    shared.tasks.clone().spawn(async move {
        if let Some(warm) = &shared.warm {
            warm.end_lease(key).await;
        }
    });
}

/// From a copy of the cold tier; `None` if the database itself has to be asked.
pub(super) async fn replica<D: SessionData>(
    shared: &Arc<Shared<D>>,
    key: Key,
) -> Option<Landed<D>> {
    if !shared.fence.trusts(shared.clock.now().moment) {
        return None;
    }
    let generation = shared.hot.generation();
    let lineage = shared.fence.lineage()?;
    let row = shared.cold_loader.read_copy(key).await?;
    let standing = row.head.standing(shared.clock.now().wall);
    // As with the warm tier: its no is no answer.
    if row.lineage != lineage || standing != Standing::Valid || !leads_to(key, &row.head) {
        return None;
    }
    let entry = land(shared, row, generation, From::Cold)?;
    remember(shared, key, &entry);
    Some(Landed {
        entry,
        tier: Tier::Cold,
        // Only the fence vouches for it.
        good_until: Moment::LONG_AGO,
    })
}

/// From the cold tier.
pub(super) async fn cold<D: SessionData>(shared: Arc<Shared<D>>, key: Key) -> Loaded<D> {
    let loaded = cold_if_leased(&shared, key, Leased::NotAsked).await;
    loaded.expect("nobody asked for a lease")
}

/// From the cold tier; `None` if another node is loading it, and a lease was asked for.
async fn cold_if_leased<D: SessionData>(
    shared: &Arc<Shared<D>>,
    key: Key,
    mut leased: Leased,
) -> Option<Loaded<D>> {
    /// Each try reads a later snapshot, and what refuses it is known to the database before it
    /// is known here; so the second try succeeds but for a change in that very moment. Of a
    /// session that many change at once there are many such moments.
    const TRIES: u32 = 16;
    /// After so many the feed is asked: perhaps the database went back, and the floors are of what it
    /// has lost.
    const ALONE: u32 = 8;

    for tried in 0..TRIES {
        if tried >= ALONE {
            shared.hear_feed().await;
        }
        let asked = shared.clock.now().moment;
        let good_until = asked + shared.config.fence.staleness_bound;
        let generation = shared.hot.generation();
        let row = match shared.cold_loader.read(key, leased).await {
            Ok(ColdRead::Row(row)) => row,
            // A database whose history is in doubt may hide rows, or not have them yet.
            Ok(ColdRead::None) if shared.doubted.load(Ordering::Relaxed) => {
                return Some(Err(shared.too_late()));
            }
            Ok(ColdRead::None) => return Some(Err(Refusal::Unknown)),
            Ok(ColdRead::Elsewhere) => return None,
            Err(error) => return Some(Err(shared.unavailable(&error))),
        };
        if shared
            .fence
            .lineage()
            .is_some_and(|known| known != row.lineage)
        {
            // One of the two is out of date; the feed finds out which.
            shared.hear_feed().await;
            continue;
        }
        shared.took(shared.clock.now().moment.since(asked));
        shared.fence.saw(row.lineage, row.head.as_of);
        if let Some(entry) = land(shared, *row, generation, From::Primary) {
            remember(shared, key, &entry);
            return Some(Ok(Landed {
                entry,
                tier: Tier::Cold,
                good_until,
            }));
        }
        // It is ours already.
        leased = Leased::NotAsked;
    }
    tracing::warn!(
        ?key,
        "the database answers with sessions older than it told before"
    );
    Some(Err(shared.too_late()))
}

/// Keeps a row that was read from the database or a copy, here and in the warm tier; nothing if the gate
/// refuses it. One of the database itself that is later than what it is refused for is handed out, and
/// not kept: the gate would refuse it to the next one who asks.
fn land<D: SessionData>(
    shared: &Arc<Shared<D>>,
    row: Row,
    generation: Generation,
    from: From,
) -> Option<Arc<Entry<D>>> {
    let now = shared.clock.now();
    if !shared.admits(&row.head) {
        let later = from == From::Primary && shared.fence.is_overtaken_by(&row.head);
        return later.then(|| Arc::new(Entry::cold(row, now, generation, &shared.hot)));
    }
    let fill = fill(shared, &row, now);
    let entry = keep(shared, row, now, generation)?;
    if let Some(fill) = fill
        && shared.backfill.try_send(fill).is_err()
    {
        shared.metrics.fills_dropped.increment(1);
    }
    Some(entry)
}

/// Keeps a row in the hot tier; nothing if the gate refuses it.
///
/// Hands out what is hot, if that is newer. Not on a node that trusts no cache: what is hot there may be
/// of a history that the database no longer has, and the row is what it says now.
pub(super) fn keep<D: SessionData>(
    shared: &Shared<D>,
    row: Row,
    now: Now,
    generation: Generation,
) -> Option<Arc<Entry<D>>> {
    let entry = Arc::new(Entry::cold(row, now, generation, &shared.hot));
    let hot = shared
        .hot
        .insert(Arc::clone(&entry), |head| shared.admits(head))?;
    match Arc::ptr_eq(&hot, &entry) || shared.fence.trusts(now.moment) {
        true => Some(hot),
        false => Some(entry),
    }
}

/// What the warm tier is to keep of a row, if it is to.
pub(super) fn fill<D: SessionData>(shared: &Shared<D>, row: &Row, now: Now) -> Option<Fill> {
    if shared.warm.is_none() || row.head.standing(now.wall) != Standing::Valid {
        return None;
    }
    let config = &shared.config.warm;
    let term = RecordTtl::from_now(row.head.expires_at, now.wall, config)?;
    Some(Fill {
        record: warm_record(row, config.holds, term.ends),
        lineage: row.lineage,
        ttl: term.ttl,
    })
}

/// What the warm tier holds of a row.
pub(super) fn warm_record(row: &Row, holds: Holds, ends: ExpiryHint) -> WarmRecord {
    WarmRecord::Session {
        head: row.head.clone(),
        body: match holds {
            Holds::Head => None,
            Holds::Full => Some(row.body.clone()),
        },
        ends,
    }
}

/// So that the next lookup by this key is hot too.
pub(super) fn remember<D: SessionData>(shared: &Shared<D>, key: Key, entry: &Entry<D>) {
    match key {
        Key::Id(_) => {}
        Key::AccessJti(hash) | Key::Refresh(hash) => shared.hot.remember(hash, entry),
    }
}

pub(super) fn leads_to(key: Key, head: &Head) -> bool {
    match key {
        Key::Id(id) => head.id == id,
        Key::AccessJti(hash) => head.access == Some(hash),
        Key::Refresh(hash) => head.refresh == Some(hash),
    }
}
