//! The hot tier: whole typed sessions in the process, in moka.

mod shelf;

use std::sync::Arc;
use std::sync::atomic::{self, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use moka::Expiry;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;
use session_core::{Body, Head, KeyHash, Record, SessionId, Standing, Timestamp, Version};

use self::shelf::Shelf;
use crate::clock::{Moment, Now};
use crate::cold::Row;
use crate::config::HotConfig;
use crate::data::SessionData;
use crate::error::Refusal;
use crate::sync::{AtomicBool, AtomicI64, AtomicU32};

/// A session as the hot tier holds it.
#[derive(Debug)]
pub(crate) struct Entry<D> {
    record: Record<D>,
    /// Bytes that the application's data took in the database.
    data_len: usize,
    lifetime: Duration,
    /// Nanoseconds of the [`Moment`] from which it is not hot any more though it could be; of one that
    /// ends then, or was refused, that is never.
    ends: i64,
    /// Milliseconds of the [`Timestamp`] at which it was last used, as far as this node knows; to
    /// the second.
    seen: atomic::AtomicI64,
    /// The same as far as the database knows, or is about to be told.
    noted: atomic::AtomicI64,
    /// How it stood when the database was read: a *no* that was so already then is final.
    stood: Option<Standing>,
    /// The generation in which it was asked for.
    generation: Generation,
    /// Whether the gate admitted it after it was inserted.
    admitted: AtomicBool,
    uses: Uses,
}

impl<D> Entry<D> {
    /// A session that was just read from the database, by a question asked in `generation`.
    pub(crate) fn cold(row: Row, now: Now, generation: Generation, config: &HotConfig) -> Self
    where
        D: SessionData,
    {
        let data_len = row.body.data.len();
        Self {
            stood: Some(row.head.standing(now.wall)),
            ..Self::warm(row.read(), data_len, now, generation, config)
        }
    }

    /// A session from the warm tier.
    pub(crate) fn warm(
        record: Record<D>,
        data_len: usize,
        now: Now,
        generation: Generation,
        config: &HotConfig,
    ) -> Self {
        /// How long a refused session is remembered, which saves its client's retries a query.
        const REFUSED: Duration = Duration::from_secs(30);
        let lifetime = match record.head.standing(now.wall) {
            Standing::Valid => record.head.expires_at.since(now.wall).min(config.ttl),
            Standing::Expired | Standing::Idle | Standing::Revoked => REFUSED.min(config.ttl),
        };
        let ends = match lifetime == config.ttl && record.head.is_active {
            true => (now.moment + lifetime).nanos(),
            false => i64::MAX,
        };
        let seen = record.head.last_seen_at.unix_millis();
        Self {
            record,
            data_len,
            lifetime,
            ends,
            seen: atomic::AtomicI64::new(seen),
            noted: atomic::AtomicI64::new(seen),
            stood: None,
            generation,
            admitted: AtomicBool::new(false),
            uses: Uses::first(now.moment),
        }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.record.head
    }

    pub(crate) fn body(&self) -> Option<&Body<D>> {
        self.record.body.as_ref()
    }

    /// Whether the database itself said so when it was last asked.
    pub(crate) fn stood(&self, standing: Standing) -> bool {
        self.stood == Some(standing)
    }

    /// When it was last used, as far as this node knows.
    pub(crate) fn seen(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.seen.load(Ordering::Relaxed))
    }

    /// How it stands, its use on this node counted.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        self.head().standing_if_seen(self.seen(), now)
    }

    /// Notes a use. Says whether the database is to be told, which it is once in an `interval`.
    pub(crate) fn touch(&self, now: Timestamp, interval: Duration) -> bool {
        /// So that threads that use one session do not write to it all the time.
        const GRAIN: Duration = Duration::from_secs(1);
        if now.since(self.seen()) < GRAIN {
            return false;
        }
        self.seen.store(now.unix_millis(), Ordering::Relaxed);
        let noted = self.noted.load(Ordering::Relaxed);
        now.since(Timestamp::from_unix_millis(noted)) >= interval
            && self
                .noted
                .compare_exchange(
                    noted,
                    now.unix_millis(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Whether it is not hot any more at `moment`, though it could be.
    pub(crate) fn ends_by(&self, moment: Moment) -> bool {
        Moment::from_nanos(self.ends) <= moment
    }

    /// Whether it is to be loaded anew, if loads take so long. By chance, but for certain at its end.
    pub(crate) fn is_due(&self, now: Moment, load: Duration) -> bool {
        /// It is as good as never due earlier than so many times a load's duration.
        const EARLIEST: u32 = 10;
        if !self.ends_by(now + EARLIEST * load) {
            return false;
        }
        let early = load.mul_f64(-fastrand::f64().max(f64::MIN_POSITIVE).ln());
        self.ends_by(now + early)
    }

    /// The database was not told after all.
    pub(crate) fn touch_again(&self) {
        let noted = self.head().last_seen_at.unix_millis();
        self.noted.store(noted, Ordering::Relaxed);
    }

    /// Counts a use; says how many there were within `window`.
    pub(crate) fn used(&self, now: Moment, window: Duration) -> u32 {
        self.uses.count(now, window)
    }

    /// Whether it is the later truth, or the fuller record of the same.
    fn outranks(&self, other: &Self) -> bool {
        if self.generation < other.generation {
            // Perhaps of a history that the database no longer has.
            return false;
        }
        let (mine, theirs) = (self.head().version, other.head().version);
        mine > theirs || (mine == theirs && self.body().is_some() && other.body().is_none())
    }

    /// Bytes, roughly: what moka keeps per entry, this struct, its strings and its data.
    fn weight(&self) -> u32 {
        /// Measured per entry at a million entries.
        const MOKA: usize = 261;
        let user = self.record.head.user.as_ref();
        let strings = user.map_or(0, |user| user.email.len() + user.username.len());
        let device = self.body().map_or(0, |body| {
            let device = &body.device;
            device.user_agent.as_ref().map_or(0, |s| s.len())
                + device.label.as_ref().map_or(0, |s| s.len())
        });
        let bytes = MOKA + size_of::<Self>() + strings + device + self.data_len;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// Counts uses in a window of time, for promotion.
#[derive(Debug)]
struct Uses {
    /// Nanoseconds of the [`Moment`] at which the window opened.
    opened: AtomicI64,
    count: AtomicU32,
}

impl Uses {
    fn first(now: Moment) -> Self {
        Self {
            opened: AtomicI64::new(now.nanos()),
            count: AtomicU32::new(1),
        }
    }

    fn count(&self, now: Moment, window: Duration) -> u32 {
        let opened = Moment::from_nanos(self.opened.load(Ordering::Relaxed));
        if now.since(opened) > window {
            self.opened.store(now.nanos(), Ordering::Relaxed);
            self.count.store(1, Ordering::Relaxed);
            return 1;
        }
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How often the hot tier has been cleared. What was asked for in an earlier generation may be of
/// a history that the database no longer has, however late the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u32);

/// Sessions by id, with lookup entries beside them: for foreign keys, and for whatever else a
/// session was asked for by.
pub(crate) struct Hot<D> {
    sessions: Shelf<D>,
    lookups: Cache<KeyHash, (SessionId, Duration), RandomState>,
    /// Minted tokens that the database has refused for good.
    refused: Cache<KeyHash, Refusal, RandomState>,
    /// Entries of another [`Generation`] are misses.
    generation: AtomicU32,
}

impl<D: Send + Sync + 'static> Hot<D> {
    pub(crate) fn new(config: &HotConfig) -> Self {
        /// A lookup entry: moka's part, the key, the id and the lifetime.
        const LOOKUP: u32 = 300;
        /// A client that goes on with a token that is over costs one query in this time.
        const REFUSED: Duration = Duration::from_secs(30);
        let capacity = config.capacity.as_u64();
        Self {
            sessions: Shelf::new(
                Cache::builder()
                    .name("sessions")
                    .max_capacity(capacity)
                    .weigher(|_, entry: &Arc<Entry<D>>| entry.weight())
                    .expire_after(OwnLifetime)
                    .build_with_hasher(RandomState::default()),
            ),
            lookups: Cache::builder()
                .name("session lookups")
                .max_capacity(capacity / 4)
                .weigher(|_, _| LOOKUP)
                .expire_after(OwnLifetime)
                .build_with_hasher(RandomState::default()),
            refused: Cache::builder()
                .name("refused tokens")
                .max_capacity(capacity / 16)
                .weigher(|_, _| LOOKUP)
                .time_to_live(REFUSED)
                .build_with_hasher(RandomState::default()),
            generation: AtomicU32::new(0),
        }
    }

    /// Remembers what the database said of a token that we minted, if no later change can make it
    /// good again: nobody has a token before the commit that makes it good.
    pub(crate) fn refuse(&self, token: KeyHash, refusal: &Refusal) {
        if matches!(refusal, Refusal::Unknown | Refusal::Replaced) {
            self.refused.insert(token, refusal.clone());
        }
    }

    /// Why a token was refused a moment ago.
    pub(crate) fn refused(&self, token: KeyHash) -> Option<Refusal> {
        self.refused.get(&token)
    }

    /// The session, if an admitted one is here. No I/O, no lock held, nothing allocated.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        let entry = self.sessions.get(id)?;
        (entry.admitted.load(Ordering::Acquire) && self.is_current(&entry)).then_some(entry)
    }

    /// To be taken before a question is asked whose answer is to be inserted.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Whether all that was cleared was cleared before this was asked for.
    pub(crate) fn is_current(&self, entry: &Entry<D>) -> bool {
        entry.generation == self.generation()
    }

    /// The session that a lookup entry leads to. The caller compares the key with the head.
    pub(crate) fn get_by(&self, key: KeyHash) -> Option<Arc<Entry<D>>> {
        let (id, _) = self.lookups.get(&key)?;
        self.get(id)
    }

    /// Adds a lookup entry to a session that is here.
    pub(crate) fn remember(&self, key: KeyHash, entry: &Entry<D>) {
        self.lookups.insert(key, (entry.head().id, entry.lifetime));
    }

    /// Keeps a session, unless a newer or fuller one is here already; hands out what is kept, or
    /// nothing if the gate refuses it.
    ///
    /// The gate is asked *after* the insert, and readers see the entry only then: a floor that
    /// was raised in between either fails the gate here, or removes the entry afterwards.
    pub(crate) fn insert(
        &self,
        entry: Arc<Entry<D>>,
        gate: impl Fn(&Head) -> bool,
    ) -> Option<Arc<Entry<D>>> {
        let id = entry.head().id;
        let kept = self.sessions.compute(id, |kept| match kept {
            Some(kept) if kept.value().outranks(&entry) && gate(kept.value().head()) => Op::Nop,
            _ => Op::Put(Arc::clone(&entry)),
        });
        let kept = match kept {
            CompResult::Unchanged(kept) => kept.into_value(),
            _ => entry,
        };
        for key in kept.head().foreign_keys() {
            self.remember(key, &kept);
        }
        if gate(kept.head()) {
            kept.admitted.store(true, Ordering::Release);
            Some(kept)
        } else {
            self.remove_below(id, Version::DELETED);
            None
        }
    }

    /// Drops what is older than `version`.
    pub(crate) fn remove_below(&self, id: SessionId, version: Version) {
        // Read past the generation and the admission: what is being inserted goes too.
        self.sessions.compute(id, |kept| match kept {
            Some(kept) if kept.value().head().version < version => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Drops everything, at once: entries of earlier generations are misses from here on.
    pub(crate) fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.sessions.clear();
        self.lookups.invalidate_all();
        self.refused.invalidate_all();
    }

    /// Entries and bytes held, after moka has done its pending work.
    pub(crate) fn size(&self) -> (u64, u64) {
        let sessions = self.sessions.settled();
        self.lookups.run_pending_tasks();
        self.refused.run_pending_tasks();
        (
            sessions.entry_count(),
            sessions.weighted_size() + self.lookups.weighted_size() + self.refused.weighted_size(),
        )
    }
}

/// Each entry lives as long as it says itself.
struct OwnLifetime;

impl<D> Expiry<SessionId, Arc<Entry<D>>> for OwnLifetime {
    fn expire_after_create(
        &self,
        _: &SessionId,
        entry: &Arc<Entry<D>>,
        _: Instant,
    ) -> Option<Duration> {
        Some(entry.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &SessionId,
        entry: &Arc<Entry<D>>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime)
    }
}

impl Expiry<KeyHash, (SessionId, Duration)> for OwnLifetime {
    fn expire_after_create(
        &self,
        _: &KeyHash,
        lookup: &(SessionId, Duration),
        _: Instant,
    ) -> Option<Duration> {
        Some(lookup.1)
    }

    fn expire_after_update(
        &self,
        _: &KeyHash,
        lookup: &(SessionId, Duration),
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(lookup.1)
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use session_core::{Device, Timestamp};

    use super::*;
    use crate::clock::Clock;

    fn entry(id: SessionId, version: i64, body: Option<&str>) -> Arc<Entry<String>> {
        let now = Clock::system().now();
        let head = Head {
            version: Version::new(version),
            ..Head::new(id, now.wall, now.wall + Duration::from_secs(600))
        };
        let body = body.map(|data| Body {
            device: Device::default(),
            created_at: Timestamp::from_unix_millis(0),
            data: Ok(data.to_owned()),
        });
        let data_len = 100;
        let record = Record { head, body };
        Arc::new(Entry::warm(
            record,
            data_len,
            now,
            Generation(0),
            &HotConfig::default(),
        ))
    }

    fn hot() -> Hot<String> {
        Hot::new(&HotConfig::default())
    }

    #[test]
    fn it_is_due_shortly_before_its_end_the_more_so_the_longer_a_load_takes() {
        let (clock, load) = (Clock::manual(), Duration::from_millis(10));
        let ttl = Duration::from_secs(60);
        let config = HotConfig {
            ttl,
            ..HotConfig::default()
        };
        let entry = |lives: Duration| {
            let now = clock.now();
            let head = Head::new(SessionId::random(), now.wall, now.wall + lives);
            let record: Record<()> = Record { head, body: None };
            Entry::warm(record, 0, now, Generation(0), &config)
        };
        let (long, short) = (entry(2 * ttl), entry(ttl / 2));
        let due = |entry: &Entry<()>, load| {
            let now = clock.now().moment;
            (0..10_000).filter(|_| entry.is_due(now, load)).count()
        };
        assert_eq!(due(&long, load), 0);
        clock.advance(ttl - 2 * load);
        // One in e² of them.
        assert!(
            (1000..1800).contains(&due(&long, load)),
            "{}",
            due(&long, load)
        );
        assert!(due(&long, 10 * load) > 7000);
        clock.advance(2 * load);
        assert_eq!(due(&long, load), 10_000);
        // One that is over then cannot be renewed.
        assert_eq!(due(&short, load), 0);
    }

    #[test]
    fn a_hit_hands_out_the_very_entry_that_was_kept() {
        let hot = hot();
        let entry = entry(SessionId::random(), 1, None);
        hot.insert(Arc::clone(&entry), |_| true);
        let hit = hot.get(entry.head().id).unwrap();
        assert!(Arc::ptr_eq(&hit, &entry));
    }

    #[test]
    fn the_later_version_stays_and_of_one_version_the_fuller() {
        let hot = hot();
        let id = SessionId::random();
        let kept = |version, body| {
            hot.insert(entry(id, version, body), |_| true);
            let kept = hot.get(id).unwrap();
            (kept.head().version.get(), kept.body().is_some())
        };
        assert_eq!(kept(2, None), (2, false));
        assert_eq!(kept(1, Some("old")), (2, false));
        assert_eq!(kept(2, Some("same")), (2, true));
        assert_eq!(kept(2, None), (2, true));
        assert_eq!(kept(3, None), (3, false));
    }

    #[test]
    fn what_the_gate_refuses_after_the_insert_is_not_there() {
        let hot = hot();
        let entry = entry(SessionId::random(), 1, None);
        assert!(hot.insert(Arc::clone(&entry), |_| false).is_none());
        assert!(hot.get(entry.head().id).is_none());
    }

    #[test]
    fn an_entry_is_not_seen_before_the_gate_has_admitted_it() {
        let hot = hot();
        let entry = entry(SessionId::random(), 1, None);
        let id = entry.head().id;
        let admitted = hot.insert(entry, |_| {
            assert!(hot.get(id).is_none(), "nobody sees it yet");
            true
        });
        assert!(admitted.is_some() && hot.get(id).is_some());
    }

    #[test]
    fn a_floor_raised_during_the_insert_wins() {
        let hot = hot();
        let entry = entry(SessionId::random(), 1, None);
        let id = entry.head().id;
        // The gate has said yes when the floor is raised.
        hot.insert(entry, |_| {
            hot.remove_below(id, Version::new(2));
            true
        });
        assert!(hot.get(id).is_none());
    }

    #[test]
    fn clear_empties_at_once_even_for_what_is_being_inserted() {
        let hot = hot();
        let (early, late) = (SessionId::random(), SessionId::random());
        hot.insert(entry(early, 1, None), |_| true);
        hot.insert(entry(late, 1, None), |_| {
            hot.clear();
            true
        });
        assert!(hot.get(early).is_none());
        assert!(hot.get(late).is_none());
    }

    #[test]
    fn what_was_asked_for_before_a_clear_is_not_seen_however_late_it_comes() {
        let hot = hot();
        let (lost, id) = (
            entry(SessionId::random(), 2, Some("lost")),
            SessionId::random(),
        );
        hot.clear();
        hot.insert(Arc::clone(&lost), |_| true);
        assert!(hot.get(lost.head().id).is_none());
        // Nor does it keep out what was asked for later.
        hot.insert(entry(id, 2, Some("lost")), |_| true);
        let mut later = Arc::into_inner(entry(id, 1, None)).unwrap();
        later.generation = hot.generation();
        hot.insert(Arc::new(later), |_| true);
        assert_eq!(hot.get(id).unwrap().head().version, Version::new(1));
    }

    #[test]
    fn the_capacity_in_bytes_is_kept() {
        let capacity = ByteSize::kib(64);
        let hot = Hot::new(&HotConfig {
            capacity,
            ..HotConfig::default()
        });
        for _ in 0..1000 {
            hot.insert(entry(SessionId::random(), 1, Some("data")), |_| true);
        }
        let (entries, bytes) = hot.size();
        assert!(bytes <= capacity.as_u64(), "{bytes}");
        assert!(entries > 50, "{entries}");
    }

    #[test]
    fn no_entry_outlives_its_session() {
        let now = Clock::system().now();
        let mut head = entry(SessionId::random(), 1, None).head().clone();
        head.expires_at = now.wall + Duration::from_secs(5);
        let record = Record::<String> { head, body: None };
        let entry = Entry::warm(record, 0, now, Generation(0), &HotConfig::default());
        assert_eq!(entry.lifetime, Duration::from_secs(5));
    }
}
