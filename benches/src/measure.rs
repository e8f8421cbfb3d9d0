//! Contenders beside each other: in turn, in one process, so that a machine whose speed drifts
//! drifts for all of them.

use std::time::{Duration, Instant};

use crate::spread::Spread;

/// One operation of a contender.
pub(crate) type Run = Box<dyn FnMut() + Send>;

/// What was measured of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Nanoseconds of one operation, one value a round, in order of the rounds.
    pub(crate) nanos: Vec<f64>,
    /// Allocations of one operation.
    pub(crate) allocations: u64,
}

impl Measured {
    /// Nanoseconds beyond those of `base`, round by round.
    pub(crate) fn over(&self, base: &Self) -> Vec<f64> {
        let pairs = self.nanos.iter().zip(&base.nanos);
        pairs.map(|(mine, base)| mine - base).collect()
    }

    pub(crate) fn spread(&self) -> Spread {
        Spread::of(self.nanos.iter().copied())
    }
}

/// Runs of a contender before each of its turns: the others have had the processor's caches
/// meanwhile, and to fetch a thousand sessions again would be a tenth of a short turn.
const WARM: u32 = 1000;

/// Measures `rounds` rounds, in each of which every contender runs for about `slice`.
pub(crate) fn measure(contenders: &mut [Run], rounds: usize, slice: Duration) -> Vec<Measured> {
    let mut measured: Vec<_> = contenders
        .iter_mut()
        .map(|contender| {
            (0..WARM).for_each(|_| contender());
            let counted = allocation_counter::measure(&mut *contender);
            Measured {
                nanos: Vec::new(),
                allocations: counted.count_total,
            }
        })
        .collect();
    let batches: Vec<u32> = contenders
        .iter_mut()
        .map(|contender| batch(contender, slice))
        .collect();
    in_turn(rounds, contenders.len(), |at| {
        let run = |times: u32, contender: &mut Run| {
            let started = Instant::now();
            uncounted(|| (0..times).for_each(|_| contender()));
            started.elapsed().as_nanos() as f64 / f64::from(times)
        };
        run(WARM, &mut contenders[at]);
        let nanos = run(batches[at], &mut contenders[at]);
        measured[at].nanos.push(nanos);
    });
    measured
}

/// Runs something whose allocations are not counted on this thread, since counting takes time too.
pub(crate) fn uncounted<T>(run: impl FnOnce() -> T) -> T {
    let mut result = None;
    allocation_counter::opt_out(|| result = Some(run()));
    result.expect("it has run")
}

/// Each of `count` once in each round; each round begins with another one, so that none is always
/// first.
pub(crate) fn in_turn(rounds: usize, count: usize, mut measure: impl FnMut(usize)) {
    for round in 0..rounds {
        for turn in 0..count {
            measure((turn + round) % count);
        }
    }
}

/// How often a contender runs in about `slice`.
pub(crate) fn batch(run: &mut Run, slice: Duration) -> u32 {
    const PROBE: u32 = 2000;
    let started = Instant::now();
    (0..PROBE).for_each(|_| run());
    let one = started.elapsed().as_secs_f64() / f64::from(PROBE);
    (slice.as_secs_f64() / one).clamp(1.0, 1e8) as u32
}
