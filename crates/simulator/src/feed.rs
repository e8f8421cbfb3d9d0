//! What a node hears of changes: how often it polls, and which floors it keeps.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

/// From the end of a poll to the next that a notification causes.
pub(crate) const GAP: f64 = 0.02;

/// The polls of one node; all hear the same, so all poll alike.
#[derive(Debug)]
pub(crate) struct Polls {
    pub(crate) count: u64,
    interval: f64,
    last: f64,
    /// Something was told since the last poll, within the gap.
    told: bool,
}

impl Polls {
    pub(crate) fn new(interval: f64) -> Self {
        Self {
            count: 0,
            interval,
            last: 0.0,
            told: false,
        }
    }

    /// Polls until `now`.
    pub(crate) fn advance(&mut self, now: f64) {
        loop {
            let pause = if self.told { GAP } else { self.interval };
            if self.last + pause > now {
                return;
            }
            self.poll(self.last + pause);
        }
    }

    /// The database tells of a change.
    pub(crate) fn tell(&mut self, now: f64) {
        self.advance(now);
        match now - self.last >= GAP {
            true => self.poll(now),
            false => self.told = true,
        }
    }

    fn poll(&mut self, now: f64) {
        (self.last, self.told) = (now, false);
        self.count += 1;
    }
}

/// How often a node polls in a second, where the database tells of `changes` in a second: at the
/// interval's end, or at the first change, but not before the gap is over.
pub(crate) fn polls(interval: f64, changes: f64) -> f64 {
    let rest = (interval - GAP).max(0.0);
    let pause = match changes > 0.0 {
        true => (-changes * GAP).exp() * -(-changes * rest).exp_m1() / changes,
        false => rest,
    };
    1.0 / (GAP.min(interval) + pause)
}

/// The floors of a node; each is told of the same, so all keep the same.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    by_session: HashMap<u64, f64, RandomState>,
    order: VecDeque<(f64, u64)>,
    /// What was read before is refused.
    pub(crate) since: f64,
}

impl Floors {
    pub(crate) fn raise(&mut self, session: u64, now: f64) {
        self.by_session.insert(session, now);
        self.order.push_back((now, session));
    }

    pub(crate) fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Forgets the older half of those that may be kept, where there are more.
    pub(crate) fn forget_beyond(&mut self, most: usize) {
        if self.by_session.len() <= most {
            return;
        }
        while self.by_session.len() > most / 2
            && let Some((raised, session)) = self.order.pop_front()
        {
            if self.by_session.get(&session) == Some(&raised) {
                self.by_session.remove(&session);
                self.since = raised;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_polls_at_its_interval_and_when_it_is_told_but_not_all_the_time() {
        let mut polls = Polls::new(1.0);
        polls.advance(10.5);
        assert_eq!(polls.count, 10);
        polls.tell(10.6);
        assert_eq!(polls.count, 11);
        // These three are one poll, after the gap.
        for at in [10.601, 10.605, 10.61] {
            polls.tell(at);
        }
        polls.advance(10.7);
        assert_eq!(polls.count, 12);
        polls.advance(11.0);
        assert_eq!(polls.count, 12, "the interval began anew");
    }

    #[test]
    fn the_formula_says_what_polling_does() {
        use rand::SeedableRng as _;
        use rand::rngs::Xoshiro256PlusPlus;
        use rand_distr::{Distribution as _, Exp};
        for changes in [0.1, 1.0, 10.0, 100.0, 1000.0] {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
            let pause = Exp::new(changes).unwrap();
            let (mut counted, mut now) = (Polls::new(1.0), 0.0);
            for _ in 0..20_000 {
                now += pause.sample(&mut random);
                counted.tell(now);
            }
            let rate = counted.count as f64 / now;
            let formula = polls(1.0, changes);
            assert!(
                (rate / formula - 1.0).abs() < 0.02,
                "{changes}: {rate}, {formula}"
            );
        }
    }

    #[test]
    fn the_oldest_floors_are_forgotten_and_what_is_older_is_refused() {
        let mut floors = Floors::default();
        for session in 0..11 {
            floors.raise(session, session as f64);
        }
        // Raised again, it is the newest.
        floors.raise(0, 11.0);
        floors.forget_beyond(11);
        assert_eq!((floors.len(), floors.since), (11, 0.0));
        floors.forget_beyond(10);
        assert_eq!((floors.len(), floors.since), (5, 6.0));
    }
}
