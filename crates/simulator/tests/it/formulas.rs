//! What the formulas say is what a trace costs, at sizes where both can be had.

use std::time::Duration;

use bytesize::ByteSize;
use simulator::{Prediction, Routing, Setting, Workload, estimate, replay};
use tier_cache::TierConfig;

fn setting(workload: Workload, capacity: ByteSize) -> Setting {
    let mut config = TierConfig::default();
    config.hot.capacity = capacity;
    config.hot.ttl = Duration::from_secs(900);
    config.warm.ttl = Duration::from_secs(900);
    config.session.idle_ttl = None;
    config.warm.url = Some("redis://".into());
    config.cold.url = "postgres://".into();
    Setting::new(config, workload)
}

/// Compares, with how far apart both may be, in percent of all lookups or of themselves.
fn compare(what: &str, setting: &Setting) {
    let played = replay(setting, 1, 1800.0, 2700.0);
    let formula = estimate(setting);
    let mut text = format!("{what}\n");
    let mut far = Vec::new();
    let (a, b) = (&played, &formula);
    let all = a.lookups.all();
    for (what, played, formula, off, most) in [
        ("hot", a.lookups.hot, b.lookups.hot, all, 2.0),
        ("warm", a.lookups.warm, b.lookups.warm, all, 2.0),
        ("cold", a.lookups.cold, b.lookups.cold, all, 1.0),
        (
            "rows",
            a.sql.loaded_rows,
            b.sql.loaded_rows,
            a.sql.loaded_rows,
            10.0,
        ),
        ("polls", a.sql.poll, b.sql.poll, a.sql.poll, 5.0),
        ("GET", a.redis.get, b.redis.get, a.redis.get, 10.0),
        (
            "EVALSHA",
            a.redis.evalsha,
            b.redis.evalsha,
            a.redis.evalsha,
            10.0,
        ),
        (
            "messages",
            a.redis.messages,
            b.redis.messages,
            a.redis.messages,
            10.0,
        ),
        (
            "touched",
            a.sql.touched_rows,
            b.sql.touched_rows,
            a.sql.touched_rows,
            10.0,
        ),
        (
            "hot bytes",
            a.held.hot_bytes,
            b.held.hot_bytes,
            a.held.hot_bytes,
            10.0,
        ),
    ] {
        let off = 100.0 * (formula - played) / off;
        text +=
            &format!("  {what:<10} trace {played:>10.2} formula {formula:>10.2} {off:>6.1} %\n");
        if off.abs() > most {
            far.push(what);
        }
    }
    println!("{text}");
    assert!(far.is_empty(), "{far:?}\n{text}");
}

#[test]
fn with_room_for_all_at_random() {
    let workload = Workload::of(4000, 5);
    compare("room for all", &setting(workload, ByteSize::mib(64)));
}

#[test]
fn with_room_for_few() {
    let workload = Workload::of(4000, 5);
    compare("room for few", &setting(workload, ByteSize::kib(400)));
}

#[test]
fn sticky_with_changes_and_bodies() {
    let workload = Workload {
        routing: Routing::Sticky,
        updates: 0.5,
        revocations: 0.2,
        bodies: 0.2,
        ..Workload::of(4000, 5)
    };
    compare("sticky", &setting(workload, ByteSize::kib(400)));
}

#[test]
fn with_fewer_floors_than_changes() {
    let workload = Workload {
        revocations: 1.0,
        ..Workload::of(4000, 5)
    };
    let mut setting = setting(workload, ByteSize::mib(64));
    setting.config.fence.max_floors = 400;
    compare("few floors", &setting);
    // It is the floors that make the difference.
    let mut more = setting.clone();
    more.config.fence.max_floors = 100_000;
    assert!(estimate(&more).lookups.cold < 0.8 * estimate(&setting).lookups.cold);
}

#[test]
fn with_sessions_that_are_in_use_when_they_would_not_be_hot_any_more() {
    for routing in [Routing::Sticky, Routing::Random] {
        let workload = Workload {
            updates: 0.4,
            revocations: 0.2,
            routing,
            ..Workload::of(4000, 5)
        };
        let mut setting = setting(workload, ByteSize::mib(64));
        setting.config.hot.ttl = Duration::from_secs(450);
        setting.config.warm.ttl = Duration::from_secs(450);
        compare("in use", &setting);
        // Many of them are loaded anew.
        let Prediction { lookups, sql, .. } = estimate(&setting);
        assert!(sql.loaded_rows > 1.15 * lookups.cold, "{sql:?}");
    }
}
