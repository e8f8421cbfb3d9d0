//! One load per key at a time: late-comers share it, and nobody's leaving fails it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// A load that is under way; `None` if it panicked or the runtime is going down.
pub(crate) type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

type Loads<K, V> = Mutex<HashMap<K, Flight<V>>>;

/// The loads under way, by key.
///
/// A load runs in a task of its own, so that a caller who goes away neither fails the others
/// nor stops the result from landing.
#[derive(Debug)]
pub(crate) struct Flights<K, V: Clone> {
    loads: Arc<Loads<K, V>>,
    tasks: TaskTracker,
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self {
            loads: Arc::default(),
            tasks,
        }
    }

    /// The result of the load of `key` that is under way, or of `load` started now.
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut loads = lock(&self.loads);
        if let Some(under_way) = loads.get(&key) {
            return under_way.clone();
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
            let _landing = landing;
            let _ = landed.send(load.await);
        });
        flight
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
