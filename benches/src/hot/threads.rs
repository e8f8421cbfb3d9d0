//! Whether two threads do twice as much as one.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::SESSIONS;
use super::recipe::{Kit, Recipe};
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::{Run, batch, in_turn, uncounted};
use crate::report::{Section, Table};
use crate::spread::Spread;

const CONTENDERS: [Recipe; 3] = [Recipe::TowerBare, Recipe::Tower, Recipe::TowerByHand];

pub(super) fn measure(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    let rounds = effort.of(51, 3);
    let slice = effort.slice(Duration::from_millis(50));
    let mut kits = Vec::new();
    for recipe in CONTENDERS {
        kits.push(runtime.block_on(recipe.prepare(SESSIONS))?);
    }
    let batches: Vec<u32> = kits.iter().map(|kit| batch(&mut kit(), slice)).collect();
    let mut one = vec![Vec::new(); kits.len()];
    let mut two = vec![Vec::new(); kits.len()];
    in_turn(rounds, kits.len(), |at| {
        one[at].push(throughput(&kits[at], 1, batches[at]));
        two[at].push(throughput(&kits[at], 2, batches[at]));
    });

    let mut table = Table::new([
        "",
        "one thread, requests a second",
        "two threads",
        "two threads : one",
    ]);
    for (at, recipe) in CONTENDERS.iter().enumerate() {
        table.row([
            recipe.name().to_owned(),
            Spread::of(one[at].iter().copied()).to_string(),
            Spread::of(two[at].iter().copied()).to_string(),
            Spread::ratio(&two[at], &one[at]).shown(2, ""),
        ]);
    }
    let scales = Spread::ratio(&two[1], &one[1]);
    table.target(
        "two threads do at least 1.8 times as much as one",
        &scales.shown(2, " times"),
        scales.median >= 1.8,
    );
    Ok(Section::default().table("hot-threads", table))
}

/// Operations a second of so many threads, each of which does `batch` of them with a service of its
/// own.
fn throughput(kit: &Kit, threads: usize, batch: u32) -> f64 {
    let start = Barrier::new(threads + 1);
    let runs: Vec<Run> = (0..threads).map(|_| kit()).collect();
    let seconds = thread::scope(|scope| {
        let workers: Vec<_> = runs
            .into_iter()
            .map(|mut run| {
                let start = &start;
                scope.spawn(move || {
                    (0..1000).for_each(|_| run());
                    start.wait();
                    let begun = Instant::now();
                    uncounted(|| (0..batch).for_each(|_| run()));
                    begun.elapsed().as_secs_f64()
                })
            })
            .collect();
        start.wait();
        let seconds = workers.into_iter().map(|worker| worker.join());
        let seconds = seconds.map(|seconds| seconds.expect("no request fails"));
        seconds.fold(0.0, f64::max)
    });
    threads as f64 * f64::from(batch) / seconds
}
