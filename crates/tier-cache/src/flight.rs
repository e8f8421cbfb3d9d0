//! One load per key at a time: late-comers share it, and nobody's leaving fails it.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// A load that is under way; `None` if it panicked, if too many are under way, or the runtime is
/// going down.
pub(crate) type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

type Loads<K, V> = Mutex<HashMap<K, Flight<V>>>;

/// The loads under way, by key.
///
/// A load runs in a task of its own, so that a caller who goes away neither fails the others
/// nor stops the result from landing.
#[derive(Debug)]
pub(crate) struct Flights<K, V: Clone> {
    loads: Arc<Loads<K, V>>,
    /// How many may be under way: callers who go away leave theirs behind.
    most: usize,
    tasks: TaskTracker,
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(most: usize, tasks: TaskTracker) -> Self {
        Self {
            loads: Arc::default(),
            most,
            tasks,
        }
    }

    /// The result of the load of `key` that is under way, or of `load` started now; and whether
    /// it was under way, so that it may know less than one started now.
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut loads = lock(&self.loads);
        if let Some(under_way) = loads.get(&key) {
            return (under_way.clone(), true);
        }
        if loads.len() >= self.most {
            return (ready(None).boxed().shared(), false);
        }
        let (landed, landing) = oneshot::channel();
        let flight = landing.map(Result::ok).boxed().shared();
        loads.insert(key, flight.clone());
        // A runtime that is going down drops the task here and now, and its `Landing` locks.
        drop(loads);
        let landing = Landing {
            key,
            loads: Arc::clone(&self.loads),
        };
        let load = load();
        self.tasks.spawn(async move {
            let value = load.await;
            // Off the list first: who asks from here on gets a load of its own.
            drop(landing);
            let _ = landed.send(value);
        });
        (flight, false)
    }

    /// The load of `key`, if one is under way.
    pub(crate) fn under_way(&self, key: &K) -> Option<Flight<V>> {
        lock(&self.loads).get(key).cloned()
    }

    /// Whether fewer than half of those that may be under way are: room for what can wait.
    pub(crate) fn has_room(&self) -> bool {
        lock(&self.loads).len() < self.most.div_ceil(2)
    }

    /// The result of a load that began after this was called: one that is under way already is
    /// waited for and not used. All who wait for it share the next one.
    pub(crate) async fn run_fresh<F>(&self, key: K, load: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        if let Some(under_way) = self.under_way(&key) {
            under_way.await;
        }
        self.run(key, load).0.await
    }
}

/// Loads that are done by those who wait for them, one at a time per key: cheaper by a task and two
/// switches to it, for what may be left undone when all of them go away.
#[derive(Debug)]
pub(crate) struct Errands<K, V: Clone> {
    under_way: Arc<Mutex<UnderWay<K, V>>>,
}

#[derive(Debug)]
struct UnderWay<K, V: Clone> {
    errands: HashMap<K, Errand<V>>,
    begun: u64,
}

#[derive(Debug)]
struct Errand<V: Clone> {
    number: u64,
    /// Only those who wait for it keep it.
    load: WeakShared<BoxFuture<'static, Option<V>>>,
}

impl<K, V> Errands<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        let under_way = UnderWay {
            errands: HashMap::new(),
            begun: 0,
        };
        Self {
            under_way: Arc::new(Mutex::new(under_way)),
        }
    }

    /// The result of the load of `key` that others wait for, or of `load` begun now; and whether
    /// others began it.
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        let errand = under_way.errands.get(&key);
        if let Some(load) = errand.and_then(|errand| errand.load.upgrade()) {
            return (load, true);
        }
        under_way.begun += 1;
        let number = under_way.begun;
        let done = Done {
            key,
            number,
            under_way: Arc::clone(&self.under_way),
        };
        let load = AssertUnwindSafe(load()).catch_unwind();
        let load = async move {
            let value = load.await;
            // Off the list first: who asks from here on gets a load of its own.
            drop(done);
            value.ok()
        };
        let flight = load.boxed().shared();
        let load = flight.downgrade().expect("it was not polled yet");
        under_way.errands.insert(key, Errand { number, load });
        (flight, false)
    }
}

/// Takes an errand off the list when it is done, or everybody has gone away.
struct Done<K: Eq + Hash, V: Clone> {
    key: K,
    number: u64,
    under_way: Arc<Mutex<UnderWay<K, V>>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Done<K, V> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        // When it was left, another may have been begun already.
        let own = under_way.errands.get(&self.key);
        if own.is_some_and(|errand| errand.number == self.number) {
            under_way.errands.remove(&self.key);
        }
    }
}

/// Takes a load off the list when it ends, however it ends.
struct Landing<K: Eq + Hash, V: Clone> {
    key: K,
    loads: Arc<Loads<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.loads).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn flights() -> Flights<u8, u32> {
        Flights::new(2, TaskTracker::new())
    }

    #[tokio::test]
    async fn late_comers_share_the_load_and_the_next_one_is_new() {
        let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
        let load = || {
            let loads = Arc::clone(&loads);
            async move { loads.fetch_add(1, Ordering::SeqCst) + 1 }
        };
        let ((one, new), (two, joined)) = (flights.run(1, load), flights.run(1, load));
        assert!(!new && joined);
        assert_eq!((one.await, two.await), (Some(1), Some(1)));
        while !lock(&flights.loads).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.run(1, load).0.await, Some(2));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_fails_nobody_and_the_load_lands() {
        let (flights, landed) = (flights(), Arc::new(Notify::new()));
        let begun = flights.run(1, || {
            let landed = Arc::clone(&landed);
            async move {
                landed.notify_one();
                7
            }
        });
        let joined = flights.run(1, || async { unreachable!("it is under way") });
        drop(begun);
        assert_eq!(joined.0.await, Some(7));
        landed.notified().await;
    }

    #[tokio::test]
    async fn a_fresh_load_begins_after_it_was_asked_for_and_is_shared_too() {
        let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
        let gate = Arc::new(Notify::new());
        let load = || {
            let (loads, gate) = (Arc::clone(&loads), Arc::clone(&gate));
            async move {
                let number = loads.fetch_add(1, Ordering::SeqCst) + 1;
                gate.notified().await;
                number
            }
        };
        let early = flights.run(1, load).0;
        let (one, two) = (flights.run_fresh(1, load), flights.run_fresh(1, load));
        let release = async {
            for _ in 0..2 {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
        };
        let (early, one, two, ()) = tokio::join!(early, one, two, release);
        assert_eq!((early, one, two), (Some(1), Some(2), Some(2)));
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be_and_those_are_still_shared() {
        let flights = flights();
        let waits = || std::future::pending::<u32>();
        let (_one, _two) = (flights.run(1, waits), flights.run(2, waits));
        let refused = flights.run(3, || async { unreachable!("there is no room for it") });
        assert_eq!(refused.0.await, None);
        let (_, joined) = flights.run(1, || async { unreachable!("it is under way") });
        assert!(joined);
    }

    #[tokio::test]
    async fn there_is_room_for_what_can_wait_while_fewer_than_half_are_under_way() {
        let flights = flights();
        assert!(flights.has_room());
        let _one = flights.run(1, std::future::pending::<u32>);
        assert!(!flights.has_room());
    }

    #[tokio::test]
    async fn an_errand_is_shared_and_goes_on_when_the_one_who_began_it_goes_away() {
        let (errands, gate) = (Errands::new(), Arc::new(Notify::new()));
        let load = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                7
            }
        };
        let (mut begun, new) = errands.run(1, load);
        let (other, joined) = errands.run(1, || async { unreachable!("it is under way") });
        assert!(!new && joined);
        assert_eq!((&mut begun).now_or_never(), None);
        let other = tokio::spawn(other);
        drop(begun);
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!(other.await.unwrap(), Some(7));
        assert!(lock(&errands.under_way).errands.is_empty());
        assert_eq!(errands.run(1, || async { 8 }).0.await, Some(8));
    }

    #[tokio::test]
    async fn an_errand_that_everybody_leaves_is_left_and_one_that_panics_is_told() {
        let errands = Errands::new();
        let (mut left, _) = errands.run(1, std::future::pending::<u32>);
        assert_eq!((&mut left).now_or_never(), None);
        drop(left);
        assert!(lock(&errands.under_way).errands.is_empty());
        let (failed, joined) = errands.run(1, || async { panic!("as planned") });
        assert!(!joined);
        assert_eq!(failed.await, None);
        assert!(lock(&errands.under_way).errands.is_empty());
    }

    #[tokio::test]
    async fn a_load_that_panics_is_told_to_its_waiters_and_is_not_kept() {
        let flights = flights();
        let failed = flights.run(1, || async { panic!("as planned") });
        assert_eq!(failed.0.await, None);
        while !lock(&flights.loads).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.run(1, || async { 3 }).0.await, Some(3));
    }
}
