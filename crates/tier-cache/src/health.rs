//! What each tier can do just now, for health checks.

use std::time::Duration;

use serde::Serialize;

use crate::data::SessionData;
use crate::tiers::Shared;

/// What each tier can do just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether caches may be served: the database was heard of within the staleness bound.
    pub trusting: bool,
    /// The warm tier; `None` if there is none by configuration.
    pub warm: Option<WarmHealth>,
    /// The kind of cold store.
    pub cold: &'static str,
    /// Milliseconds since the start of the last successful poll of the feed; `None` before the
    /// first.
    pub feed_lag_ms: Option<u64>,
    /// Floors that the fence holds.
    pub floors: usize,
}

/// What the warm tier can do just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmHealth {
    /// Redis answers.
    Up,
    /// Redis does not answer; the cold tier takes its part.
    Down,
}

impl Health {
    pub(crate) fn of<D: SessionData>(shared: &Shared<D>) -> Self {
        let now = shared.clock.now().moment;
        let warm = shared.warm.as_ref().map(|warm| match warm.is_up() {
            true => WarmHealth::Up,
            false => WarmHealth::Down,
        });
        let lag = shared.feed_lag(now);
        Self {
            trusting: shared.fence.trusts(now),
            warm,
            cold: shared.store.kind(),
            feed_lag_ms: lag.map(|lag: Duration| lag.as_millis() as u64),
            floors: shared.fence.floors(),
        }
    }

    /// Whether the node can answer for sessions: it hears of the database.
    pub fn is_ready(&self) -> bool {
        self.trusting
    }
}
