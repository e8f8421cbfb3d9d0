//! What the tiers count, through the `metrics` facade.
//!
//! Handles are taken once, when the tiers start: install the recorder before that.

use metrics::{Counter, Gauge, Label, counter, describe_counter, describe_gauge, gauge};

use crate::config::Namespace;

#[derive(Clone)]
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "there is no warm tier to count")
)]
pub(crate) struct Metrics {
    /// For what is counted here and there, and by names that are not known beforehand.
    pub(crate) meter: Meter,
    pub(crate) hot_hits: Counter,
    pub(crate) warm_hits: Counter,
    pub(crate) cold_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) rebuilds: Counter,
    pub(crate) gate_refusals: Counter,
    pub(crate) shed: Counter,
    pub(crate) lease_waits: Counter,
    pub(crate) blind_hits: Counter,
    pub(crate) fills_dropped: Counter,
    pub(crate) refresh_replays: Counter,
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
    pub(crate) fn new(meter: Meter) -> Self {
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
            "session_shed_total",
            "Requests that were refused at once, since too many were waiting."
        );
        describe_counter!(
            "session_blind_hits_total",
            "Hot sessions served past the staleness bound, as fence.on_blind says."
        );
        describe_counter!(
            "session_lease_waits_total",
            "Loads that waited for another node that was loading the same session."
        );
        describe_counter!(
            "session_fills_dropped_total",
            "Sessions that were not kept in the warm tier, since too many were waiting."
        );
        describe_counter!(
            "session_refresh_replays_total",
            "Refresh tokens that came again within session.refresh_grace."
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
        describe_gauge!(
            "session_circuit_state",
            "Whether a server is asked: 0 closed, it is; 1 half-open, to see; 2 open, it is not."
        );
        describe_gauge!("session_floors", "Floors that the fence holds.");
        // So that a scrape shows them before the first of each has happened.
        for op in [
            "load",
            "load_replica",
            "load_many",
            "recent",
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
            meter.db_query(op).increment(0);
        }
        for command in ["GET", "SET", "EVALSHA", "PING"] {
            meter.redis_command(command).increment(0);
        }
        meter.notifications().increment(0);
        meter.listen_failures().increment(0);
        meter.touches().increment(0);
        meter.touches_dropped().increment(0);
        let lookups = |tier| meter.counter("session_lookups_total", Some(("tier", tier)));
        let pushes = |way| meter.counter("session_pushes_total", Some(("direction", way)));
        let count = |name| meter.counter(name, None);
        let show = |name| meter.gauge(name, None);
        Self {
            hot_hits: lookups("hot"),
            warm_hits: lookups("warm"),
            cold_hits: lookups("cold"),
            misses: lookups("miss"),
            rebuilds: count("session_rebuilds_total"),
            gate_refusals: count("session_gate_refusals_total"),
            shed: count("session_shed_total"),
            blind_hits: count("session_blind_hits_total"),
            lease_waits: count("session_lease_waits_total"),
            fills_dropped: count("session_fills_dropped_total"),
            refresh_replays: count("session_refresh_replays_total"),
            warm_unreadable: count("session_warm_unreadable_total"),
            warm_errors: count("session_warm_errors_total"),
            pushes_sent: pushes("sent"),
            pushes_heard: pushes("heard"),
            polls_failed: count("session_feed_failures_total"),
            feed_lag: show("session_feed_lag_seconds"),
            trusting: show("session_fence_trusting"),
            floors: show("session_floors"),
            meter,
        }
    }
}

/// Where things are counted: in a namespace under its label, so that several in one process are told
/// apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    namespace: Option<Namespace>,
}

impl Meter {
    pub(crate) fn of(namespace: Option<&Namespace>) -> Self {
        Self {
            namespace: namespace.cloned(),
        }
    }

    pub(crate) fn db_query(&self, op: &'static str) -> Counter {
        self.counter("session_db_queries_total", Some(("op", op)))
    }

    pub(crate) fn redis_command(&self, command: &'static str) -> Counter {
        self.counter("session_redis_commands_total", Some(("command", command)))
    }

    pub(crate) fn notifications(&self) -> Counter {
        self.counter("session_notifications_total", None)
    }

    pub(crate) fn listen_failures(&self) -> Counter {
        self.counter("session_listen_failures_total", None)
    }

    pub(crate) fn touches(&self) -> Counter {
        self.counter("session_touches_total", None)
    }

    pub(crate) fn touches_dropped(&self) -> Counter {
        self.counter("session_touches_dropped_total", None)
    }

    pub(crate) fn cached(&self, tier: &'static str, entries: u64, bytes: u64) {
        let show = |name| self.gauge(name, Some(("tier", tier)));
        show("session_cached_entries").set(entries as f64);
        show("session_cached_bytes").set(bytes as f64);
    }

    pub(crate) fn circuit(&self, of: &'static str) -> Gauge {
        self.gauge("session_circuit_state", Some(("of", of)))
    }

    fn counter(&self, name: &'static str, label: Option<(&'static str, &'static str)>) -> Counter {
        counter!(name, self.labels(label))
    }

    fn gauge(&self, name: &'static str, label: Option<(&'static str, &'static str)>) -> Gauge {
        gauge!(name, self.labels(label))
    }

    fn labels(&self, label: Option<(&'static str, &'static str)>) -> Vec<Label> {
        let label = label.map(|(key, value)| Label::from_static_parts(key, value));
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|name| Label::new("namespace", name.to_string()));
        label.into_iter().chain(namespace).collect()
    }
}
