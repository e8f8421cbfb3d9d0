//! What a prediction is made of.

use std::time::Duration;

use tier_cache::{Holds, TierConfig};

use crate::sizes;
use crate::workload::Workload;

/// A configuration, a workload, and what is assumed of the servers.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How sessions are kept.
    pub config: TierConfig,
    /// What is asked of them.
    pub workload: Workload,
    /// How long a statement that loads sessions takes.
    pub statement: Duration,
    /// How often each node writes down uses: a second, in the tiers as they are.
    pub touches_every: Duration,
    /// Whether time passes for moka and Redis: not where a trace is played on a clock that only the tiers
    /// read.
    pub caches_age: bool,
}

impl Setting {
    /// The tiers as they are, and a database that answers within 2 ms.
    pub fn new(config: TierConfig, workload: Workload) -> Self {
        Self {
            config,
            workload,
            statement: Duration::from_millis(2),
            touches_every: Duration::from_secs(1),
            caches_age: true,
        }
    }

    pub(crate) fn has_warm(&self) -> bool {
        self.config.warm.url.is_some()
    }

    pub(crate) fn has_leases(&self) -> bool {
        self.has_warm() && !self.config.warm.lease.is_zero()
    }

    pub(crate) fn warm_holds_all(&self) -> bool {
        self.config.warm.holds == Holds::Full
    }

    /// Whether the feed asks as soon as the database tells of a change.
    pub(crate) fn is_notified(&self) -> bool {
        self.config.cold.notify && self.config.cold.url.starts_with("postgres")
    }

    /// Sessions that have no use for so many seconds end.
    pub(crate) fn idle(&self) -> Option<f64> {
        let idle = self.config.session.idle_ttl?;
        Some((idle + self.lateness()).as_secs_f64())
    }

    /// How late a use may be noted: `tier-cache/src/touch.rs`.
    pub(crate) fn lateness(&self) -> Duration {
        self.config.session.touch_interval + Duration::from_secs(2)
    }

    /// When a cache removes what ends then.
    pub(crate) fn removed_at(&self, ends: f64) -> f64 {
        if self.caches_age { ends } else { f64::INFINITY }
    }

    /// Bytes that moka counts for a session.
    pub(crate) fn weight(&self, whole: bool) -> u32 {
        let Workload { data, device, .. } = self.workload;
        let known = if device > 0 { sizes::DEVICE } else { 0 };
        let body = data + device + known;
        sizes::HOT_ENTRY + self.workload.name + if whole { body } else { 0 }
    }

    /// Bytes that Redis takes for a session, its copies under foreign keys not among them.
    pub(crate) fn record(&self) -> f64 {
        let body = self.workload.data + self.workload.device;
        let body = if self.warm_holds_all() { body } else { 0 };
        sizes::WARM_RECORD + f64::from(self.workload.name + body)
    }

    /// How many rows the database holds: sessions that can be accepted, and those that are over and not
    /// yet removed.
    pub(crate) fn rows(&self, begun: f64) -> f64 {
        let kept = self.config.session.ttl + self.config.cold.expired_retention;
        self.workload.sessions as f64 + begun * kept.as_secs_f64()
    }
}
