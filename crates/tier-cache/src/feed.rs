//! The feed: each node asks the database what changed, raises its floors, and may trust its
//! caches for the staleness bound from the moment it asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use session_core::{Lineage, Mark, SessionId, Version};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Moment;
use crate::cold::{Changed, Changes};
use crate::data::SessionData;
use crate::error::StoreError;
use crate::tiers::Shared;

/// From the end of a poll to the next that the store causes, however much it tells.
const GAP: Duration = Duration::from_millis(20);

/// While they cannot be forgotten a node remembers so many times `fence.max_floors`, before it would
/// rather be blind.
const MORE: u32 = 16;

/// How many of the lineages that it followed a node remembers.
const LEFT: usize = 64;

/// How often a node starts over in one poll, before it tries again at the next.
const STARTS: u32 = 3;

pub(crate) struct Feed<D: SessionData> {
    shared: Arc<Shared<D>>,
    /// Every change numbered below this is known here.
    cursor: Mark,
    /// What the log was last told.
    trusting: bool,
    /// The lineage of commits that were lost, until another is begun. No answer is believed
    /// before that: what Redis holds of it would be believed again.
    lost: Option<Lineage>,
    /// Lineages that this node followed before, the last ones last. None of them is followed again: where
    /// one comes back, the database was swapped for another and swapped back, and Redis may hold what
    /// was read from the other one under its name.
    left: VecDeque<Lineage>,
    /// Why the last poll failed, if it did.
    failure: Option<StoreError>,
    /// The last try of a load, which may still be under way.
    probe: Option<JoinHandle<()>>,
}

impl<D: SessionData> Feed<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self {
            shared,
            cursor: Mark::ZERO,
            trusting: true,
            lost: None,
            left: VecDeque::new(),
            failure: None,
            probe: None,
        }
    }

    /// Polls every `poll_interval`, and when the store tells of changes, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let period = self.shared.config.fence.poll_interval;
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = async {
                // What is told until then is one.
                sleep(GAP).await;
                self.shared.told.notified().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                () = told => ticks.reset(),
            }
            self.poll().await;
        }
    }

    /// Asks once. A failure leaves trust as it was: it ends by itself.
    pub(crate) async fn poll(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.clock.calibrate();
        let learned = self.ask().await;
        // A database that answers, and does not vouch for its history, can still be asked for sessions.
        let failure = learned.as_ref().err();
        let answered = failure.is_none_or(|error| !error.is_unavailable());
        shared.heard.store(answered, Ordering::Relaxed);
        let doubted = answered && learned.is_err();
        shared.doubted.store(doubted, Ordering::Relaxed);
        match learned {
            Ok(asked) => {
                let bound = shared.config.fence.staleness_bound;
                shared.fence.trust_until(asked + bound);
                shared.polled.store(asked.nanos(), Ordering::Relaxed);
                self.failure = None;
                self.probe_loads();
            }
            Err(error) => {
                shared.metrics.polls_failed.increment(1);
                tracing::debug!(%error, "the feed of changes failed");
                self.failure = Some(error);
            }
        }
        self.report();
        shared.poll_ended.notify_waiters();
    }

    /// Tries a load where the last one failed: nobody else may, since no requests are sent to a node that
    /// says that it is not ready. The feed's own answer does not show that loads succeed.
    fn probe_loads(&mut self) {
        let loader = &self.shared.cold_loader;
        if loader.succeed() {
            return loader.circuit().answered();
        }
        if self.probe.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = Arc::clone(&self.shared);
            let probe = async move { shared.cold_loader.probe().await };
            self.probe = Some(self.shared.tasks.spawn(probe));
        }
    }

    /// Returns when the question was sent that led to what is known now.
    async fn ask(&mut self) -> Result<Moment, StoreError> {
        let shared = Arc::clone(&self.shared);
        let floors = u32::try_from(shared.config.fence.max_floors).unwrap_or(u32::MAX);
        let mut limit = floors;
        let mut starts = STARTS;
        loop {
            if let Some(lineage) = self.lost {
                shared.store.renew_lineage(lineage).await?;
                self.lost = None;
            }
            // Taken before the question is sent: the answer is a snapshot no older than this.
            let asked = shared.clock.now().moment;
            let seen = shared.fence.newest();
            let changes = shared.store.changes(self.cursor, limit).await?;
            let more = limit < floors.saturating_mul(MORE);
            if changes.moved.is_none() && changes.complete_since > changes.up_to && more {
                // As long as a transaction is open anywhere on the server, all that has changed since
                // it began is told at each poll, and must be.
                limit = limit.saturating_mul(2);
                continue;
            }
            let moved = match &changes.moved {
                Some(why) => Some(&**why),
                None if changes.up_to < seen => Some("its marks lie below one that it gave out"),
                None if self.left.contains(&changes.lineage) => {
                    Some("it was swapped for another database, and swapped back")
                }
                None => None,
            };
            if moved.is_none() && (self.cursor == Mark::ZERO || self.follows(changes.lineage)) {
                self.learn(&changes)?;
                return Ok(asked);
            }
            // Restored from a backup, failed over to a copy, or recovered from a crash: the last commits
            // may be lost. What is changed from then on is numbered as what was lost was.
            tracing::warn!(
                why = moved.unwrap_or("another node noticed"),
                "the database may lack what was committed before: nothing that was cached is served any more"
            );
            self.lost = moved.is_some().then_some(changes.lineage);
            self.start_over();
            if starts == 0 {
                return Err(StoreError::transient(
                    "changes",
                    "the database moved on at each try, as in the middle of a restore",
                ));
            }
            starts -= 1;
        }
    }

    fn follows(&self, lineage: Lineage) -> bool {
        self.shared.fence.lineage() == Some(lineage)
    }

    fn start_over(&mut self) {
        if let Some(left) = self.shared.fence.lineage() {
            if self.left.len() == LEFT {
                self.left.pop_front();
            }
            self.left.push_back(left);
        }
        self.shared.fence.distrust();
        self.shared.hot.clear();
        self.shared.fence.start_over();
        self.cursor = Mark::ZERO;
    }

    /// Raises floors for what changed.
    fn learn(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let shared = &self.shared;
        if changes.complete_since > changes.up_to {
            return Err(StoreError::transient(
                "changes",
                "a transaction is still open since whose beginning far more sessions changed than fence.max_floors",
            ));
        }
        shared.fence.follow(changes.lineage);
        if changes.complete_since > self.cursor || self.cursor == Mark::ZERO {
            // Something in between is not known and never will be: start over from there. At the
            // first poll too: a load that began before the marks went back may have landed since.
            shared.fence.restart(changes.complete_since);
            shared.hot.clear();
        }
        for changed in &changes.sessions {
            shared.raise(changed.id, changed.version, changed.mark);
        }
        self.cursor = changes.up_to;
        shared.fence.saw(changes.lineage, changes.up_to);
        let keep = shared.config.fence.max_floors;
        if shared.fence.forget_beyond(keep, changes.up_to) {
            shared.hot.forget_refused();
        }
        Ok(())
    }

    fn report(&mut self) {
        let shared = &self.shared;
        let now = shared.clock.now().moment;
        let trusting = shared.fence.trusts(now);
        if trusting != self.trusting {
            self.trusting = trusting;
            if trusting {
                tracing::info!("the feed of changes is back: caches are served again");
            } else {
                let reason = self.failure.as_ref().map(tracing::field::display);
                tracing::warn!(
                    reason,
                    "the feed of changes fails: nothing cached is served, each session is read from the database"
                );
            }
        }
        shared.metrics.trusting.set(f64::from(u8::from(trusting)));
        shared.metrics.floors.set(shared.fence.floors() as f64);
        if let Some(lag) = shared.feed_lag(now) {
            shared.metrics.feed_lag.set(lag.as_secs_f64());
        }
        let (entries, bytes) = shared.hot.size();
        shared.metrics.meter.cached("hot", entries, bytes);
    }
}

impl<D: SessionData> Shared<D> {
    /// From now on only this version or a newer one is served here. The floor goes first: a
    /// load that lands in between is refused by it.
    pub(crate) fn raise(&self, id: SessionId, version: Version, mark: Mark) {
        self.fence.raise(id, version, mark);
        self.hot.remove_below(id, version);
    }

    /// How long ago the last successful poll began; `None` before the first.
    pub(crate) fn feed_lag(&self, now: Moment) -> Option<Duration> {
        let polled = Moment::from_nanos(self.polled.load(Ordering::Relaxed));
        (polled > Moment::LONG_AGO).then(|| now.since(polled))
    }

    /// Has the feed ask at once when the store tells of changes; nothing rests on it.
    pub(crate) async fn hear_store(self: Arc<Self>, stop: CancellationToken) {
        if self.config.cold.notify {
            let changed = || self.told.notify_one();
            stop.run_until_cancelled(self.store.listen(&changed)).await;
        }
    }

    /// What another node tells of its own writes, within milliseconds; nothing rests on it.
    pub(crate) async fn listen(self: Arc<Self>, stop: CancellationToken) {
        if let Some(warm) = &self.warm {
            // Floors are forgotten at polls. While those fail no more are taken in than the
            // next one can tell; what is left out it tells too.
            let most = self.config.fence.max_floors.saturating_mul(2);
            let heard = |lineage, push: Changed| {
                let follows = self.fence.lineage() == Some(lineage);
                match follows && self.fence.floors() < most {
                    true => self.raise(push.id, push.version, push.mark),
                    false => self.hot.remove_below(push.id, push.version),
                }
            };
            warm.listen(heard, stop).await;
        }
    }
}
