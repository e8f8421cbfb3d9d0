//! How many requests may wait for what is outside of the process, and for how long.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Shared, Tiers};
use crate::data::SessionData;
use crate::error::{Error, Refusal, StoreError};

/// A place among those who wait; taken until the last clone of it is gone. What goes on after its caller
/// has gone away holds one.
#[derive(Clone, Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>);

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
    fn place(&self) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        if place.is_err() {
            self.metrics.shed.increment(1);
        }
        place.ok().map(|place| Place(Arc::new(place)))
    }

    /// For those who change sessions, or list them: one for all that an operation does.
    pub(super) fn place_to_write(&self) -> Result<Place, Error> {
        self.place().ok_or_else(|| {
            let reason = "as many requests wait already as cold.max_waiting allows";
            StoreError::transient("write", reason).into()
        })
    }
}
