//! How many requests may wait for what is outside of the process, and for how long.

use std::future::Future;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::{Shared, Tiers};
use crate::data::SessionData;
use crate::error::{Error, Refusal, StoreError};

impl<D: SessionData> Tiers<D> {
    /// Waits for a session for as long as a request may; not at all if too many wait already. What
    /// was begun goes on without it.
    pub(crate) async fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let shared = self.shared();
        let Some(_place) = shared.place() else {
            return Err(shared.too_late());
        };
        match timeout(shared.config.cold.load_timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(shared.too_late()),
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// A place among those who wait.
    fn place(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.try_acquire().ok();
        if place.is_none() {
            self.metrics.shed.increment(1);
        }
        place
    }

    /// The same for those who write.
    pub(super) fn place_to_write(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.place().ok_or_else(|| {
            let reason = "as many requests wait already as cold.max_waiting allows";
            StoreError::transient("write", reason).into()
        })
    }
}
