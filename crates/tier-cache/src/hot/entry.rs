//! A session as the hot tier holds it.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{self, Ordering};
use std::time::Duration;

use session_core::{Body, Device, Fingerprint, Head, Record, Standing, Stem, Timestamp};

use super::front::Front;
use super::{Generation, Hot};
use crate::clock::{Moment, Now};
use crate::cold::Row;
use crate::data::SessionData;
use crate::sync::{AtomicBool, AtomicU32};

/// A session as the hot tier holds it.
///
/// What a request looks at that knows its token is first, so that it lies in few lines of the
/// processor's caches.
#[repr(C)]
pub(crate) struct Entry<D> {
    /// The [`Fingerprint`] of the token that it was accepted for, by halves.
    known: [atomic::AtomicU64; 2],
    /// From here on it is not hot any more.
    hot_until: Moment,
    /// The generation in which it was asked for.
    pub(super) generation: Generation,
    /// Milliseconds from the head's `last_seen_at` to its last use, as far as this node knows; to the
    /// second.
    seen: atomic::AtomicU32,
    /// The same as far as the database knows, or is about to be told.
    noted: atomic::AtomicU32,
    /// Whether it could be hot for longer, if it were loaded anew: neither does it end then, nor was it
    /// refused.
    goes_on: bool,
    /// Whether the gate admitted it after it was inserted.
    pub(super) admitted: AtomicBool,
    /// How it stood when the database was read: a *no* that was so already then is final.
    stood: Option<Standing>,
    /// Uses in the window in which they are counted, for promotion.
    uses: atomic::AtomicU8,
    record: Record<D>,
    /// Bytes that the application's data took in the database.
    data_len: u32,
    /// When that window opened; at first, when the entry was made. In milliseconds before `hot_until`.
    opened: AtomicU32,
    /// Of the tier that it was made for.
    front: Arc<Front<D>>,
}

/// How often a use is noted: so that threads that use one session do not write to it all the time.
const GRAIN: Duration = Duration::from_secs(1);

/// An entry is as good as never due earlier before its end than so many times a load's duration.
const EARLIEST: u32 = 10;

impl<D> Entry<D> {
    /// A session that was just read from the database, by a question asked in `generation`.
    pub(crate) fn cold(row: Row, now: Now, generation: Generation, hot: &Hot<D>) -> Self
    where
        D: SessionData,
    {
        let data_len = row.body.data.len();
        let stood = row.head.standing(now.wall);
        let mut entry = Self::warm(row.read(), data_len, now, generation, hot);
        entry.stood = Some(stood);
        entry
    }

    /// A session from the warm tier.
    pub(crate) fn warm(
        record: Record<D>,
        data_len: usize,
        now: Now,
        generation: Generation,
        hot: &Hot<D>,
    ) -> Self {
        /// How long a refused session is remembered, which saves its client's retries a query.
        const REFUSED: Duration = Duration::from_secs(30);
        let lifetime = match record.head.standing(now.wall) {
            Standing::Valid => record.head.expires_at.since(now.wall).min(hot.ttl),
            Standing::Expired | Standing::Idle | Standing::Revoked => REFUSED.min(hot.ttl),
        };
        let goes_on = lifetime == hot.ttl && record.head.is_active;
        Self {
            known: Default::default(),
            record,
            data_len: u32::try_from(data_len).unwrap_or(u32::MAX),
            hot_until: now.moment + lifetime,
            goes_on,
            seen: atomic::AtomicU32::new(0),
            noted: atomic::AtomicU32::new(0),
            stood: None,
            generation,
            admitted: AtomicBool::new(false),
            opened: AtomicU32::new(whole_millis(lifetime)),
            uses: atomic::AtomicU8::new(1),
            front: Arc::clone(&hot.front),
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
        self.head().last_seen_at + millis(self.seen.load(Ordering::Relaxed))
    }

    /// How it stands, its use on this node counted.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        self.head().standing_if_seen(self.seen(), now)
    }

    /// Whether it is valid, and a use of it leaves nothing to do: one was noted a moment ago, and its
    /// end is far. What it says no to is looked at more closely: [how it
    /// stands](Self::standing), [whether its use is to be noted](Self::touch), [whether it is
    /// due](Self::is_due).
    #[inline]
    pub(crate) fn is_calm(&self, now: Now, load_micros: u32) -> bool {
        const GRAIN_MILLIS: i64 = GRAIN.as_millis() as i64;
        let head = self.head();
        let seen = i64::from(self.seen.load(Ordering::Relaxed));
        let (wall, first) = (now.wall.unix_millis(), head.last_seen_at.unix_millis());
        wall.saturating_sub(first) < seen + GRAIN_MILLIS
            && head.idle_ttl.is_none_or(|ttl| ttl >= GRAIN)
            && head.is_active
            && head.revoked_at.is_none()
            && now.wall < head.expires_at
            && now.moment.plus_micros(load_micros.saturating_mul(EARLIEST)) < self.hot_until
    }

    /// Notes a use. Says whether the database is to be told, which it is once in an `interval`.
    pub(crate) fn touch(&self, now: Timestamp, interval: Duration) -> bool {
        if now.since(self.seen()) < GRAIN {
            return false;
        }
        // Nothing stays hot for the 49 days that there is room for.
        let since = now.since(self.head().last_seen_at).as_millis();
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        self.seen.store(since, Ordering::Relaxed);
        let noted = self.noted.load(Ordering::Relaxed);
        millis(since.saturating_sub(noted)) >= interval
            && self
                .noted
                .compare_exchange(noted, since, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// From here on it is not hot any more.
    pub(crate) fn hot_until(&self) -> Moment {
        self.hot_until
    }

    /// Whether it is not hot any more at `moment`, though it could be.
    pub(crate) fn ends_by(&self, moment: Moment) -> bool {
        self.goes_on && self.hot_until <= moment
    }

    /// Whether it is to be loaded anew, if loads take so long. By chance, but for certain at its end.
    #[inline]
    pub(crate) fn is_due(&self, now: Moment, load: Duration) -> bool {
        self.ends_by(now + EARLIEST * load) && self.is_due_by_chance(now, load)
    }

    #[cold]
    fn is_due_by_chance(&self, now: Moment, load: Duration) -> bool {
        let early = load.mul_f64(-fastrand::f64().max(f64::MIN_POSITIVE).ln());
        self.ends_by(now + early)
    }

    /// The database was not told after all.
    pub(crate) fn touch_again(&self) {
        self.noted.store(0, Ordering::Relaxed);
    }

    /// Counts a use; says how many there were within `window`, 255 at most.
    pub(crate) fn used(&self, now: Moment, window: Duration) -> u8 {
        if now.since(self.opened()) > window {
            let opened = whole_millis(self.hot_until.since(now));
            self.opened.store(opened, Ordering::Relaxed);
            self.uses.store(1, Ordering::Relaxed);
            return 1;
        }
        let more = |uses: u8| Some(uses.saturating_add(1));
        let before = self
            .uses
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.unwrap_or_else(|uses| uses).saturating_add(1)
    }

    fn opened(&self) -> Moment {
        self.hot_until - millis(self.opened.load(Ordering::Relaxed))
    }

    /// Whether it was accepted for the token of this fingerprint.
    ///
    /// Two that are told at once may leave halves of each, which fit neither: then the token is read
    /// again. Both have the session's secret, and whatever else their halves may fit has it too.
    #[inline]
    pub(super) fn is_known_by(&self, token: Fingerprint) -> bool {
        let halves = self
            .known
            .each_ref()
            .map(|half| half.load(Ordering::Relaxed));
        Fingerprint::from_halves(halves) == token
    }

    /// Has the lines of memory on their way, all at once, that a request looks at next. One after the
    /// other each would be waited for, since reading the clock in between lets none go ahead.
    #[inline]
    pub(super) fn fetch(&self) {
        let head = self.head();
        black_box((head.expires_at, head.user.is_some(), self.body().is_some()));
    }

    fn was_known(&self) -> bool {
        let mut halves = self.known.iter();
        halves.any(|half| half.load(Ordering::Relaxed) != 0)
    }

    /// It was accepted for this token.
    pub(super) fn know_by(&self, token: Fingerprint) {
        for (place, half) in self.known.iter().zip(token.halves()) {
            place.store(half, Ordering::Relaxed);
        }
    }

    /// Whether it is the later truth, or the fuller record of the same; of one that is just made.
    pub(super) fn outranks(&self, other: &Self) -> bool {
        if self.generation < other.generation {
            // Perhaps of a history that the database no longer has.
            return false;
        }
        if self.hot_until <= other.opened() {
            return false;
        }
        let (mine, theirs) = (self.head().version, other.head().version);
        mine > theirs || (mine == theirs && self.body().is_some() && other.body().is_none())
    }

    /// Bytes, roughly: what moka keeps per entry, this struct, its strings and its data.
    pub(super) fn weight(&self) -> u32 {
        /// Measured per entry at a million entries.
        const MOKA: usize = 261;
        let user = self.record.head.user.as_ref();
        let strings = user.map_or(0, |user| user.email.len() + user.username.len());
        let device = self.body().and_then(|body| body.device.as_ref());
        let device = device.map_or(0, |device| {
            size_of::<Device>()
                + device.user_agent.as_ref().map_or(0, |s| s.len())
                + device.label.as_ref().map_or(0, |s| s.len())
        });
        let bytes = MOKA + size_of::<Self>() + strings + device + self.data_len as usize;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl<D> fmt::Debug for Entry<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.head().id)
            .field("version", &self.head().version)
            .finish_non_exhaustive()
    }
}

impl<D> Drop for Entry<D> {
    /// Its allocation is kept from being freed by the front's references.
    fn drop(&mut self) {
        if self.was_known() {
            self.front.let_go(Stem::of(self.head().id));
        }
    }
}

fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}
