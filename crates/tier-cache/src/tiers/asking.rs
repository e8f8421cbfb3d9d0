//! What is asked of the store for a caller who may go away: in a task of its own, which is driven to
//! its end, as a [`ColdStore`] may expect.

use std::future::Future;
use std::sync::Arc;

use super::Shared;
use crate::cold::ColdStore;
use crate::data::SessionData;
use crate::error::StoreError;

impl<D: SessionData> Shared<D> {
    pub(super) async fn ask<T, F>(
        &self,
        question: impl FnOnce(Arc<dyn ColdStore>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let answer = self.tasks.spawn(question(Arc::clone(&self.store)));
        match answer.await {
            Ok(answer) => answer,
            Err(lost) => Err(StoreError::transient("asking the database", lost)),
        }
    }
}
