//! Removes from the database what nobody needs any more. Every node does it now and then, one at a
//! time: who finds another at it leaves it to that one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cold::Retention;
use crate::data::SessionData;
use crate::tiers::Shared;

/// Prunes every `cold.prune_interval` until `stop`.
pub(crate) async fn run<D: SessionData>(shared: Arc<Shared<D>>, stop: CancellationToken) {
    /// Sessions and tombstones removed by one transaction, so that none holds its locks for long.
    const BATCH: u32 = 500;
    /// Between batches, so that requests come first.
    const PAUSE: Duration = Duration::from_millis(100);

    let config = &shared.config.cold;
    let keep = Retention {
        tombstones: config.tombstone_retention,
        expired: config.expired_retention,
    };
    let mut pause = config.prune_interval;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = config.prune_interval;
        match shared
            .store
            .prune(shared.clock.now().wall, keep, BATCH)
            .await
        {
            Ok(pruned) => {
                if pruned.sessions.max(pruned.tombstones) == u64::from(BATCH) {
                    pause = PAUSE.min(config.prune_interval);
                }
                if pruned != Default::default() {
                    tracing::debug!(
                        sessions = pruned.sessions,
                        tombstones = pruned.tombstones,
                        "pruned"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "expired sessions could not be pruned"),
        }
    }
}
