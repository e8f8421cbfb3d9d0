//! Moka, as far as the race of a record with a raised floor rests on it: each operation is atomic
//! for its key.

use std::sync::Arc;

use foldhash::fast::RandomState;
use moka::Entry as Kept;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;
use session_core::SessionId;

use super::Entry;
use crate::sync::step;

pub(super) struct Shelf<D> {
    cache: Cache<SessionId, Arc<Entry<D>>, RandomState>,
    /// Moka holds a lock of the key while it computes.
    #[cfg(test)]
    turn: crate::sync::Turn,
}

impl<D: Send + Sync + 'static> Shelf<D> {
    pub(super) fn new(cache: Cache<SessionId, Arc<Entry<D>>, RandomState>) -> Self {
        Self {
            cache,
            #[cfg(test)]
            turn: crate::sync::Turn::default(),
        }
    }

    #[inline]
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        step();
        self.cache.get(&id)
    }

    /// Puts or removes by what is here; others who do so wait meanwhile, readers do not.
    pub(super) fn compute(
        &self,
        id: SessionId,
        change: impl FnOnce(Option<Kept<SessionId, Arc<Entry<D>>>>) -> Op<Arc<Entry<D>>>,
    ) -> CompResult<SessionId, Arc<Entry<D>>> {
        step();
        #[cfg(test)]
        let _turn = self.turn.wait();
        self.cache.entry(id).and_compute_with(change)
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
}
