//! The fence: what this node may still serve from a cache, and until when.
//!
//! A pure state with the clock passed in and no I/O. The feed raises floors and extends trust;
//! every record, from whichever tier, passes the one gate [`Fence::admits`].

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

use session_core::{Head, Lineage, Mark, SessionId, Version};

use crate::clock::Moment;
use crate::sync::{AtomicI64, RwLock};

/// A node's floors, the mark since which they are complete, and the instant until which the
/// node may trust any cache.
#[derive(Debug)]
pub(crate) struct Fence {
    floors: RwLock<Floors>,
    /// Nanoseconds of a [`Moment`].
    trusted_until: AtomicI64,
    /// Lets everything through, to show that whoever checks the promise notices.
    #[cfg(feature = "test-hooks")]
    pub(crate) gate_is_open: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Floors {
    /// What the marks and versions are of; unknown until the first poll succeeds.
    lineage: Option<Lineage>,
    /// The latest snapshot that the database is known to have given out.
    newest: Mark,
    /// Every change numbered at or above this, up to the last poll, is in `by_session`.
    since: Mark,
    by_session: HashMap<SessionId, Floor>,
}

/// The lowest version of a session that may still be served.
#[derive(Clone, Copy, Debug)]
struct Floor {
    version: Version,
    /// The number of the last change of the session that is known.
    mark: Mark,
}

impl Fence {
    /// A fence that trusts nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            floors: RwLock::new(Floors {
                lineage: None,
                newest: Mark::ZERO,
                since: Mark::ZERO,
                by_session: HashMap::new(),
            }),
            trusted_until: AtomicI64::new(Moment::LONG_AGO.nanos()),
            #[cfg(feature = "test-hooks")]
            gate_is_open: Default::default(),
        }
    }

    /// The one gate: whether a record may be served, for all that this node knows.
    ///
    /// Its version must reach the session's floor, and it must contain every change older than
    /// the floors that this node keeps.
    pub(crate) fn admits(&self, head: &Head) -> bool {
        self.admits_at(head.id, head.version, head.as_of)
    }

    /// The same for a record of which only this much is known: a tombstone.
    pub(crate) fn admits_at(&self, id: SessionId, version: Version, as_of: Mark) -> bool {
        #[cfg(feature = "test-hooks")]
        if self.gate_is_open.load(Ordering::Relaxed) {
            return true;
        }
        let floors = self.read();
        as_of >= floors.since
            && floors
                .by_session
                .get(&id)
                .is_none_or(|floor| version >= floor.version)
    }

    /// Whether a row that the gate refuses was read by a snapshot that contains every change of its session
    /// that is known here. Then the row is what became of the session after all of them: it was put back
    /// under the id of a deleted one, or the floor is of what the database has lost.
    ///
    /// For rows of the database itself alone, and for those who wait for them: what a cache says of its
    /// marks may be of a lost history too.
    pub(crate) fn is_overtaken_by(&self, head: &Head) -> bool {
        let floors = self.read();
        let floor = floors.by_session.get(&head.id);
        head.as_of >= floors.since
            && floor.is_some_and(|floor| head.version < floor.version && head.as_of > floor.mark)
    }

    /// The instant until which caches may be trusted.
    ///
    /// To serve from a cache, read this first, then the cache, then the clock. Whatever the cache
    /// gives then has survived all floors of the poll that granted this trust, and no time spent
    /// in between, by a thread or by the whole machine, is left out.
    pub(crate) fn trusted_until(&self) -> Moment {
        Moment::from_nanos(self.trusted_until.load(Ordering::Acquire))
    }

    /// Whether caches may be trusted at `now`.
    pub(crate) fn trusts(&self, now: Moment) -> bool {
        now < self.trusted_until()
    }

    /// Trusts caches until `until`; never shortens trust.
    pub(crate) fn trust_until(&self, until: Moment) {
        self.trusted_until
            .fetch_max(until.nanos(), Ordering::AcqRel);
    }

    /// Trusts no cache and follows no lineage from here on, until the next poll. Both before the
    /// hot tier is cleared: a load that is asked for after that finds no lineage, and so nothing in
    /// Redis, of which it could bring the old.
    pub(crate) fn distrust(&self) {
        self.trusted_until
            .store(Moment::LONG_AGO.nanos(), Ordering::Release);
        self.write().lineage = None;
    }

    /// Knows of no change nor lineage from here on: what was known speaks of a history that the
    /// database no longer has. Only after the hot tier was cleared: until then the floors keep out
    /// of it what requests may still be served that read the trust before it ended.
    pub(crate) fn start_over(&self) {
        self.distrust();
        let mut floors = self.write();
        floors.newest = Mark::ZERO;
        floors.since = Mark::ZERO;
        floors.by_session.clear();
    }

    /// What the floors and marks from here on are of; set by the first poll after a start.
    pub(crate) fn follow(&self, lineage: Lineage) {
        self.write().lineage = Some(lineage);
    }

    /// Notes the mark of a snapshot of the database itself. (A standby's may be ahead: there a
    /// commit can be seen before its session on the primary has ended it.)
    pub(crate) fn saw(&self, lineage: Lineage, mark: Mark) {
        let mut floors = self.write();
        if floors.lineage == Some(lineage) {
            floors.newest = floors.newest.max(mark);
        }
    }

    /// The latest mark seen so far, below which no later snapshot's can be.
    pub(crate) fn newest(&self) -> Mark {
        self.read().newest
    }

    /// The lineage that the fence speaks of.
    pub(crate) fn lineage(&self) -> Option<Lineage> {
        self.read().lineage
    }

    /// From now on only `version` or newer of this session is served. Returns whether that is
    /// news.
    pub(crate) fn raise(&self, id: SessionId, version: Version, mark: Mark) -> bool {
        let mut floors = self.write();
        if mark < floors.since {
            // Whatever lacks this change is older than `since`, and refused for that.
            return false;
        }
        let floor = floors.by_session.entry(id).or_insert(Floor {
            version: Version::new(i64::MIN),
            mark,
        });
        let news = version > floor.version;
        *floor = Floor {
            version: version.max(floor.version),
            mark: mark.max(floor.mark),
        };
        news
    }

    /// Whether a session is known to have changed since it was at `version`.
    pub(crate) fn is_past(&self, id: SessionId, version: Version) -> bool {
        let floors = self.read();
        floors
            .by_session
            .get(&id)
            .is_some_and(|floor| floor.version > version)
    }

    /// Forgets floors until at most `keep` are left, where that is safe. Returns whether it forgot any.
    ///
    /// Moving `since` forward only turns some old records into misses. It never passes
    /// `complete`, the mark up to which the last poll has told every change.
    pub(crate) fn forget_beyond(&self, keep: usize, complete: Mark) -> bool {
        let mut floors = self.write();
        let before = floors.by_session.len();
        if before <= keep {
            return false;
        }
        let mut marks: Vec<Mark> = floors.by_session.values().map(|floor| floor.mark).collect();
        // Down to half, so that this work is done once per `keep / 2` changes.
        let nth = marks.len() - keep / 2 - 1;
        let (_, cut, _) = marks.select_nth_unstable(nth);
        // Floors *at* the cut go too, hence the next mark.
        let since = Mark::new(cut.get().saturating_add(1)).min(complete);
        floors.move_since(since);
        floors.by_session.len() < before
    }

    /// Starts over: knows every change at or above `since`, and none before.
    pub(crate) fn restart(&self, since: Mark) {
        self.write().move_since(since);
    }

    /// How many floors are held.
    pub(crate) fn floors(&self) -> usize {
        self.read().by_session.len()
    }

    // A panic cannot leave the floors half-changed in a way that admits more: each step of each
    // method above only refuses more, so a poisoned lock is as good as a clean one.
    fn read(&self) -> RwLockReadGuard<'_, Floors> {
        self.floors.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Floors> {
        self.floors.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Floors {
    fn move_since(&mut self, since: Mark) {
        if since <= self.since {
            return;
        }
        // First refuse what is older, then forget what refused it one by one.
        self.since = since;
        self.by_session.retain(|_, floor| floor.mark >= since);
    }
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

mod gate;
#[cfg(test)]
mod promise;

pub use gate::{Admission, Gate};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SESSION: SessionId = SessionId::from_bytes([1; 16]);

    fn admits(fence: &Fence, version: i64, as_of: i64) -> bool {
        fence.admits_at(SESSION, Version::new(version), Mark::new(as_of))
    }

    fn raise(fence: &Fence, version: i64, mark: i64) -> bool {
        fence.raise(SESSION, Version::new(version), Mark::new(mark))
    }

    #[test]
    fn a_floor_keeps_out_what_is_older_and_is_never_lowered() {
        let fence = Fence::new();
        assert!(admits(&fence, 1, 0));
        assert!(raise(&fence, 3, 10));
        assert!(!admits(&fence, 2, 100));
        assert!(admits(&fence, 3, 0));
        assert!(!raise(&fence, 3, 10), "no news");
        assert!(!raise(&fence, 2, 11));
        assert!(!admits(&fence, 2, 100));
    }

    #[test]
    fn nothing_passes_a_deleted_sessions_floor() {
        let fence = Fence::new();
        fence.raise(SESSION, Version::DELETED, Mark::new(1));
        assert!(!admits(&fence, i64::MAX - 1, i64::MAX));
    }

    #[test]
    fn starting_over_refuses_every_record_from_before() {
        let fence = Fence::new();
        raise(&fence, 3, 10);
        fence.restart(Mark::new(11));
        assert_eq!(fence.floors(), 0);
        assert!(!admits(&fence, 9, 10));
        assert!(admits(&fence, 1, 11));
        // It only ever moves forward.
        fence.restart(Mark::new(5));
        assert!(!admits(&fence, 9, 10));
    }

    #[test]
    fn forgetting_turns_hits_into_misses_and_never_the_other_way_round() {
        let fence = Fence::new();
        for mark in 1..=100_i64 {
            let id = SessionId::from_bytes(mark.to_be_bytes().repeat(2).try_into().unwrap());
            fence.raise(id, Version::new(2), Mark::new(mark));
        }
        fence.forget_beyond(10, Mark::new(1000));
        assert!(fence.floors() <= 10 && fence.floors() > 0);
        for mark in 1..=100_i64 {
            let id = SessionId::from_bytes(mark.to_be_bytes().repeat(2).try_into().unwrap());
            // A record that lacks the change has a mark at or below the change's own.
            assert!(
                !fence.admits_at(id, Version::new(1), Mark::new(mark)),
                "{mark}"
            );
        }
        assert!(admits(&fence, 1, 101));
    }

    #[test]
    fn forgetting_stops_at_what_the_feed_has_told_completely() {
        let fence = Fence::new();
        for byte in 1..=9 {
            let id = SessionId::from_bytes([byte; 16]);
            fence.raise(id, Version::new(2), Mark::new(50 + i64::from(byte)));
        }
        fence.forget_beyond(2, Mark::new(50));
        assert_eq!(fence.floors(), 9);
        assert!(admits(&fence, 2, 50));
        assert!(!admits(&fence, 2, 49));
    }

    #[test]
    fn trust_and_lineage_go_first_and_the_floors_only_when_starting_over() {
        let fence = Fence::new();
        fence.follow(Lineage::new(7));
        raise(&fence, 3, 10);
        fence.trust_until(Moment::from_nanos(1000));
        fence.distrust();
        assert!(!fence.trusts(Moment::from_nanos(0)));
        assert_eq!(fence.lineage(), None);
        assert!(!admits(&fence, 2, 100), "the floors still stand");
        fence.start_over();
        assert!(admits(&fence, 2, 0));
    }

    #[test]
    fn trust_ends_by_itself_and_is_never_shortened() {
        let fence = Fence::new();
        let start = Moment::from_nanos(1000);
        assert!(!fence.trusts(start));
        let bound = Duration::from_nanos(50);
        fence.trust_until(start + bound);
        fence.trust_until(start);
        assert!(fence.trusts(Moment::from_nanos(1049)));
        assert!(!fence.trusts(Moment::from_nanos(1050)));
    }
}
