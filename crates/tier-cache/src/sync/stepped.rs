//! The same, one step at a time.
//!
//! The scheduler runs all its threads in turns on one thread of the system. So the standard types
//! do, as long as nobody steps while holding what another one would block on.

use std::cell::Cell;
use std::sync::atomic::{self, Ordering};
use std::sync::{LockResult, RwLockReadGuard, RwLockWriteGuard};

use shuttle::scheduler::PctScheduler;
use shuttle::{Config, Runner};

thread_local! {
    /// Whether this thread runs under the scheduler.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `world` in so many schedules, chosen by chance, the same ones for the same seed: in each
/// the threads run one after the other, but for a few places where one is put last.
pub(crate) fn schedules(seed: u64, count: usize, world: impl Fn() + Send + Sync + 'static) {
    struct Scheduled;

    impl Drop for Scheduled {
        fn drop(&mut self) {
            SCHEDULED.set(false);
        }
    }

    /// Places where a thread is put last.
    const SWITCHES: usize = 4;

    SCHEDULED.set(true);
    let _scheduled = Scheduled;
    let scheduler = PctScheduler::new_from_seed(seed, SWITCHES, count);
    Runner::new(scheduler, Config::new()).run(world);
}

/// Where another thread may come in between.
pub(crate) fn step() {
    if SCHEDULED.get() {
        // Any operation of the scheduler's own will do. A yield would put this thread last.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

macro_rules! atomic {
    ($name:ident, $of:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code, reason = "not all of them need all of it")]
        impl $name {
            pub(crate) const fn new(value: $of) -> Self {
                Self(atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $of {
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $of, order: Ordering) {
                step();
                self.0.store(value, order);
            }
        }
    };
    ($name:ident, $of:ty, counts) => {
        atomic!($name, $of);

        #[allow(dead_code, reason = "not all of them need all of it")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                step();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                update: impl FnMut($of) -> Option<$of>,
            ) -> Result<$of, $of> {
                step();
                self.0.fetch_update(set, fetch, update)
            }

            pub(crate) fn fetch_max(&self, value: $of, order: Ordering) -> $of {
                step();
                self.0.fetch_max(value, order)
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicI64, i64, counts);
atomic!(AtomicU32, u32, counts);

/// Nobody steps while holding it.
#[derive(Debug)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        step();
        self.0.read()
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        step();
        self.0.write()
    }
}

/// Stands before a lock of a library, where whoever holds it steps: the others wait here, and let
/// the scheduler go on.
#[derive(Debug, Default)]
pub(crate) struct Turn(atomic::AtomicBool);

impl Turn {
    /// Waits for the turn, under the scheduler.
    pub(crate) fn wait(&self) -> impl Drop {
        struct Taken<'a>(&'a Turn);

        impl Drop for Taken<'_> {
            fn drop(&mut self) {
                self.0.0.store(false, Ordering::SeqCst);
            }
        }

        while SCHEDULED.get() && self.0.swap(true, Ordering::SeqCst) {
            shuttle::thread::yield_now();
        }
        Taken(self)
    }
}
