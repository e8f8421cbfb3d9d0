//! A record in Redis, and when it is renewed: the rules of `tier-cache/src/warm/ttl.rs`.

/// What `warm.ttl` is counted in.
pub(crate) const PARTS: f64 = 31.0;
/// For so many parts, all in all, whoever finds a record has it loaded anew: for the last in any case,
/// and by chance e^-left while more are left, which are whole parts counted from any instant.
pub(crate) const DUE: f64 = 1.082;

/// A record, if it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) from: f64,
    /// When Redis removes it.
    pub(crate) until: f64,
    /// When its term is over.
    pub(crate) ends: f64,
    /// When its session was last seen, as it says.
    pub(crate) seen: f64,
}

impl Record {
    pub(crate) const NONE: Self = Self {
        version: 0,
        from: 0.0,
        until: f64::NEG_INFINITY,
        ends: f64::NEG_INFINITY,
        seen: 0.0,
    };

    /// Whether who finds it has the session loaded anew; `chance` is from 0 to 1.
    pub(crate) fn is_due(&self, now: f64, ttl: f64, chance: f64) -> bool {
        let part = |at: f64| (at / ttl * PARTS).floor();
        part(self.ends) - part(now) <= -chance.max(f64::MIN_POSITIVE).ln()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn a_record_is_due_for_as_long_as_the_formula_says() {
        const TTL: f64 = 3600.0;
        const ASKED: u32 = 200_000;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut due = 0;
        for _ in 0..ASKED {
            let ends = TTL * (1.0 + random.random::<f64>());
            let record = Record {
                ends,
                ..Record::NONE
            };
            let now = ends - TTL * random.random::<f64>();
            due += u32::from(record.is_due(now, TTL, random.random()));
        }
        let parts = f64::from(due) / f64::from(ASKED) * PARTS;
        assert!((parts / DUE - 1.0).abs() < 0.03, "{parts}");
    }

    #[test]
    fn it_is_due_for_certain_in_its_last_part_and_when_that_is_over() {
        let record = Record {
            ends: 310.0,
            ..Record::NONE
        };
        let due = |now, chance| record.is_due(now, 310.0, chance);
        assert!(due(310.0, 1.0) && due(400.0, 1.0));
        assert!(!due(299.0, 0.5) && due(299.0, 0.1));
        assert!(!due(0.0, 1e-9));
    }
}
