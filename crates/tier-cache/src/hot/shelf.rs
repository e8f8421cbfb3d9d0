//! Moka, as far as the race of a record with a raised floor rests on it: each change is atomic for
//! its key.
//!
//! Moka has an operation for that, which keeps a list of who waits for whom, and takes half as long
//! again as an insert. Here those who change what the shelf has of a session go one after the other,
//! with some others whose ids share the lock. Readers wait for nobody; and what moka does by itself,
//! to make room or at the end of an entry's time, only ever takes something away.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use moka::sync::Cache;
use session_core::SessionId;

use super::Entry;
use crate::sync::step;

pub(super) struct Shelf<D> {
    cache: Cache<SessionId, Arc<Entry<D>>, RandomState>,
    capacity: u64,
    /// Bytes that were put here since moka last made room. It does so after 64 writes by itself, whatever they
    /// weigh, or a third of a second after the one before, if there is another.
    unsettled: AtomicU64,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
    /// Stands before the locks.
    #[cfg(test)]
    turn: crate::sync::Turn,
}

/// Many more than threads that change something.
const LOCKS: usize = 256;

impl<D: Send + Sync + 'static> Shelf<D> {
    pub(super) fn new(capacity: u64, ttl: Duration) -> Self {
        let cache = Cache::builder()
            .name("sessions")
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry<D>>| entry.weight())
            .time_to_live(ttl)
            .build_with_hasher(RandomState::default());
        Self {
            cache,
            capacity,
            unsettled: AtomicU64::new(0),
            locks: [const { Mutex::new(()) }; LOCKS],
            hasher: RandomState::default(),
            #[cfg(test)]
            turn: crate::sync::Turn::default(),
        }
    }

    #[inline]
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        step();
        self.cache.get(&id)
    }

    /// The same for one who expects nothing: moka takes account of that only if there is something.
    pub(super) fn peek(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        self.cache
            .contains_key(&id)
            .then(|| self.cache.get(&id))
            .flatten()
    }

    /// Puts an entry in its place, unless what is there is to be kept. Returns what is there then, and
    /// whether that is the new one. One that is larger than the shelf is not put there, but takes what is
    /// there away.
    ///
    /// What is held in all is never more than the capacity, a sixteenth of it, and what the threads that are
    /// here put there at this moment.
    pub(super) fn put(
        &self,
        entry: Arc<Entry<D>>,
        keep: impl FnOnce(&Entry<D>) -> bool,
    ) -> (Arc<Entry<D>>, bool) {
        let id = entry.head().id;
        self.alone(id, || {
            if let Some(kept) = self.peek(id)
                && keep(&kept)
            {
                return (kept, false);
            }
            let weight = u64::from(entry.weight());
            if weight > self.capacity {
                self.cache.invalidate(&id);
            } else {
                self.cache.insert(id, Arc::clone(&entry));
                self.make_room(weight);
            }
            self.free_what_goes(weight);
            (entry, true)
        })
    }

    /// Has moka make room before too much has come since it last did.
    fn make_room(&self, weight: u64) {
        const PART: u64 = 16;
        let unsettled = self.unsettled.fetch_add(weight, Ordering::Relaxed) + weight;
        if unsettled > self.capacity / PART {
            self.unsettled.store(0, Ordering::Relaxed);
            self.cache.run_pending_tasks();
        }
    }

    /// Takes what is there away, if it is to go.
    pub(super) fn take_if(&self, id: SessionId, goes: impl FnOnce(&Entry<D>) -> bool) {
        self.alone(id, || {
            if let Some(kept) = self.peek(id)
                && goes(&kept)
            {
                self.cache.invalidate(&id);
                let weight = kept.weight();
                drop(kept);
                self.free_what_goes(weight.into());
            }
        });
    }

    pub(super) fn clear(&self) {
        step();
        self.cache.invalidate_all();
    }

    /// Has the memory of what this thread took out of moka freed, if that is heavy. Moka leaves it to
    /// crossbeam, which lets each thread keep up to 64 things that wait until no other thread can see them. So
    /// many light ones are a sixteenth of the capacity.
    fn free_what_goes(&self, weight: u64) {
        const HEAVY: u64 = 1024;
        if weight > self.capacity / HEAVY {
            // Once to hand them over, and twice for others to have gone on.
            for _ in 0..3 {
                crossbeam_epoch::pin().flush();
            }
        }
    }

    /// The cache, after it has done its pending work.
    pub(super) fn settled(&self) -> &Cache<SessionId, Arc<Entry<D>>, RandomState> {
        self.unsettled.store(0, Ordering::Relaxed);
        self.cache.run_pending_tasks();
        &self.cache
    }

    /// While nobody else changes what is there.
    fn alone<T>(&self, id: SessionId, change: impl FnOnce() -> T) -> T {
        step();
        #[cfg(test)]
        let _turn = self.turn.wait();
        let lock = self.hasher.hash_one(id) as usize % LOCKS;
        // It guards nothing that a panic could leave half-done: moka does one thing or the other.
        let _lock = self.locks[lock]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change()
    }
}
