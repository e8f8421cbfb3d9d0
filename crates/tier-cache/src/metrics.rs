//! What the tiers count, through the `metrics` facade.
//!
//! Handles are taken once, when the tiers start: install the recorder before that.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

#[derive(Clone)]
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "there is no warm tier to count")
)]
pub(crate) struct Metrics {
    pub(crate) hot_hits: Counter,
    pub(crate) warm_hits: Counter,
    pub(crate) cold_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) rebuilds: Counter,
    pub(crate) gate_refusals: Counter,
    pub(crate) warm_unreadable: Counter,
    pub(crate) warm_errors: Counter,
    pub(crate) pushes_sent: Counter,
    pub(crate) pushes_heard: Counter,
    pub(crate) polls_failed: Counter,
    pub(crate) feed_lag: Gauge,
    pub(crate) trusting: Gauge,
    pub(crate) floors: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "session_lookups_total",
            "Sessions looked up, by the tier that answered; miss: no tier had it."
        );
        describe_counter!(
            "session_rebuilds_total",
            "Sessions rebuilt from a warm head alone."
        );
        describe_counter!(
            "session_db_queries_total",
            "SQL operations sent to the cold tier."
        );
        describe_counter!(
            "session_redis_commands_total",
            "Commands sent to the warm tier."
        );
        describe_counter!(
            "session_gate_refusals_total",
            "Cached or read records that the fence did not admit."
        );
        describe_counter!(
            "session_warm_unreadable_total",
            "Warm records of an unknown format, damaged or forged."
        );
        describe_counter!(
            "session_warm_errors_total",
            "Warm tier commands that failed or timed out."
        );
        describe_counter!(
            "session_pushes_total",
            "Changes pushed through the warm tier, sent and heard."
        );
        describe_counter!(
            "session_feed_failures_total",
            "Polls of the change feed that failed."
        );
        describe_counter!(
            "session_notifications_total",
            "Notifications of the database that sessions changed; the feed then asks at once."
        );
        describe_counter!(
            "session_listen_failures_total",
            "Connections for such notifications that failed, or could not be made."
        );
        describe_counter!(
            "session_touches_total",
            "Sessions whose last use was noted in the database."
        );
        describe_counter!(
            "session_touches_dropped_total",
            "Uses that were not noted, since too many were waiting."
        );
        describe_gauge!("session_cached_entries", "Sessions held, by tier.");
        describe_gauge!("session_cached_bytes", "Bytes held, by tier.");
        describe_gauge!(
            "session_feed_lag_seconds",
            "Time since the start of the last successful poll of the feed."
        );
        describe_gauge!(
            "session_fence_trusting",
            "1 while caches may be served, 0 while the node is blind."
        );
        describe_gauge!("session_floors", "Floors that the fence holds.");
        // So that a scrape shows them before the first of each has happened.
        for op in [
            "load",
            "load_replica",
            "load_many",
            "version",
            "create",
            "update",
            "revoke",
            "revoke_all",
            "list",
            "changes",
            "touch",
            "prune",
        ] {
            db_query(op).increment(0);
        }
        for command in ["GET", "EVALSHA", "PING"] {
            redis_command(command).increment(0);
        }
        notifications().increment(0);
        listen_failures().increment(0);
        touches().increment(0);
        touches_dropped().increment(0);
        Self {
            hot_hits: counter!("session_lookups_total", "tier" => "hot"),
            warm_hits: counter!("session_lookups_total", "tier" => "warm"),
            cold_hits: counter!("session_lookups_total", "tier" => "cold"),
            misses: counter!("session_lookups_total", "tier" => "miss"),
            rebuilds: counter!("session_rebuilds_total"),
            gate_refusals: counter!("session_gate_refusals_total"),
            warm_unreadable: counter!("session_warm_unreadable_total"),
            warm_errors: counter!("session_warm_errors_total"),
            pushes_sent: counter!("session_pushes_total", "direction" => "sent"),
            pushes_heard: counter!("session_pushes_total", "direction" => "heard"),
            polls_failed: counter!("session_feed_failures_total"),
            feed_lag: gauge!("session_feed_lag_seconds"),
            trusting: gauge!("session_fence_trusting"),
            floors: gauge!("session_floors"),
        }
    }
}

pub(crate) fn db_query(op: &'static str) -> Counter {
    counter!("session_db_queries_total", "op" => op)
}

pub(crate) fn redis_command(command: &'static str) -> Counter {
    counter!("session_redis_commands_total", "command" => command)
}

pub(crate) fn notifications() -> Counter {
    counter!("session_notifications_total")
}

pub(crate) fn listen_failures() -> Counter {
    counter!("session_listen_failures_total")
}

pub(crate) fn touches() -> Counter {
    counter!("session_touches_total")
}

pub(crate) fn touches_dropped() -> Counter {
    counter!("session_touches_dropped_total")
}

pub(crate) fn cached(tier: &'static str, entries: u64, bytes: u64) {
    gauge!("session_cached_entries", "tier" => tier).set(entries as f64);
    gauge!("session_cached_bytes", "tier" => tier).set(bytes as f64);
}
