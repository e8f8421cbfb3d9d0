//! How a node's loads go together in statements: the rules of `tier-cache/src/tiers/batcher.rs`.

/// The statements of one node.
#[derive(Debug)]
pub(crate) struct Reads {
    rules: Rules,
    /// When each that runs will be done.
    running: Vec<f64>,
    /// The last one that had to wait, and gathers until it is sent: when that is, and how many it
    /// reads.
    gathering: Option<(f64, usize)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Statements at the same time.
    pub(crate) statements: usize,
    /// Sessions of a statement.
    pub(crate) batch: usize,
    /// How long a statement takes.
    pub(crate) takes: f64,
}

impl Reads {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            running: Vec::new(),
            gathering: None,
        }
    }

    /// When what is asked for now will be there, and whether it takes a statement of its own.
    pub(crate) fn ask(&mut self, now: f64) -> (f64, bool) {
        let Rules {
            statements,
            batch,
            takes,
        } = self.rules;
        if let Some((sent, read)) = &mut self.gathering
            && now < *sent
            && *read < batch
        {
            *read += 1;
            return (*sent + takes, false);
        }
        self.running.retain(|&done| done > now);
        let mut sent = now;
        if self.running.len() >= statements {
            let (first, &done) = (self.running.iter().enumerate())
                .min_by(|a, b| a.1.total_cmp(b.1))
                .expect("at least one statement may run");
            self.running.swap_remove(first);
            sent = done;
        }
        self.gathering = Some((sent, 1));
        self.running.push(sent + takes);
        (sent + takes, true)
    }
}

/// Statements a second on a node that loads so many sessions a second: as if one statement ran at a
/// time, that takes so much less as there is room for more.
pub(crate) fn statements(loads: f64, rules: Rules) -> f64 {
    let takes = rules.takes / rules.statements as f64;
    let nobody_came = (-loads * takes).exp();
    let statements = loads / (loads * takes + nobody_came);
    statements.max(loads / rules.batch as f64)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand_distr::{Distribution as _, Exp};

    use super::*;

    const RULES: Rules = Rules {
        statements: 2,
        batch: 256,
        takes: 0.002,
    };

    #[test]
    fn those_who_find_room_go_at_once_and_the_others_gather() {
        let mut reads = Reads::new(RULES);
        // In microseconds, by when each is there.
        let mut ask = |micros: f64| {
            let (there, new) = reads.ask(micros / 1e6);
            ((there * 1e6).round(), new)
        };
        assert_eq!(ask(0.0), (2000.0, true));
        assert_eq!(ask(100.0), (2100.0, true));
        // Both run: these wait for the first of them.
        assert_eq!(ask(500.0), (4000.0, true));
        assert_eq!(ask(1500.0), (4000.0, false));
        // And this one for the second.
        assert_eq!(ask(2050.0), (4100.0, true));
        // What is asked for at once goes at once as well.
        assert_eq!(ask(1e6), (1_002_000.0, true));
        assert_eq!(ask(1e6), (1_002_000.0, true));
        assert_eq!(ask(1e6), (1_004_000.0, true));
        assert_eq!(ask(1e6), (1_004_000.0, false));
    }

    #[test]
    fn the_formula_says_what_gathering_does() {
        for loads in [1.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0] {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
            let pause = Exp::new(loads).unwrap();
            let (mut reads, mut now, mut count) = (Reads::new(RULES), 0.0, 0);
            for _ in 0..50_000 {
                now += pause.sample(&mut random);
                count += u32::from(reads.ask(now).1);
            }
            let rate = f64::from(count) / now;
            let formula = statements(loads, RULES);
            assert!(
                (rate / formula - 1.0).abs() < 0.15,
                "{loads}: {rate}, {formula}"
            );
        }
    }
}
