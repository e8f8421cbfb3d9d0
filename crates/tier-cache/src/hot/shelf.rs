//! Moka, as far as the race of a record with a raised floor rests on it: each change is atomic for
//! its key.
//!
//! Moka has an operation for that, which keeps a list of who waits for whom, and takes half as long
//! again as an insert. Here those who change what the shelf has of a session go one after the other,
//! with some others whose ids share the lock. Readers wait for nobody; and what moka does by itself,
//! to make room or at the end of an entry's time, only ever takes something away.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use moka::sync::Cache;
use session_core::SessionId;

use super::Entry;
use crate::sync::step;

pub(super) struct Shelf<D> {
    cache: Cache<SessionId, Arc<Entry<D>>, RandomState>,
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
    /// Stands before the locks.
    #[cfg(test)]
    turn: crate::sync::Turn,
}

/// Many more than threads that change something.
const LOCKS: usize = 256;

impl<D: Send + Sync + 'static> Shelf<D> {
    pub(super) fn new(cache: Cache<SessionId, Arc<Entry<D>>, RandomState>) -> Self {
        Self {
            cache,
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
    /// whether it was put there.
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
            self.cache.insert(id, Arc::clone(&entry));
            (entry, true)
        })
    }

    /// Takes what is there away, if it is to go.
    pub(super) fn take_if(&self, id: SessionId, goes: impl FnOnce(&Entry<D>) -> bool) {
        self.alone(id, || {
            if self.peek(id).is_some_and(|kept| goes(&kept)) {
                self.cache.invalidate(&id);
            }
        });
    }

    pub(super) fn clear(&self) {
        step();
        self.cache.invalidate_all();
    }

    /// The cache, after it has done its pending work.
    pub(super) fn settled(&self) -> &Cache<SessionId, Arc<Entry<D>>, RandomState> {
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
