//! What is counted, by the names that dashboards know.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use session_core::{SessionId, TokenKind};
use tier_cache::{Login, Tier};

use crate::support::{Cold, Service, eventually};

/// The counters and gauges so far, by name and label.
pub(crate) fn counted(snapshotter: &Snapshotter, all: &mut BTreeMap<String, f64>) {
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        match value {
            // A snapshot takes the counters back to zero.
            DebugValue::Counter(count) => *all.entry(name).or_default() += count as f64,
            DebugValue::Gauge(value) => drop(all.insert(name, value.into_inner())),
            DebugValue::Histogram(_) => {}
        }
    }
}

#[test]
fn lookups_rebuilds_statements_commands_and_sizes_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // One thread, so that this recorder is the one that all of it finds.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut all = BTreeMap::new();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let service = Service::new(Cold::postgres());
            let here = service.node().await;
            let issued = here.login(Login::guest()).await.unwrap();
            let tier = async |node: &tier_cache::Tiers<_>| {
                node.find(issued.access.clone()).await.unwrap().tier()
            };
            assert_eq!(tier(&here).await, Tier::Hot);
            let there = service.node().await;
            assert_eq!(tier(&there).await, Tier::Warm);
            service.redis().cli(&["FLUSHALL"]);
            let third = service.node().await;
            assert_eq!(tier(&third).await, Tier::Cold);
            let unknown = service.keys().mint(TokenKind::Access, SessionId::random());
            here.find(unknown).await.unwrap_err();
            here.revoke(issued.session.id()).await.unwrap();
            let other = here.login(Login::guest()).await.unwrap();
            for _ in 0..3 {
                here.refresh(&other.refresh).await.unwrap();
            }

            eventually("the gauges are set", async || {
                counted(&snapshotter, &mut all);
                all.contains_key("session_cached_entries hot")
                    // None while a node takes Redis for down, as it may on a busy machine.
                    && all.get("session_cached_bytes warm").is_some_and(|&bytes| bytes > 0.0)
                    && all["session_pushes_total heard"] >= 2.0
                    && all["session_notifications_total "] >= 1.0
                    && all["session_floors "] >= 1.0
            })
            .await;
        });
    });
    for (name, at_least) in [
        ("session_lookups_total hot", 1.0),
        ("session_lookups_total warm", 1.0),
        ("session_lookups_total cold", 1.0),
        ("session_lookups_total miss", 1.0),
        ("session_rebuilds_total ", 1.0),
        ("session_db_queries_total create", 1.0),
        ("session_db_queries_total revoke", 1.0),
        ("session_db_queries_total load", 2.0),
        ("session_db_queries_total changes", 3.0),
        ("session_redis_commands_total GET", 2.0),
        ("session_redis_commands_total EVALSHA", 2.0),
        ("session_refresh_replays_total ", 2.0),
        ("session_listen_failures_total ", 0.0),
        ("session_fence_trusting ", 1.0),
        ("session_feed_lag_seconds ", 0.0),
        ("session_cached_bytes hot", 0.0),
        ("session_cached_bytes warm", 1.0),
    ] {
        let value = all.get(name).copied();
        assert!(value >= Some(at_least), "{name}: {value:?} in {all:#?}");
    }
    assert_eq!(
        all["session_pushes_total sent"], 4.0,
        "a login is told to nobody; a revocation is, and each refresh"
    );
    let exact =
        ["hot", "warm", "cold", "miss"].map(|tier| all[&format!("session_lookups_total {tier}")]);
    assert_eq!(exact, [1.0; 4]);
}
