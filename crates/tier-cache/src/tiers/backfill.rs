//! Backfill: a task writes what was loaded from the database to the warm tier, so that no request waits
//! for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use session_core::Lineage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::data::SessionData;
use crate::warm::{Warm, WarmRecord};

/// A record for the warm tier, and its time to live.
pub(crate) struct Fill {
    pub(super) record: WarmRecord,
    pub(super) lineage: Lineage,
    pub(super) ttl: Duration,
}

impl Fill {
    pub(super) async fn send(&self, warm: &Warm) {
        warm.fill(&self.record, self.lineage, self.ttl).await;
    }
}

/// Creates the queue of the task. A record that finds the queue full is dropped; its session is loaded
/// from the database once more.
pub(super) fn channel() -> (mpsc::Sender<Fill>, mpsc::Receiver<Fill>) {
    /// Enough for a burst of loads while Redis is slow.
    const WAITING: usize = 16_384;
    mpsc::channel(WAITING)
}

/// Writes records until `stop`. Records that are queued then are dropped.
pub(super) async fn run<D: SessionData>(
    shared: Arc<Shared<D>>,
    mut left: mpsc::Receiver<Fill>,
    stop: CancellationToken,
) {
    /// The number of records in one pipeline.
    const PIPELINED: usize = 256;
    let Some(warm) = &shared.warm else { return };
    let mut fills = Vec::with_capacity(PIPELINED);
    let filling = async {
        while left.recv_many(&mut fills, PIPELINED).await > 0 {
            join_all(fills.iter().map(|fill: &Fill| fill.send(warm))).await;
            fills.clear();
        }
    };
    stop.run_until_cancelled(filling).await;
}
