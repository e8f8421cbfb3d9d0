//! What each tier can do just now, for health checks.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::circuit::CircuitState;
use crate::data::SessionData;
use crate::tiers::Shared;

/// What each tier can do just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Up while caches may be served: the database was heard of within the staleness bound.
    pub hot: TierState,
    /// Up while Redis answers; while it does not, the cold tier takes its part.
    pub warm: TierState,
    /// Up if the database answered when the feed asked it last.
    pub cold: TierState,
    /// Up if the last load of a session from the database succeeded. While it is down, the node tries a
    /// load every `fence.poll_interval`.
    pub loads: TierState,
    /// Whether Redis is asked.
    pub warm_circuit: CircuitState,
    /// Whether the database is asked for sessions; the feed asks it in any case.
    pub cold_circuit: CircuitState,
    /// The kind of cold store.
    pub store: &'static str,
    /// Milliseconds since the start of the last successful poll of the feed; `None` before the
    /// first.
    pub feed_lag_ms: Option<u64>,
    /// Floors that the fence holds.
    pub floors: usize,
}

/// What a tier can do just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TierState {
    /// It serves.
    Up,
    /// It does not serve just now.
    Down,
    /// There is none, by configuration.
    Off,
}

impl TierState {
    fn of(up: bool) -> Self {
        if up { Self::Up } else { Self::Down }
    }
}

impl Health {
    pub(crate) fn of<D: SessionData>(shared: &Shared<D>) -> Self {
        let now = shared.clock.now().moment;
        let warm = shared.warm.as_ref();
        let lag = shared.feed_lag(now);
        Self {
            hot: TierState::of(shared.fence.trusts(now)),
            warm: warm.map_or(TierState::Off, |warm| TierState::of(warm.is_up())),
            cold: TierState::of(shared.heard.load(Ordering::Relaxed)),
            loads: TierState::of(shared.cold_loader.succeed()),
            warm_circuit: warm.map_or(CircuitState::Closed, |warm| warm.circuit()),
            cold_circuit: shared.cold_loader.circuit().state(),
            store: shared.store.kind(),
            feed_lag_ms: lag.map(|lag| lag.as_millis() as u64),
            floors: shared.fence.floors(),
        }
    }

    /// Whether caches may be served: the node hears of the database.
    pub fn is_trusting(&self) -> bool {
        self.hot == TierState::Up
    }

    /// Whether to send requests to this node: it can answer for sessions, also for those that it does not
    /// have in memory.
    pub fn is_ready(&self) -> bool {
        self.loads == TierState::Up && (self.is_trusting() || self.cold == TierState::Up)
    }
}
