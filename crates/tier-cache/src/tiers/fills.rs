//! Filling the warm tier with what the cold one gave, behind the requests' backs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use session_core::Lineage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::data::SessionData;
use crate::warm::{Warm, WarmRecord};

/// What is to be kept in the warm tier, and for how long.
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

/// Where fills are left. What finds no room is left out: the session is loaded once more than it
/// need be.
pub(super) fn channel() -> (mpsc::Sender<Fill>, mpsc::Receiver<Fill>) {
    /// As many as a storm of loads leaves while Redis takes its time.
    const WAITING: usize = 16_384;
    mpsc::channel(WAITING)
}

/// Fills until `stop`; what is left then is left out.
pub(super) async fn run<D: SessionData>(
    shared: Arc<Shared<D>>,
    mut left: mpsc::Receiver<Fill>,
    stop: CancellationToken,
) {
    /// Sent at once, in one pipeline; the answers are waited for together.
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
