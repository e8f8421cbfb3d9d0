//! Single flight: one load per key at a time. Callers who ask meanwhile share its result, and a caller
//! that is cancelled does not cancel the load.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use tokio_util::task::TaskTracker;

use crate::eager_spawn::spawn_eager;

/// A handle to a load that is under way.
pub(crate) struct SharedLoad<V>(Arc<SetOnce<Option<V>>>);

type Loads<K, V> = Mutex<HashMap<K, SharedLoad<V>, RandomState>>;

impl<V: Clone> SharedLoad<V> {
    fn new() -> Self {
        Self(Arc::new(SetOnce::new()))
    }

    /// Waits for the load, and returns its result: `None` if the load panicked, if too many loads were
    /// under way, or if the runtime is shutting down.
    pub(crate) async fn result(self) -> Option<V> {
        self.0.wait().await.clone()
    }

    fn complete(&self, value: Option<V>) {
        // Only one caller completes a load, so it was not set before.
        let _ = self.0.set(value);
    }
}

impl<V> Clone for SharedLoad<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The loads under way, by key.
///
/// Every load runs in a task of its own from the first time it has to wait. So a caller that is
/// cancelled neither fails the others nor loses the result. [`Spawn`] says where its first part runs.
pub(crate) struct SingleFlight<K, V: Clone> {
    loads: Arc<Loads<K, V>>,
    /// The limit of loads under way. It is needed since a load outlives callers that are cancelled.
    most: usize,
    /// Where the first part of a load runs.
    spawn: Spawn,
    tasks: TaskTracker,
    /// Where loads are spawned, also if the caller is outside of any runtime.
    runtime: Handle,
}

impl<K, V> SingleFlight<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(most: usize, spawn: Spawn, tasks: TaskTracker, runtime: Handle) -> Self {
        Self {
            loads: Arc::default(),
            most,
            spawn,
            tasks,
            runtime,
        }
    }

    /// Joins the load of `key`, or starts `load` if none is under way. The flag is `true` for a load
    /// that was under way before: its result may be older than this call.
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> (SharedLoad<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.run_as(self.spawn, key, load)
    }

    /// Like [`run`](Self::run), but always spawns the load, so that the caller never polls it.
    pub(crate) fn run_detached<F>(&self, key: K, load: impl FnOnce() -> F) -> (SharedLoad<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.run_as(Spawn::Detached, key, load)
    }

    fn run_as<F>(&self, spawn: Spawn, key: K, load: impl FnOnce() -> F) -> (SharedLoad<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        match self.join(key) {
            Join::New(shared) => {
                // Not under the lock of `loads`: the load may complete at once, and its guard takes it.
                self.spawn_as(spawn, self.guarded(key, shared.clone(), load));
                (shared, false)
            }
            Join::UnderWay(shared) => (shared, true),
            Join::Full(shared) => (shared, false),
        }
    }

    /// Wraps `load` so that it completes its entry however it ends, also if it is dropped.
    fn guarded<F>(
        &self,
        key: K,
        shared: SharedLoad<V>,
        load: impl FnOnce() -> F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = V> + Send + 'static,
    {
        let guard = CompletionGuard {
            key,
            loads: Arc::clone(&self.loads),
            shared,
            value: None,
        };
        let load = load();
        async move { guard.complete_with(load.await) }
    }

    /// Spawns a future that [completes](Self::complete) loads. A runtime that is shutting down drops it.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_as(self.spawn, work);
    }

    fn spawn_as(&self, spawn: Spawn, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.tasks.track_future(work);
        match spawn {
            Spawn::Inline => spawn_eager(work.boxed(), &self.runtime),
            Spawn::Detached => drop(self.runtime.spawn(work)),
        }
    }

    /// Joins the load of `key`, or registers a new one. The caller must run a new one, and
    /// [`complete`](Self::complete) it in any case.
    pub(crate) fn join(&self, key: K) -> Join<V> {
        let mut loads = lock(&self.loads);
        if let Some(under_way) = loads.get(&key) {
            return Join::UnderWay(under_way.clone());
        }
        let shared = SharedLoad::new();
        if loads.len() >= self.most {
            shared.complete(None);
            return Join::Full(shared);
        }
        loads.insert(key, shared.clone());
        Join::New(shared)
    }

    /// Completes a load that [`join`](Self::join) registered. `None` says that it failed.
    pub(crate) fn complete(&self, key: K, shared: &SharedLoad<V>, value: Option<V>) {
        complete(&self.loads, &key, shared, value);
    }

    /// Returns the load of `key` if one is under way.
    pub(crate) fn under_way(&self, key: &K) -> Option<SharedLoad<V>> {
        lock(&self.loads).get(key).cloned()
    }

    /// Returns for each key, in their order, the load that is under way. Takes the lock once.
    pub(crate) fn all_under_way(
        &self,
        keys: impl Iterator<Item = K>,
    ) -> Vec<Option<SharedLoad<V>>> {
        let loads = lock(&self.loads);
        keys.map(|key| loads.get(&key).cloned()).collect()
    }

    /// Returns the number of loads under way.
    pub(crate) fn count(&self) -> usize {
        lock(&self.loads).len()
    }

    /// Returns whether less than half of the limit is in use. Background loads start only then.
    pub(crate) fn has_room(&self) -> bool {
        self.count() < self.most.div_ceil(2)
    }

    /// Returns the result of a load that started after this call. Waits for a load that is under way
    /// already, ignores its result, and then runs or joins the next one.
    pub(crate) async fn run_fresh<F>(&self, key: K, load: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        if let Some(under_way) = self.under_way(&key) {
            under_way.result().await;
        }
        self.run(key, load).0.result().await
    }
}

/// Where the first part of a load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spawn {
    /// In the caller's own poll: see [`spawn_eager`].
    Inline,
    /// In a new task.
    Detached,
}

/// What [`SingleFlight::join`] found.
pub(crate) enum Join<V> {
    /// None was under way: the caller runs and completes this one.
    New(SharedLoad<V>),
    UnderWay(SharedLoad<V>),
    /// The limit is reached. The load is completed already, as failed.
    Full(SharedLoad<V>),
}

/// Completes a load when it is dropped.
struct CompletionGuard<K: Eq + Hash, V: Clone> {
    key: K,
    loads: Arc<Loads<K, V>>,
    shared: SharedLoad<V>,
    value: Option<V>,
}

impl<K: Eq + Hash, V: Clone> CompletionGuard<K, V> {
    /// Completes the load with `value`.
    fn complete_with(mut self, value: V) {
        self.value = Some(value);
    }
}

impl<K: Eq + Hash, V: Clone> Drop for CompletionGuard<K, V> {
    fn drop(&mut self) {
        complete(&self.loads, &self.key, &self.shared, self.value.take());
    }
}

fn complete<K: Eq + Hash, V: Clone>(
    loads: &Loads<K, V>,
    key: &K,
    shared: &SharedLoad<V>,
    value: Option<V>,
) {
    // Removed before it is completed: a call that comes later starts a load of its own.
    lock(loads).remove(key);
    shared.complete(value);
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

    fn single_flight() -> SingleFlight<u8, u32> {
        SingleFlight::new(2, Spawn::Inline, TaskTracker::new(), Handle::current())
    }

    #[tokio::test]
    async fn late_comers_share_the_load_and_the_next_one_is_new() {
        let (single_flight, loads) = (single_flight(), Arc::new(AtomicU32::new(0)));
        let load = || {
            let loads = Arc::clone(&loads);
            async move {
                yield_now().await;
                loads.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let ((one, new), (two, joined)) = (single_flight.run(1, load), single_flight.run(1, load));
        assert!(!new && joined);
        assert_eq!((one.result().await, two.result().await), (Some(1), Some(1)));
        while !lock(&single_flight.loads).is_empty() {
            yield_now().await;
        }
        assert_eq!(single_flight.run(1, load).0.result().await, Some(2));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_fails_nobody_and_the_load_lands() {
        let (single_flight, landed) = (single_flight(), Arc::new(Notify::new()));
        let begun = single_flight.run(1, || {
            let landed = Arc::clone(&landed);
            async move {
                yield_now().await;
                landed.notify_one();
                7
            }
        });
        let joined = single_flight.run(1, || async { unreachable!("it is under way") });
        drop(begun);
        assert_eq!(joined.0.result().await, Some(7));
        landed.notified().await;
    }

    #[tokio::test]
    async fn a_fresh_load_begins_after_it_was_asked_for_and_is_shared_too() {
        let (single_flight, loads) = (single_flight(), Arc::new(AtomicU32::new(0)));
        let gate = Arc::new(Notify::new());
        let load = || {
            let (loads, gate) = (Arc::clone(&loads), Arc::clone(&gate));
            async move {
                let number = loads.fetch_add(1, Ordering::SeqCst) + 1;
                gate.notified().await;
                number
            }
        };
        let early = single_flight.run(1, load).0.result();
        let (one, two) = (
            single_flight.run_fresh(1, load),
            single_flight.run_fresh(1, load),
        );
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
            let single_flight = single_flight();
            let begun = Arc::new(AtomicU32::new(0));
            let load = || {
                let begun = Arc::clone(&begun);
                async move { begun.fetch_add(1, Ordering::SeqCst) + 7 }
            };
            let (behind, _) = single_flight.run_detached(1, load);
            let (_, joined) = single_flight.run_detached(1, load);
            assert!(joined);
            assert_eq!(begun.load(Ordering::SeqCst), 0);
            let (here, _) = single_flight.run(2, load);
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            assert_eq!(
                (here.result().await, behind.result().await),
                (Some(7), Some(8))
            );
        };
        tokio::spawn(in_task).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be_and_those_are_still_shared() {
        let single_flight = single_flight();
        let waits = || std::future::pending::<u32>();
        let (_one, _two) = (single_flight.run(1, waits), single_flight.run(2, waits));
        let refused = single_flight.run(3, || async { unreachable!("there is no room for it") });
        assert_eq!(refused.0.result().await, None);
        let (_, joined) = single_flight.run(1, || async { unreachable!("it is under way") });
        assert!(joined);
    }

    #[tokio::test]
    async fn there_is_room_for_what_can_wait_while_fewer_than_half_are_under_way() {
        let single_flight = single_flight();
        assert!(single_flight.has_room());
        let _one = single_flight.run(1, std::future::pending::<u32>);
        assert!(!single_flight.has_room());
    }

    #[test]
    fn a_load_may_be_begun_outside_the_runtime() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let single_flight = runtime.block_on(async { single_flight() });
        let (shared, _) = single_flight.run(1, || async { 7 });
        assert_eq!(runtime.block_on(shared.result()), Some(7));
        drop(runtime);
        let (gone, _) = single_flight.run(1, || async { 8 });
        assert_eq!(gone.result().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn a_load_that_panics_is_told_to_its_waiters_and_is_not_kept() {
        let single_flight = single_flight();
        let failed = single_flight.run(1, || async { panic!("as planned") });
        assert_eq!(failed.0.result().await, None);
        while !lock(&single_flight.loads).is_empty() {
            yield_now().await;
        }
        assert_eq!(
            single_flight.run(1, || async { 3 }).0.result().await,
            Some(3)
        );
    }
}
