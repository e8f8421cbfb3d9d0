//! How much each tier holds: for operators.

use std::sync::Arc;

use session_core::Timestamp;

use super::Tiers;
use crate::cold::{ColdStore, StoreStats};
use crate::data::SessionData;
use crate::error::Error;
use crate::health::Health;
use crate::warm::WarmStats;

/// How much each tier holds, and how it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// When it was counted.
    pub at: Timestamp,
    /// What the database holds; `None` for a store that does not count.
    pub store: Option<StoreStats>,
    /// What Redis holds; `None` without a warm tier, and while Redis is not reached.
    pub warm: Option<WarmStats>,
    /// What each tier can do, as this node sees it.
    pub health: Health,
}

impl<D: SessionData> Tiers<D> {
    /// Counts what the database and Redis hold. The database reads all its sessions for it, Redis
    /// goes through its keys step by step; so ask now and then, and not for each request.
    ///
    /// Cancellation-safe.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database cannot be read, or takes longer than
    /// `cold.statement_timeout`. A Redis that cannot be asked is told as `None`.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let shared = self.shared();
        let at = shared.clock.now().wall;
        let count = async move |store: Arc<dyn ColdStore>| store.stats(at).await;
        let store = shared.run_detached(count).await?;
        let warm = match &shared.warm {
            Some(warm) => warm.stats().await,
            None => None,
        };
        Ok(Stats {
            at,
            store,
            warm,
            health: self.health(),
        })
    }
}
