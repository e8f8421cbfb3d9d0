//! How much each tier holds.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tier_cache::{ByteSize, TierState};

use crate::cli::{Place, Stats};
use crate::failure::Failure;
use crate::opening::{config, open_without_key, redis};
use crate::output::{lineage, print};

pub(crate) async fn run(place: &Place, asked: Stats) -> Result<(), Failure> {
    let config = config(place)?;
    let redis = redis(&config);
    let tiers = open_without_key(config).await?;
    let stats = tiers.stats().await?;
    match asked.json {
        true => print(&format!("{:#}", json(&stats))),
        false => print(&text(&stats, &redis)),
    }
}

fn text(stats: &tier_cache::Stats, redis: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16} {value}");
    };
    line(
        "database",
        format!("{}, {}", state(stats.health.cold), stats.health.store),
    );
    if let Some(store) = &stats.store {
        line(
            "  live",
            format!("{}, {} of them guests'", store.live, store.guests),
        );
        line("  users", format!("{} with a live session", store.users));
        line("  revoked", store.revoked.to_string());
        line("  expired", store.expired.to_string());
        line("  idle", format!("{}, not used for too long", store.idle));
        line(
            "  tombstones",
            format!(
                "{} of deleted sessions, complete since mark {}",
                store.tombstones, store.tombstones_since
            ),
        );
        line(
            "  feed",
            format!("mark {}, lineage {}", store.mark, lineage(store.lineage)),
        );
    }
    line("Redis", format!("{}, {redis}", state(stats.health.warm)));
    if let Some(warm) = &stats.warm {
        let unknown = || "not permitted to count".to_owned();
        let least = if warm.complete { "" } else { " at least" };
        let records = warm.sessions.zip(warm.copies);
        line(
            "  records",
            records.map_or_else(unknown, |(sessions, copies)| {
                format!("{sessions}{least}, and {copies}{least} copies under foreign keys")
            }),
        );
        line(
            "  keys",
            warm.keys.map_or_else(unknown, |keys| {
                format!("{keys} in the whole database, others' too")
            }),
        );
        let most = warm
            .max_memory
            .map(|most| format!(" of {}", ByteSize(most)));
        line(
            "  memory",
            warm.memory.map_or_else(unknown, |bytes| {
                format!("{}{}", ByteSize(bytes), most.unwrap_or_default())
            }),
        );
        line(
            "  listeners",
            warm.listeners.map_or_else(unknown, |count| {
                format!("{} nodes, beside this command", count.saturating_sub(1))
            }),
        );
    }
    line("hot", "the nodes' own; their metrics tell of it".into());
    text
}

fn state(state: TierState) -> &'static str {
    match state {
        TierState::Up => "up",
        TierState::Down => "down",
        TierState::Off => "off",
    }
}

fn json(stats: &tier_cache::Stats) -> Value {
    let store = stats.store.map(|store| {
        json!({
            "live": store.live,
            "guests": store.guests,
            "users": store.users,
            "revoked": store.revoked,
            "expired": store.expired,
            "idle": store.idle,
            "tombstones": store.tombstones,
            "tombstones_since": store.tombstones_since,
            "mark": store.mark,
            "lineage": lineage(store.lineage),
        })
    });
    let warm = stats.warm.map(|warm| {
        json!({
            "records": warm.sessions,
            "copies": warm.copies,
            "complete": warm.complete,
            "keys": warm.keys,
            "memory": warm.memory,
            "max_memory": warm.max_memory,
            "listeners": warm.listeners.map(|count| count.saturating_sub(1)),
        })
    });
    json!({
        "at": stats.at,
        "database": store,
        "redis": warm,
        "health": {
            "database": stats.health.cold,
            "redis": stats.health.warm,
            "store": stats.health.store,
            "feed_lag_ms": stats.health.feed_lag_ms,
            "floors": stats.health.floors,
        },
    })
}
