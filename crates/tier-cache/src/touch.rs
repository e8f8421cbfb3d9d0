//! Notes when sessions were last seen, behind the requests' backs: in batches, and for each session
//! at most once in `session.touch_interval`, however many requests and nodes there are. Those of them
//! that would not be hot any more when their use is noted again are loaded anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use session_core::{SessionId, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::data::SessionData;
use crate::hot::Entry;
use crate::tiers::Shared;

/// Sessions that wait to be noted; beyond it a use is not noted, and the next one is.
const WAITING: usize = 16_384;
/// Of them, in one statement.
const BATCH: usize = 1000;
/// From a use to its note, at most, while the database answers.
const DELAY: Duration = Duration::from_secs(1);

/// How late a use may be noted, so that an idle time can allow for it.
pub(crate) fn lateness(interval: Duration) -> Duration {
    // One more delay for the statement itself.
    interval.saturating_add(2 * DELAY)
}

/// A session, and when it was used.
pub(crate) type Touch = (SessionId, Timestamp);

/// Where uses are told.
pub(crate) fn channel() -> (mpsc::Sender<Touch>, mpsc::Receiver<Touch>) {
    mpsc::channel(WAITING)
}

impl<D: SessionData> Shared<D> {
    /// Notes a use of a session. Cheap: it is told at most once in an interval.
    pub(crate) fn touch(&self, entry: &Entry<D>, now: Now) {
        if entry.touch(now.wall, self.config.session.touch_interval)
            && self.touches.try_send((entry.head().id, now.wall)).is_err()
        {
            entry.touch_again();
            self.metrics.meter.touches_dropped().increment(1);
        }
    }
}

/// Writes down what is told, until `stop`; then what is left.
pub(crate) async fn run<D: SessionData>(
    shared: Arc<Shared<D>>,
    mut told: mpsc::Receiver<Touch>,
    stop: CancellationToken,
) {
    let mut seen = HashMap::new();
    let mut ticks = interval(DELAY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            touch = told.recv(), if seen.len() < WAITING => match touch {
                Some(touch) => take(&mut seen, touch),
                None => break,
            },
            _ = ticks.tick() => note(&shared, &mut seen).await,
        }
    }
    while let Ok(touch) = told.try_recv() {
        take(&mut seen, touch);
    }
    note(&shared, &mut seen).await;
}

fn take(seen: &mut HashMap<SessionId, Timestamp>, (session, at): Touch) {
    let latest = seen.entry(session).or_insert(at);
    *latest = at.max(*latest);
}

/// What cannot be noted stays for the next time.
async fn note<D: SessionData>(shared: &Arc<Shared<D>>, seen: &mut HashMap<SessionId, Timestamp>) {
    let interval = shared.config.session.touch_interval;
    while !seen.is_empty() {
        let batch: Vec<Touch> = seen
            .iter()
            .take(BATCH)
            .map(|(&session, &at)| (session, at))
            .collect();
        match shared.store.touch(batch.clone(), interval).await {
            Ok(noted) => shared.metrics.meter.touches().increment(noted),
            Err(error) => {
                tracing::debug!(%error, "when sessions were last seen is noted later");
                return;
            }
        }
        for (session, _) in batch {
            seen.remove(&session);
            shared.renew_in_use(session, lateness(interval));
        }
    }
}
