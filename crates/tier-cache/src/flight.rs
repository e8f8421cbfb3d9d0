//! One load per key at a time: late-comers share it, and nobody's leaving fails it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use foldhash::fast::RandomState;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use tokio_util::task::TaskTracker;

/// A load that is under way.
pub(crate) struct Flight<V>(Arc<SetOnce<Option<V>>>);

type Loads<K, V> = Mutex<HashMap<K, Flight<V>>>;

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
/// A load runs in a task of its own, so that a caller who goes away neither fails the others
/// nor stops the result from landing.
pub(crate) struct Flights<K, V: Clone> {
    loads: Arc<Loads<K, V>>,
    /// How many may be under way: callers who go away leave theirs behind.
    most: usize,
    tasks: TaskTracker,
    /// A load may be begun outside of it.
    runtime: Handle,
}

impl<K, V> Flights<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(most: usize, tasks: TaskTracker, runtime: Handle) -> Self {
        Self {
            loads: Arc::default(),
            most,
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
        let mut loads = lock(&self.loads);
        if let Some(under_way) = loads.get(&key) {
            return (under_way.clone(), true);
        }
        let flight = Flight::new();
        if loads.len() >= self.most {
            flight.land(None);
            return (flight, false);
        }
        loads.insert(key, flight.clone());
        // A runtime that is going down drops the task here and now, and its `Landing` locks.
        drop(loads);
        let landing = Landing {
            key,
            loads: Arc::clone(&self.loads),
            flight: flight.clone(),
            value: None,
        };
        let load = load();
        let load = async move { landing.with(load.await) };
        self.tasks.spawn_on(load, &self.runtime);
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
            under_way.landed().await;
        }
        self.run(key, load).0.landed().await
    }
}

/// Lands a load when it ends, however it ends.
struct Landing<K: Eq + Hash, V: Clone> {
    key: K,
    loads: Arc<Loads<K, V>>,
    flight: Flight<V>,
    value: Option<V>,
}

impl<K: Eq + Hash, V: Clone> Landing<K, V> {
    fn with(mut self, value: V) {
        self.value = Some(value);
    }
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        // Off the list first: who asks from here on gets a load of its own.
        lock(&self.loads).remove(&self.key);
        self.flight.land(self.value.take());
    }
}

/// Loads that are done by those who wait for them, one at a time per key: cheaper by a task and two
/// switches to it, for what may be left undone when all of them go away.
pub(crate) struct Errands<K, V> {
    under_way: Arc<Mutex<UnderWay<K, V>>>,
}

struct UnderWay<K, V> {
    errands: HashMap<K, (Number, Weak<Errand<V>>)>,
    begun: Number,
}

type Number = u64;

/// A load that its waiters do: each that is woken goes on with it. So none has to wait for another to
/// do so, which may have gone away, or be kept from it.
struct Errand<V> {
    progress: Mutex<Progress<V>>,
    waiters: Arc<Waiters>,
}

enum Progress<V> {
    Under(BoxFuture<'static, Option<V>>),
    Done(Option<V>),
}

/// All are woken when one of them would be.
#[derive(Default)]
struct Waiters(Mutex<Wakers>);

#[derive(Default)]
struct Wakers {
    /// Of those that wait, each under its number.
    waiting: HashMap<Number, Waker, RandomState>,
    came: Number,
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = std::mem::take(&mut lock(&self.0).waiting);
        waiting.into_values().for_each(Waker::wake);
    }
}

/// What an errand brings; `None` if it panicked.
#[must_use = "it is done by those who wait for it"]
pub(crate) struct Waiting<V> {
    errand: Arc<Errand<V>>,
    number: Number,
}

impl<V> Waiting<V> {
    fn on(errand: Arc<Errand<V>>) -> Self {
        let mut wakers = lock(&errand.waiters.0);
        wakers.came += 1;
        let number = wakers.came;
        drop(wakers);
        Self { errand, number }
    }
}

impl<V: Clone> Future for Waiting<V> {
    type Output = Option<V>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<V>> {
        let waiters = &self.errand.waiters;
        // First: what comes while this one looks wakes it too.
        let waker = task.waker().clone();
        lock(&waiters.0).waiting.insert(self.number, waker);
        let mut progress = lock(&self.errand.progress);
        let value = match &mut *progress {
            Progress::Done(value) => return Poll::Ready(value.clone()),
            Progress::Under(load) => {
                let waker = Waker::from(Arc::clone(waiters));
                ready!(load.as_mut().poll(&mut Context::from_waker(&waker)))
            }
        };
        *progress = Progress::Done(value.clone());
        drop(progress);
        waiters.wake_by_ref();
        Poll::Ready(value)
    }
}

impl<V> Drop for Waiting<V> {
    fn drop(&mut self) {
        lock(&self.errand.waiters.0).waiting.remove(&self.number);
    }
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
    pub(crate) fn run<F>(&self, key: K, load: impl FnOnce() -> F) -> (Waiting<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        let errand = under_way.errands.get(&key);
        if let Some(errand) = errand.and_then(|(_, errand)| errand.upgrade()) {
            return (Waiting::on(errand), true);
        }
        under_way.begun += 1;
        let number = under_way.begun;
        let listed = Listed {
            key,
            number,
            under_way: Arc::clone(&self.under_way),
        };
        let load = AssertUnwindSafe(load()).catch_unwind();
        let load = async move {
            let value = load.await;
            // Off the list first: who asks from here on gets a load of its own.
            drop(listed);
            value.ok()
        };
        let errand = Arc::new(Errand {
            progress: Mutex::new(Progress::Under(load.boxed())),
            waiters: Arc::default(),
        });
        let listed = (number, Arc::downgrade(&errand));
        under_way.errands.insert(key, listed);
        (Waiting::on(errand), false)
    }
}

/// Takes an errand off the list when it is done, or everybody has gone away.
struct Listed<K: Eq + Hash, V> {
    key: K,
    number: Number,
    under_way: Arc<Mutex<UnderWay<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for Listed<K, V> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        // When it was left, another may have been begun already.
        let own = under_way.errands.get(&self.key);
        if own.is_some_and(|(number, _)| *number == self.number) {
            under_way.errands.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::{Notify, oneshot};

    use super::*;

    fn flights() -> Flights<u8, u32> {
        Flights::new(2, TaskTracker::new(), Handle::current())
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
        assert_eq!((one.landed().await, two.landed().await), (Some(1), Some(1)));
        while !lock(&flights.loads).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.run(1, load).0.landed().await, Some(2));
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
    async fn an_errand_waits_for_nobody_who_has_begun_it_and_does_not_go_on() {
        let (errands, gate) = (Errands::new(), Arc::new(Notify::new()));
        let load = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                7
            }
        };
        let (mut idle, _) = errands.run(1, load);
        assert_eq!((&mut idle).now_or_never(), None);
        let (other, _) = errands.run(1, || async { unreachable!("it is under way") });
        let other = tokio::spawn(other);
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!(other.await.unwrap(), Some(7));
        assert_eq!(idle.await, Some(7));
    }

    /// How often a task was woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn all_who_wait_for_an_errand_are_woken_whoever_goes_away() {
        let errands = Errands::new();
        let (answer, answered) = oneshot::channel();
        let (first, _) = errands.run(1, || async { answered.await.unwrap_or(0) });
        let others = [(); 3].map(|()| errands.run(1, || async { unreachable!() }).0);
        let mut waiting: Vec<_> = [first].into_iter().chain(others).collect();
        let woken: Vec<Arc<Woken>> = waiting.iter().map(|_| Arc::default()).collect();
        for (waiting, woken) in waiting.iter_mut().zip(&woken) {
            let waker = Waker::from(Arc::clone(woken));
            let mut task = Context::from_waker(&waker);
            assert!(Pin::new(waiting).poll(&mut task).is_pending());
        }
        // The last one looked last; it goes away, and so does the first, when they have been woken.
        answer.send(7).unwrap();
        for woken in &woken {
            assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        }
        drop(waiting.pop());
        drop(waiting.remove(0));
        for waiting in waiting {
            assert_eq!(waiting.now_or_never(), Some(Some(7)));
        }
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
        assert_eq!(failed.0.landed().await, None);
        while !lock(&flights.loads).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.run(1, || async { 3 }).0.landed().await, Some(3));
    }
}
