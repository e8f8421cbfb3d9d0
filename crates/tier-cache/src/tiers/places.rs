//! How many requests may wait for what is outside of the process, and for how long.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

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
        let _place = shared.place_to_wait()?;
        shared.in_time(shared.deadline(), work).await
    }
}

impl<D: SessionData> Shared<D> {
    /// A request that begins now waits until then at most.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.cold.load_timeout
    }

    pub(super) async fn in_time<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        match timeout_at(deadline, work).await {
            Ok(done) => done,
            Err(_) => Err(self.too_late()),
        }
    }

    /// For a request that waits itself.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unavailable`] if too many wait already.
    pub(super) fn place_to_wait(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.places.try_acquire().map_err(|_| {
            self.metrics.shed.increment(1);
            self.too_late()
        })
    }

    /// For those who change sessions, or list them: one for all that an operation does.
    ///
    /// # Errors
    ///
    /// [`StoreError`], a transient one, if too many wait already.
    pub(super) fn place_to_write(&self) -> Result<Place, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(|place| Place(Arc::new(place))).map_err(|_| {
            self.metrics.shed.increment(1);
            let reason = "as many requests wait already as cold.max_waiting allows";
            StoreError::transient("write", reason).into()
        })
    }
}
