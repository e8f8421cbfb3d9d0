//! Admission control: how many requests may wait for Redis and the database, and for how long.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::{Shared, Tiers};
use crate::data::SessionData;
use crate::error::{Error, Refusal, StoreError};

/// A permit to wait. It is released when its last clone is dropped; work that outlives its caller holds
/// a clone.
#[derive(Clone, Debug)]
pub(super) struct AdmissionPermit(
    #[expect(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>,
);

impl<D: SessionData> Tiers<D> {
    /// Runs `work` for at most `cold.load_timeout`, or refuses at once if too many requests wait already.
    /// Loads that `work` started go on after a timeout.
    pub(crate) async fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let shared = self.shared();
        let _permit = shared.admit_read()?;
        shared.in_time(shared.deadline(), work).await
    }
}

impl<D: SessionData> Shared<D> {
    /// Returns the deadline of a request that starts now.
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

    /// Admits a request that reads.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unavailable`] if too many wait already.
    pub(super) fn admit_read(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.admission.try_acquire().map_err(|_| {
            self.metrics.shed.increment(1);
            self.too_late()
        })
    }

    /// Admits an operation that changes or lists sessions. One permit covers all its statements.
    ///
    /// # Errors
    ///
    /// [`StoreError`], a transient one, if too many wait already.
    pub(super) fn admit_write(&self) -> Result<AdmissionPermit, Error> {
        let permit = Arc::clone(&self.admission).try_acquire_owned();
        permit
            .map(|permit| AdmissionPermit(Arc::new(permit)))
            .map_err(|_| {
                self.metrics.shed.increment(1);
                let reason = "as many requests wait already as cold.max_waiting allows";
                StoreError::transient("write", reason).into()
            })
    }
}
