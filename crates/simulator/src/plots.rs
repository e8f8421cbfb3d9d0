//! The pictures of `docs/scaling.md`, as SVG. Lines are by formulas, points by traces.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use chart::{Axis, Chart, Corner, Series};
use tier_cache::TierConfig;

use crate::{Prediction, Routing, Setting, Workload, estimate, replay};

/// Sessions of the largest service, and its nodes.
const SESSIONS: u64 = 100_000_000;
const NODES: u32 = 1000;

/// What of a prediction is drawn.
type Count = fn(&Prediction) -> f64;

/// Writes them all to a folder.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    for (name, chart) in [
        ("scaling-hit-rates", hit_rates()),
        ("scaling-statements", statements()),
        ("scaling-redis", redis()),
        ("scaling-memory", memory()),
        ("scaling-changes", changes()),
    ] {
        fs::write(folder.join(format!("{name}.svg")), chart.svg()?)?;
    }
    Ok(())
}

fn setting(workload: Workload) -> Setting {
    let mut config = TierConfig::default();
    config.cold.url = "postgres://".into();
    config.warm.url = Some("redis://".into());
    Setting::new(config, workload)
}

/// Numbers from one to another, in equal ratios.
fn ratios(from: f64, to: f64, count: i32) -> impl Iterator<Item = f64> {
    (0..=count).map(move |at| from * (to / from).powf(f64::from(at) / f64::from(count)))
}

fn hit_rates() -> Chart {
    const FEW: u64 = 10_000;
    let hot = |prediction: &Prediction| 100.0 * prediction.lookups.hot / prediction.lookups.all();
    let with = |routing, capacity: f64| {
        let mut setting = setting(Workload {
            routing,
            ..Workload::of(FEW, 10)
        });
        setting.config.hot.capacity = ByteSize::b(capacity as u64);
        setting
    };
    const MIB: f64 = 1024.0 * 1024.0;
    let mut series = Vec::new();
    for (routing, name) in [(Routing::Sticky, "sticky"), (Routing::Random, "at random")] {
        let line = ratios(0.1 * MIB, 10.0 * MIB, 60)
            .map(|capacity| (capacity / MIB, hot(&estimate(&with(routing, capacity)))));
        let points = ratios(0.1 * MIB, 10.0 * MIB, 6).map(|capacity| {
            let played = replay(&with(routing, capacity), 1, 7200.0, 3600.0);
            (capacity / MIB, hot(&played))
        });
        series.push(Series::line(format!("{name}, by formulas"), line));
        series.push(Series::points(format!("{name}, by a trace"), points));
    }
    Chart {
        title: "Requests that a node answers with no I/O".into(),
        x: Axis::logarithmic("hot.capacity, MiB (10,000 sessions, 10 nodes)", 0.1, 10.0),
        y: Axis::linear("hot hits, % of all requests", (0.0, 100.0), 20.0),
        legend: Corner::LowerRight,
        series,
    }
}

/// A service of so many nodes, each of which has the same share of requests.
fn of_nodes(nodes: f64) -> Prediction {
    estimate(&setting(Workload::of(
        (SESSIONS as f64 * nodes / f64::from(NODES)) as u64,
        nodes as u32,
    )))
}

fn over_nodes(count: Count) -> impl Iterator<Item = (f64, f64)> {
    ratios(1.0, NODES.into(), 36).map(move |nodes| {
        let nodes = nodes.round();
        (nodes, count(&of_nodes(nodes)))
    })
}

fn statements() -> Chart {
    let kinds: [(&str, Count); 5] = [
        ("all", |p| p.sql.all()),
        ("loads", |p| p.sql.load),
        ("polls of the feed", |p| p.sql.poll),
        ("writes, with reading back", |p| {
            p.sql.write + p.sql.read_back
        }),
        ("touches", |p| p.sql.touch),
    ];
    Chart {
        title: "What the database is asked".into(),
        x: Axis::logarithmic(
            "nodes (100,000 sessions each, requests at random)",
            1.0,
            NODES.into(),
        ),
        y: Axis::logarithmic("statements per second", 0.1, 1e6),
        legend: Corner::UpperLeft,
        series: lines(&kinds),
    }
}

fn redis() -> Chart {
    let kinds: [(&str, Count); 4] = [
        ("messages to listeners", |p| p.redis.messages),
        ("GET", |p| p.redis.get),
        ("EVALSHA (records)", |p| p.redis.evalsha),
        ("heartbeats", |p| p.redis.upkeep),
    ];
    Chart {
        title: "What Redis is asked, and tells".into(),
        x: Axis::logarithmic(
            "nodes (100,000 sessions each, requests at random)",
            1.0,
            NODES.into(),
        ),
        y: Axis::logarithmic("commands and messages per second", 0.1, 1e7),
        legend: Corner::UpperLeft,
        series: lines(&kinds),
    }
}

fn lines(kinds: &[(&str, Count)]) -> Vec<Series> {
    kinds
        .iter()
        .map(|&(name, count)| Series::line(name, over_nodes(count)))
        .collect()
}

fn memory() -> Chart {
    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
    let over_sessions = |bytes: fn(&Prediction) -> f64, routing: Routing| {
        ratios(1e4, SESSIONS as f64, 32).map(move |sessions| {
            let mut setting = setting(Workload {
                routing,
                ..Workload::of(sessions as u64, 100)
            });
            setting.config.hot.capacity = ByteSize::tib(1);
            setting.config.fence.max_floors = usize::MAX;
            (sessions, bytes(&estimate(&setting)) / GIB)
        })
    };
    Chart {
        title: "What it takes to hold all that is used within an hour".into(),
        x: Axis::logarithmic("sessions", 1e4, SESSIONS as f64),
        y: Axis::logarithmic("GiB", 1e-4, 1e4),
        legend: Corner::UpperLeft,
        series: vec![
            Series::line(
                "database, with what is over",
                over_sessions(|p| p.held.row_bytes, Routing::Random),
            ),
            Series::line(
                "Redis",
                over_sessions(|p| p.held.warm_bytes, Routing::Random),
            ),
            Series::line(
                "hot, each of 100 nodes, at random",
                over_sessions(|p| p.held.hot_bytes, Routing::Random),
            ),
            Series::line(
                "hot, each of 100 nodes, sticky",
                over_sessions(|p| p.held.hot_bytes, Routing::Sticky),
            ),
        ],
    }
}

fn changes() -> Chart {
    let polls = |notify: bool, interval: Duration| {
        ratios(0.1, 1000.0, 60).map(move |changes| {
            let mut setting = setting(Workload {
                revocations: changes,
                updates: 0.0,
                ..Workload::of(SESSIONS, NODES)
            });
            setting.config.cold.notify = notify;
            setting.config.fence.poll_interval = interval;
            (changes, estimate(&setting).sql.poll)
        })
    };
    let second = Duration::from_secs(1);
    Chart {
        title: "What a revocation costs where all nodes are told".into(),
        x: Axis::logarithmic(
            "revocations and changes per second (1,000 nodes)",
            0.1,
            1000.0,
        ),
        y: Axis::logarithmic("polls of the feed per second", 100.0, 1e5),
        legend: Corner::UpperLeft,
        series: vec![
            Series::line("notify = true", polls(true, second)),
            Series::line("notify = false", polls(false, second)),
            Series::line(
                "notify = false, poll_interval = 2.5s",
                polls(false, 5 * second / 2),
            ),
        ],
    }
}
