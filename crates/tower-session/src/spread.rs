//! One value as several equal ones, so that threads do not get in each other's way.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// As many equal values as there are processors, of which each thread takes its own.
///
/// Each request counts a reference to what all requests share. Two processors that count in one
/// place wait for each other, for longer than the rest of a hot hit takes.
pub(crate) struct Spread<T> {
    ones: Arc<[Arc<Apart<T>>]>,
}

/// Alone in its lines of the processors' caches, which fetch two at once.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Apart<T>(T);

impl<T> Spread<T> {
    pub(crate) fn new(one: impl Fn() -> T) -> Self {
        const MOST: usize = 64;
        let count = available_parallelism().map_or(1, NonZeroUsize::get);
        let count = count.next_power_of_two().min(MOST);
        Self {
            ones: (0..count).map(|_| Arc::new(Apart(one()))).collect(),
        }
    }

    /// The one of this thread.
    #[inline]
    pub(crate) fn local(&self) -> &Arc<Apart<T>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static TURN: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        // While a thread ends, any one will do.
        let turn = TURN.try_with(|turn| *turn).unwrap_or(0);
        &self.ones[turn & (self.ones.len() - 1)]
    }
}

impl<T> Clone for Spread<T> {
    fn clone(&self) -> Self {
        Self {
            ones: Arc::clone(&self.ones),
        }
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_keeps_to_one_and_the_next_takes_another() {
        let spread = Spread::new(|| ());
        let place = || Arc::as_ptr(spread.local()) as usize;
        assert_eq!(place(), place());
        let places: std::collections::HashSet<_> = (0..spread.ones.len())
            .map(|_| std::thread::scope(|scope| scope.spawn(place).join().unwrap()))
            .collect();
        assert_eq!(places.len(), spread.ones.len());
        assert!(places.iter().all(|place| place % 128 == 0));
    }
}
