//! What a hot hit takes at worst, while all kinds of other things go on in the same node.
//!
//! One thread asks for one hot session after the other through the layer, and notes what each call
//! took: by the clock, in which the system may have run something else meanwhile, and by the
//! processor time of the thread, in which it may not. The rest of the node runs on another thread;
//! PostgreSQL and Redis are on the same machine, so that what they do takes its share of it.

mod bed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::runtime::Builder;

use self::bed::Bed;
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::{in_turn, uncounted};
use crate::report::{Section, Table};
use crate::spread::{Spread, number};

/// What goes on beside the hits.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    /// Another node changes 300 sessions a second, so that this one raises floors.
    Floors,
    /// Of a hundred requests one is for a session that is nowhere but in the database; each drives
    /// another out of the hot tier, which is full.
    Misses,
    /// 10,000 sessions are asked for at once, which are neither hot nor warm; again and again.
    Storms,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nothing, Self::Floors, Self::Misses, Self::Storms];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Floors => "another node changes sessions, and floors are raised",
            Self::Misses => "sessions are missed, and drive others out",
            Self::Storms => "10,000 sessions at once are neither hot nor warm",
        }
    }
}

/// What the calls of a slice took, in nanoseconds.
struct Took {
    clock: Histogram<u64>,
    processor: Histogram<u64>,
    /// Of what went on beside, in a second.
    others: f64,
}

impl Took {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 1 << 40, 3).expect("some minutes");
        Self {
            clock: histogram(),
            processor: histogram(),
            others: 0.0,
        }
    }
}

/// Quantiles, and what the table calls them.
const PARTS: [(f64, &str); 4] = [
    (0.5, "p50"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let slice = effort.slice(Duration::from_secs(3));
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bed = Arc::new(runtime.block_on(Bed::start())?);
    let _guard = runtime.enter();
    let mut took: [Vec<Took>; Beside::ALL.len()] = Default::default();
    let mut failed = None;
    in_turn(effort.of(7, 1), took.len(), |at| {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = runtime.spawn(Arc::clone(&bed).work(Beside::ALL[at], Arc::clone(&stop)));
        let mut hits = uncounted(|| bed.hit(slice));
        stop.store(true, Ordering::SeqCst);
        match runtime.block_on(busy) {
            Ok(done) => hits.others = done as f64 / slice.as_secs_f64(),
            Err(error) => failed = Some(error),
        }
        took[at].push(hits);
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Section::default()
            .table("tail", table(&took, |took| &took.clock))
            .table("tail-processor", table(&took, |took| &took.processor))),
    }
}

/// Each quantile, and its ratio to that with nothing beside in the same round.
fn table(took: &[Vec<Took>], of: fn(&Took) -> &Histogram<u64>) -> Table {
    let mut columns = vec!["beside".to_owned(), "others a second".to_owned()];
    columns.extend(
        PARTS
            .iter()
            .flat_map(|(_, name)| [format!("{name}, ns"), "ratio".to_owned()]),
    );
    let mut table = Table::new(columns);
    let quantiles = |took: &[Took], part: f64| -> Vec<f64> {
        let each = took.iter().map(|took| of(took).value_at_quantile(part));
        each.map(|nanos| nanos as f64).collect()
    };
    for (beside, rounds) in Beside::ALL.iter().zip(took) {
        let others = Spread::of(rounds.iter().map(|took| took.others));
        let mut row = vec![beside.name().to_owned(), number(others.median, 0)];
        for (part, _) in PARTS {
            let (mine, quiet) = (quantiles(rounds, part), quantiles(&took[0], part));
            row.push(number(Spread::of(mine.iter().copied()).median, 0));
            row.push(Spread::ratio(&mine, &quiet).shown(2, ""));
        }
        table.row(row);
        if !matches!(beside, Beside::Nothing) {
            let ratio = |part| {
                let (mine, quiet) = (quantiles(rounds, part), quantiles(&took[0], part));
                Spread::ratio(&mine, &quiet)
            };
            let (p99, p999) = (ratio(0.99), ratio(0.999));
            table.target(
                &format!(
                    "p99 and p99.9 at most twice the quiet ones while {}",
                    beside.name()
                ),
                &format!("{} and {}", p99.shown(2, ""), p999.shown(2, "")),
                p99.median <= 2.0 && p999.median <= 2.0,
            );
        }
    }
    table
}
