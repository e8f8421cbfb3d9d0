//! What this instance saw happen to each user's sessions, for that user to look at.
//!
//! In memory, and of this instance alone: the log has it all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tower_session::{Event, Timestamp, UserId};

/// Events kept of each user.
const EACH: usize = 50;
/// Users of whom events are kept, those of the latest events.
const USERS: usize = 10_000;

/// The events of users, bounded in both ways. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    since: Timestamp,
    users: HashMap<UserId, Log>,
    /// Who is forgotten first: each user by the number of the latest event.
    order: BTreeMap<u64, UserId>,
    /// Events kept so far, forgotten ones too.
    count: u64,
    missed: u64,
}

#[derive(Debug, Default)]
struct Log {
    latest: u64,
    events: VecDeque<Seen>,
}

/// An event, and when this instance saw it.
#[derive(Clone, Debug, Serialize)]
struct Seen {
    at: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// The latest events of a user, as that user is told of them.
#[derive(Debug, Serialize)]
pub(crate) struct Recent {
    /// When this instance began to watch.
    since: Timestamp,
    /// How many events of any user went by unseen since then.
    missed: u64,
    /// The latest first.
    events: Vec<Seen>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Kept {
            since: now(),
            users: HashMap::new(),
            order: BTreeMap::new(),
            count: 0,
            missed: 0,
        })))
    }

    /// Keeps the events as they come, until there are no more.
    pub(crate) async fn record(self, events: impl Stream<Item = Event>) {
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            self.kept().add(now(), event);
        }
    }

    pub(crate) fn recent(&self, user: UserId) -> Recent {
        let kept = self.kept();
        let events = kept.users.get(&user).map(|log| &log.events);
        Recent {
            since: kept.since,
            missed: kept.missed,
            events: events.into_iter().flatten().rev().cloned().collect(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whatever panicked, what is kept is only for looking at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, at: Timestamp, event: Event) {
        if let Event::Missed { count } = event {
            self.missed += count;
            tracing::warn!(count, "more events than could be kept up with");
            return;
        }
        let Some(user) = whose(&event) else {
            return;
        };
        self.count += 1;
        let log = self.users.entry(user).or_default();
        self.order.remove(&log.latest);
        self.order.insert(self.count, user);
        log.latest = self.count;
        if log.events.len() == EACH {
            log.events.pop_front();
        }
        log.events.push_back(Seen { at, event });
        if self.users.len() > USERS
            && let Some((_, forgotten)) = self.order.pop_first()
        {
            self.users.remove(&forgotten);
        }
    }
}

/// The user that an event is told to. What was refused names no user: nobody knows who asked.
fn whose(event: &Event) -> Option<UserId> {
    match event {
        Event::Created { user, .. }
        | Event::Rotated { user, .. }
        | Event::Refreshed { user, .. }
        | Event::RefreshReplayed { user, .. }
        | Event::Revoked { user, .. }
        | Event::ReuseDetected { user, .. } => *user,
        _ => None,
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;
    use tower_session::SessionId;

    use super::*;

    fn created(user: i64) -> Event {
        Event::Created {
            session: SessionId::random(),
            user: Some(user.into()),
        }
    }

    fn count(activity: &Activity, user: i64) -> usize {
        activity.recent(user.into()).events.len()
    }

    #[tokio::test]
    async fn a_user_who_does_much_pushes_out_only_own_events() {
        let activity = Activity::new();
        let last = created(1);
        let many = (0..EACH)
            .map(|_| created(1))
            .chain([created(2), last.clone()]);
        activity.clone().record(iter(many)).await;
        assert_eq!(count(&activity, 1), EACH);
        assert_eq!(count(&activity, 2), 1);
        assert_eq!(count(&activity, 3), 0);
        let latest = &activity.recent(1.into()).events[0].event;
        assert_eq!(format!("{latest:?}"), format!("{last:?}"));
    }

    #[tokio::test]
    async fn who_was_heard_of_least_recently_is_forgotten() {
        let activity = Activity::new();
        let most = USERS as i64;
        let events = (0..most).chain([0, most]).map(created);
        activity.clone().record(iter(events)).await;
        assert_eq!(count(&activity, 0), 2);
        assert_eq!(count(&activity, 1), 0);
        assert_eq!(count(&activity, most), 1);
        let kept = activity.kept();
        assert_eq!((kept.users.len(), kept.order.len()), (USERS, USERS));
    }

    #[tokio::test]
    async fn what_was_missed_is_counted() {
        let activity = Activity::new();
        let missed = [2, 3].map(|count| Event::Missed { count });
        activity.clone().record(iter(missed)).await;
        assert_eq!(activity.recent(1.into()).missed, 5);
    }
}
