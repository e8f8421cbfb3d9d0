//! What a hit costs among more and more sessions, which find less and less room in the processor's
//! caches.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use chart::{Axis, Chart, Corner, Series};
use foldhash::fast::RandomState;
use moka::sync::Cache;
use session_core::SessionId;
use tokio::runtime::Runtime;

use super::recipe::Recipe;
use super::{ROUNDS, SLICE};
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::{Run, measure as in_turn};
use crate::report::{Section, Table};
use crate::spread::{Spread, number};

/// What is measured, and over which.
const LINES: [(&str, Recipe, Recipe); 3] = [
    (
        "ours over the bare tower service",
        Recipe::Tower,
        Recipe::TowerBare,
    ),
    (
        "ours over the bare axum router",
        Recipe::Axum,
        Recipe::AxumBare,
    ),
    (
        "tower-sessions over the bare axum router",
        Recipe::AxumTowerSessions,
        Recipe::AxumBare,
    ),
];
const MOKA: &str = "a get of moka alone";

pub(super) fn measure(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    let sizes: &[usize] = effort.of(&[1_000, 10_000, 100_000, 1_000_000], &[1_000, 10_000]);
    let mut lines: Vec<Vec<Spread>> = vec![Vec::new(); LINES.len() + 1];
    for &sessions in sizes {
        for (line, spread) in lines.iter_mut().zip(at(runtime, effort, sessions)?) {
            line.push(spread);
        }
    }

    let names: Vec<&str> = [MOKA].into_iter().chain(LINES.map(|line| line.0)).collect();
    let mut columns = vec!["sessions".to_owned()];
    columns.extend(names.iter().map(|name| format!("{name}, ns")));
    let mut table = Table::new(columns);
    for (at, &sessions) in sizes.iter().enumerate() {
        let mut row = vec![number(sessions as f64, 0)];
        row.extend(lines.iter().map(|line| line[at].to_string()));
        table.row(row);
    }

    let highest = lines
        .iter()
        .flatten()
        .map(|it| it.median)
        .fold(0.0, f64::max);
    let chart = Chart {
        title: "What a hot hit costs, over the bare service".into(),
        x: Axis::logarithmic("sessions, asked for at random", 1e3, 1e6),
        y: Axis::logarithmic("ns", 10.0, if highest > 1e4 { 1e5 } else { 1e4 }),
        legend: Corner::LowerRight,
        series: names
            .iter()
            .zip(&lines)
            .flat_map(|(name, line)| {
                let points = || sizes.iter().zip(line).map(|(&x, y)| (x as f64, y.median));
                [Series::line(*name, points()), Series::points("", points())]
            })
            .collect(),
    };
    Ok(Section::default()
        .table("hot-curve", table)
        .chart("hot-curve", chart))
}

/// With so many sessions: moka, and each of the lines.
fn at(runtime: &Runtime, effort: Effort, sessions: usize) -> Result<Vec<Spread>, Failure> {
    let recipes = [
        Recipe::TowerBare,
        Recipe::Tower,
        Recipe::AxumBare,
        Recipe::Axum,
        Recipe::AxumTowerSessions,
    ];
    let mut contenders = vec![moka(sessions)];
    for recipe in recipes {
        contenders.push(runtime.block_on(recipe.prepare(sessions))?());
    }
    // Each session once, so that what is measured is not the first look at it.
    for contender in &mut contenders {
        (0..sessions).for_each(|_| contender());
    }
    let (rounds, slice) = (effort.of(ROUNDS, 3), effort.slice(SLICE));
    let measured = in_turn(&mut contenders, rounds, slice);
    let of = |recipe: Recipe| {
        let at = recipes.iter().position(|it| *it == recipe);
        &measured[1 + at.expect("each is measured")]
    };
    let lines = LINES.map(|(_, mine, base)| Spread::of(of(mine).over(of(base))));
    Ok([measured[0].spread()].into_iter().chain(lines).collect())
}

/// Keys and values of the size of ours.
pub(super) fn moka(sessions: usize) -> Run {
    let cache: Cache<SessionId, Arc<[u64; 40]>, RandomState> = Cache::builder()
        .max_capacity(u64::MAX)
        .time_to_live(Duration::from_secs(12 * 60 * 60))
        .build_with_hasher(RandomState::default());
    let mut ids: Vec<SessionId> = (0..sessions).map(|_| SessionId::random()).collect();
    for id in &ids {
        cache.insert(*id, Arc::new([1; 40]));
    }
    fastrand::shuffle(&mut ids);
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % ids.len();
        let value = cache.get(&ids[next]).expect("it is there");
        black_box(value[0]);
    })
}
