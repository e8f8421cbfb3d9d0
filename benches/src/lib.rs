//! Measures contenders beside each other: in turn, in one process, so that a machine whose speed
//! drifts drifts for all of them.

use std::time::{Duration, Instant};

/// One thing to measure.
pub struct Contender<'a> {
    /// What the table calls it.
    pub name: &'static str,
    /// One operation.
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender whose one operation is `run`.
    pub fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }
}

impl std::fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What was measured of one contender.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Nanoseconds of one operation, one value a round, in order of the rounds.
    pub nanos: Vec<f64>,
    /// Allocations of one operation.
    pub allocations: u64,
}

impl Measured {
    /// Nanoseconds beyond those of `base` in the same round: minimum, median, maximum.
    pub fn over(&self, base: &Self) -> [f64; 3] {
        spread(
            self.nanos
                .iter()
                .zip(&base.nanos)
                .map(|(mine, base)| mine - base),
        )
    }

    /// Minimum, median and maximum.
    pub fn spread(&self) -> [f64; 3] {
        spread(self.nanos.iter().copied())
    }
}

/// Measures `rounds` rounds, in each of which every contender runs for about `slice`.
pub fn measure(contenders: &mut [Contender<'_>], rounds: u32, slice: Duration) -> Vec<Measured> {
    let mut measured: Vec<_> = contenders
        .iter_mut()
        .map(|contender| {
            // Warm, then count.
            (0..1000).for_each(|_| (contender.run)());
            let counted = allocation_counter::measure(|| (contender.run)());
            Measured {
                nanos: Vec::new(),
                allocations: counted.count_total,
            }
        })
        .collect();
    let batches: Vec<u32> = contenders.iter_mut().map(|c| batch(c, slice)).collect();
    for round in 0..rounds as usize {
        // Each round begins with another one, so that none is always first.
        for turn in 0..contenders.len() {
            let at = (turn + round) % contenders.len();
            let started = Instant::now();
            (0..batches[at]).for_each(|_| (contenders[at].run)());
            let nanos = started.elapsed().as_nanos() as f64 / f64::from(batches[at]);
            measured[at].nanos.push(nanos);
        }
    }
    measured
}

/// How often a contender runs in about `slice`.
fn batch(contender: &mut Contender<'_>, slice: Duration) -> u32 {
    const PROBE: u32 = 2000;
    let started = Instant::now();
    (0..PROBE).for_each(|_| (contender.run)());
    let one = started.elapsed().as_secs_f64() / f64::from(PROBE);
    (slice.as_secs_f64() / one).clamp(1.0, 1e8) as u32
}

fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    ]
}
