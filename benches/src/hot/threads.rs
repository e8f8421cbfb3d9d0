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
/// Of them.
const BARE: usize = 0;
const OURS: usize = 1;

/// What is asked of two threads; and what the bare service must do for the machine to count as one of
/// two processors.
const TWICE: f64 = 1.8;

pub(super) fn measure(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    let rounds = effort.of(301, 3);
    let slice = effort.slice(Duration::from_millis(10));
    let mut kits = Vec::new();
    for recipe in CONTENDERS {
        kits.push(runtime.block_on(recipe.prepare(SESSIONS))?);
    }
    let batches: Vec<u32> = kits.iter().map(|kit| batch(&mut kit(), slice)).collect();
    let pass = |at: usize| Pass {
        one: throughput(&kits[at], 1, batches[at]),
        two: throughput(&kits[at], 2, batches[at]),
    };
    let mut passes = vec![Vec::new(); kits.len()];
    in_turn(rounds, kits.len(), |at| {
        let before = pass(BARE).gain();
        let mine = pass(at);
        let after = pass(BARE).gain();
        passes[at].push((mine, before.min(after) >= TWICE));
    });

    let mut table = Table::new([
        "".into(),
        "one thread, requests a second".into(),
        "two threads".into(),
        "two threads : one".into(),
        format!("the same, where the bare service gains {TWICE} times just before and after"),
        "so often, of all rounds".into(),
    ]);
    let mut with_two = Vec::new();
    for (recipe, passes) in CONTENDERS.iter().zip(&passes) {
        let all =
            |figure: fn(&Pass) -> f64| Spread::of(passes.iter().map(|(pass, _)| figure(pass)));
        let chosen = passes.iter().filter(|(_, has_two)| *has_two);
        let chosen: Vec<f64> = chosen.map(|(pass, _)| pass.gain()).collect();
        let gain = (!chosen.is_empty()).then(|| Spread::of(chosen.iter().copied()));
        table.row([
            recipe.name().to_owned(),
            all(|pass| pass.one).to_string(),
            all(|pass| pass.two).to_string(),
            all(Pass::gain).shown(2, ""),
            gain.map_or(String::new(), |gain| gain.shown(2, "")),
            format!("{} of {}", chosen.len(), passes.len()),
        ]);
        with_two.push(gain);
    }
    table.target(
        "two threads do at least 1.8 times as much as one, where the bare service does so",
        &with_two[OURS].map_or("in no round".into(), |gain| gain.shown(2, " times")),
        with_two[OURS].is_some_and(|gain| gain.median >= TWICE),
    );
    Ok(Section::default().table("hot-threads", table))
}

/// Operations a second of one thread, and right after it of two.
#[derive(Clone, Copy)]
struct Pass {
    one: f64,
    two: f64,
}

impl Pass {
    fn gain(&self) -> f64 {
        self.two / self.one
    }
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
