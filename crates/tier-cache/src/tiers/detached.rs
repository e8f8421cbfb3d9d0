//! Runs store operations in tasks of their own, so that a cancelled caller does not cancel them: a
//! [`ColdStore`] may expect to be polled to the end.

use std::future::Future;
use std::sync::Arc;

use super::Shared;
use crate::cold::ColdStore;
use crate::data::SessionData;
use crate::error::StoreError;

impl<D: SessionData> Shared<D> {
    /// Runs an operation of the store in a task of its own, and waits for its result.
    pub(super) async fn run_detached<T, F>(
        &self,
        operation: impl FnOnce(Arc<dyn ColdStore>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let answer = self.tasks.spawn(operation(Arc::clone(&self.store)));
        match answer.await {
            Ok(answer) => answer,
            Err(lost) => Err(StoreError::transient("asking the database", lost)),
        }
    }
}
