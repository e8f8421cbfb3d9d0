//! One load per key at a time: late-comers share it, and nobody's leaving fails it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use tokio_util::task::TaskTracker;

use crate::begun::begin;

/// A load that is under way.
pub(crate) struct Flight<V>(Arc<SetOnce<Option<V>>>);

type Loads<K, V> = Mutex<HashMap<K, Flight<V>, RandomState>>;

impl<V: Clone> Flight<V> {
    fn new() -> Self {
        Self(Arc::new(SetOnce::new()))
    }

    /// What it brought; `None` if it panicked, if too many were under way, or the runtime is going
    /// down.
    pub(crate) async fn landed(self) -> Option<V> {
        self.0.wait().await.clone()
    }

    fn land(&self, value: Option<V>) {
        // Nobody else lands it.
        let _ = self.0.set(value);
    }
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The loads under way, by key.
///
/// Wherever a load [begins](Begins), what it waits for it waits for in a task of its own, so that a
/// caller who goes away neither fails the others nor stops the result from landing.
pub(crate) struct Flights<K, V: Clone> {
    loads: Arc<Loads<K, V>>,
    /// How many may be under way: callers who go away leave theirs behind.
    most: usize,
    /// What may be done in a caller's turn.
    begins: Begins,
    tasks: TaskTracker,
    /// A load may be begun outside of it.
    runtime: Handle,
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(most: usize, begins: Begins, tasks: TaskTracker, runtime: Handle) -> Self {
        Self {
            loads: Arc::default(),
            most,
            begins,
            tasks,
            runtime,
        }
    }

    /// The load of `key` that is under way, or `load` started now; and whether it was under way, so
    /// that it may know less than one started now.
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.run_as(self.begins, key, load)
    }

    /// The same for one who has no time to begin it.
    pub(crate) fn run_behind<F>(&self, key: K, load: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.run_as(Begins::Behind, key, load)
    }

    fn run_as<F>(&self, begins: Begins, key: K, load: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        match self.board(key) {
            Boarded::New(flight) => {
                // It may end here and now, and its `Landing` locks.
                self.begin_as(begins, self.landing(key, flight.clone(), load));
                (flight, false)
            }
            Boarded::UnderWay(flight) => (flight, true),
            Boarded::Full(flight) => (flight, false),
        }
    }

    /// The load, which lands however it ends; also if it is dropped.
    fn landing<F>(
        &self,
        key: K,
        flight: Flight<V>,
        load: impl FnOnce() -> F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = V> + Send + 'static,
    {
        let landing = Landing {
            key,
            loads: Arc::clone(&self.loads),
            flight,
            value: None,
        };
        let load = load();
        async move { landing.with(load.await) }
    }

    /// Begins what lands loads. In a runtime that is going down it is dropped.
    pub(crate) fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.begin_as(self.begins, work);
    }

    fn begin_as(&self, begins: Begins, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.tasks.track_future(work);
        match begins {
            Begins::Here => begin(work.boxed(), &self.runtime),
            Begins::Behind => drop(self.runtime.spawn(work)),
        }
    }

    /// The load of `key` that is under way, or one that the caller is to do, and to
    /// [land](Self::land) whatever happens.
    pub(crate) fn board(&self, key: K) -> Boarded<V> {
        let mut loads = lock(&self.loads);
        if let Some(under_way) = loads.get(&key) {
            return Boarded::UnderWay(under_way.clone());
        }
        let flight = Flight::new();
        if loads.len() >= self.most {
            flight.land(None);
            return Boarded::Full(flight);
        }
        loads.insert(key, flight.clone());
        Boarded::New(flight)
    }

    /// Ends a load that was boarded, with what it has brought.
    pub(crate) fn land(&self, key: K, flight: &Flight<V>, value: Option<V>) {
        land(&self.loads, &key, flight, value);
    }

    /// The load of `key`, if one is under way.
    pub(crate) fn under_way(&self, key: &K) -> Option<Flight<V>> {
        lock(&self.loads).get(key).cloned()
    }

    /// The same for each of these keys, in their order.
    pub(crate) fn all_under_way(&self, keys: impl Iterator<Item = K>) -> Vec<Option<Flight<V>>> {
        let loads = lock(&self.loads);
        keys.map(|key| loads.get(&key).cloned()).collect()
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        lock(&self.loads).len()
    }

    /// Whether fewer than half of those that may be under way are: room for what can wait.
    pub(crate) fn has_room(&self) -> bool {
        self.count() < self.most.div_ceil(2)
    }

    /// The result of a load that began after this was called: one that is under way already is
    /// waited for and not used. All who wait for it share the next one.
    pub(crate) async fn run_fresh<F>(&self, key: K, load: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        if let Some(under_way) = self.under_way(&key) {
            under_way.landed().await;
        }
        self.run(key, load).0.landed().await
    }
}

/// Where loads begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// In the turn of whoever asks first: see [`begin`].
    Here,
    /// In a task of their own.
    Behind,
}

/// The load of a key, for one who asks for it.
pub(crate) enum Boarded<V> {
    /// To be begun now, and to be landed.
    New(Flight<V>),
    UnderWay(Flight<V>),
    /// Too many are under way.
    Full(Flight<V>),
}

/// Lands a load when it ends, however it ends.
struct Landing<K: Eq + Hash, V: Clone> {
    key: K,
    loads: Arc<Loads<K, V>>,
    flight: Flight<V>,
    value: Option<V>,
}

impl<K: Eq + Hash, V: Clone> Landing<K, V> {
    /// What it has brought.
    fn with(mut self, value: V) {
        self.value = Some(value);
    }
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        land(&self.loads, &self.key, &self.flight, self.value.take());
    }
}

fn land<K: Eq + Hash, V: Clone>(
    loads: &Loads<K, V>,
    key: &K,
    flight: &Flight<V>,
    value: Option<V>,
) {
    // Off the list first: who asks from here on gets a load of its own.
    lock(loads).remove(key);
    flight.land(value);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    fn flights() -> Flights<u8, u32> {
        Flights::new(2, Begins::Here, TaskTracker::new(), Handle::current())
    }

    #[tokio::test]
    async fn late_comers_share_the_load_and_the_next_one_is_new() {
        let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
        let load = || {
            let loads = Arc::clone(&loads);
            async move {
                yield_now().await;
                loads.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let ((one, new), (two, joined)) = (flights.run(1, load), flights.run(1, load));
        assert!(!new && joined);
        assert_eq!((one.landed().await, two.landed().await), (Some(1), Some(1)));
        while !lock(&flights.loads).is_empty() {
            yield_now().await;
        }
        assert_eq!(flights.run(1, load).0.landed().await, Some(2));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_fails_nobody_and_the_load_lands() {
        let (flights, landed) = (flights(), Arc::new(Notify::new()));
        let begun = flights.run(1, || {
            let landed = Arc::clone(&landed);
            async move {
                yield_now().await;
                landed.notify_one();
                7
            }
        });
        let joined = flights.run(1, || async { unreachable!("it is under way") });
        drop(begun);
        assert_eq!(joined.0.landed().await, Some(7));
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
        let early = flights.run(1, load).0.landed();
        let (one, two) = (flights.run_fresh(1, load), flights.run_fresh(1, load));
        let release = async {
            for _ in 0..2 {
                gate.notify_one();
                yield_now().await;
            }
        };
        let (early, one, two, ()) = tokio::join!(early, one, two, release);
        assert_eq!((early, one, two), (Some(1), Some(2), Some(2)));
    }

    #[tokio::test]
    async fn one_who_has_no_time_for_a_load_does_not_begin_it() {
        // In a task: elsewhere nobody does.
        let in_task = async {
            let flights = flights();
            let begun = Arc::new(AtomicU32::new(0));
            let load = || {
                let begun = Arc::clone(&begun);
                async move { begun.fetch_add(1, Ordering::SeqCst) + 7 }
            };
            let (behind, _) = flights.run_behind(1, load);
            let (_, joined) = flights.run_behind(1, load);
            assert!(joined);
            assert_eq!(begun.load(Ordering::SeqCst), 0);
            let (here, _) = flights.run(2, load);
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            assert_eq!(
                (here.landed().await, behind.landed().await),
                (Some(7), Some(8))
            );
        };
        tokio::spawn(in_task).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be_and_those_are_still_shared() {
        let flights = flights();
        let waits = || std::future::pending::<u32>();
        let (_one, _two) = (flights.run(1, waits), flights.run(2, waits));
        let refused = flights.run(3, || async { unreachable!("there is no room for it") });
        assert_eq!(refused.0.landed().await, None);
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

    #[test]
    fn a_load_may_be_begun_outside_the_runtime() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let flights = runtime.block_on(async { flights() });
        let (flight, _) = flights.run(1, || async { 7 });
        assert_eq!(runtime.block_on(flight.landed()), Some(7));
        drop(runtime);
        let (gone, _) = flights.run(1, || async { 8 });
        assert_eq!(gone.landed().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn a_load_that_panics_is_told_to_its_waiters_and_is_not_kept() {
        let flights = flights();
        let failed = flights.run(1, || async { panic!("as planned") });
        assert_eq!(failed.0.landed().await, None);
        while !lock(&flights.loads).is_empty() {
            yield_now().await;
        }
        assert_eq!(flights.run(1, || async { 3 }).0.landed().await, Some(3));
    }
}
