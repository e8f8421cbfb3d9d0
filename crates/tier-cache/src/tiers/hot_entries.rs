//! Entries of the hot tier that the fence lets this node serve, and loads that renew them in time.

use std::sync::Arc;
use std::time::Duration;

use session_core::{Key, SessionId, WrittenToken};

use super::Shared;
use super::load::From;
use crate::clock::Now;
use crate::data::SessionData;
use crate::hot::{Entry, Hot};

impl<D: SessionData> Shared<D> {
    /// Returns a hot entry that may be served, and the instant at which that was so. The order
    /// of the three readings matters: see [`Fence::trusted_until`](crate::fence::Fence).
    pub(super) fn hot_entry(&self, key: Key) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_entry_until(key, Duration::ZERO)
    }

    /// Like [`hot_entry`](Self::hot_entry), but does not count as a use of the entry: for a second look.
    pub(super) fn hot_entry_after_all(&self, key: Key) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(Duration::ZERO, |hot| match key {
            Key::Id(id) => hot.peek(id),
            Key::AccessJti(hash) | Key::Refresh(hash) => hot.get_by(hash),
        })
    }

    /// Like [`hot_entry`](Self::hot_entry), by a token that this node accepted before.
    #[inline]
    pub(super) fn known_entry(&self, token: WrittenToken<'_>) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(Duration::ZERO, |hot| hot.get_known(token))
    }

    /// Like [`hot_entry`](Self::hot_entry), as if the fence's trust lasted longer by `later`. Returns
    /// `None` where the trust was revoked and has not merely expired.
    pub(super) fn hot_entry_until(
        &self,
        key: Key,
        later: Duration,
    ) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(later, |hot| match key {
            Key::Id(id) => hot.get(id),
            Key::AccessJti(hash) | Key::Refresh(hash) => hot.get_by(hash),
        })
    }

    /// Like [`hot_entry_until`](Self::hot_entry_until), with another way to ask the hot tier.
    #[inline]
    fn hot_until(
        &self,
        later: Duration,
        get: impl FnOnce(&Hot<D>) -> Option<Arc<Entry<D>>>,
    ) -> Option<(Arc<Entry<D>>, Now)> {
        let trusted_until = self.fence.trusted_until() + later;
        let entry = get(&self.hot)?;
        let now = self.clock.now();
        (now.moment < trusted_until.min(entry.hot_until())).then_some((entry, now))
    }

    /// Starts a background load of a session shortly before it would leave the hot tier. The longer
    /// loads take, the earlier; and at random, so that not every request does so at once (XFetch:
    /// Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention, 2015).
    pub(super) fn renew(self: &Arc<Self>, entry: &Entry<D>, now: Now) {
        if entry.is_due(now.moment, self.load_took()) {
            self.fetch(entry.head().id);
        }
    }

    /// Starts a background load of a session that was used and would leave the hot tier within `time`.
    /// The callers do so for many sessions at once, so few statements read them.
    pub(crate) fn renew_in_use(self: &Arc<Self>, id: SessionId, time: Duration) {
        if let Some((entry, now)) = self.hot_entry(Key::Id(id))
            && entry.ends_by(now.moment + time)
        {
            self.fetch(id);
        }
    }

    /// Starts a background load of a session from the database. Does nothing while half of all loads
    /// that may run do, so that requests have room, and on a node that is stopped.
    pub(super) fn fetch(self: &Arc<Self>, id: SessionId) {
        if self.loads.has_room() && !self.stop.is_cancelled() {
            drop(self.detached_load(Key::Id(id), From::Cold));
        }
    }
}
