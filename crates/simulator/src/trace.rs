//! What happens to sessions, in order: a trace from a seed.
//!
//! A session is a *place* among so many and the number of its life there: when one ends, the next
//! begins in the same place, so that there are always equally many, and the place keeps its rank.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp, Zipf};

use crate::workload::{Routing, Workload};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Seconds from the beginning.
    pub at: f64,
    /// The node to which it happens.
    pub node: u32,
    /// The place of its session.
    pub place: u32,
    /// What it is.
    pub what: What,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is shown, and perhaps its body is asked for.
    Request {
        /// Whether the handler asks for the body.
        body: bool,
    },
    /// It is forgotten, and another begins.
    Login,
    /// It is revoked, and another begins.
    Revocation,
    /// What it holds is changed.
    Update,
}

/// The events of a workload without end.
#[derive(Debug)]
pub struct Trace {
    workload: Workload,
    random: Xoshiro256PlusPlus,
    ranks: Zipf<f64>,
    /// What comes at its own rate, each with the instant at which it comes next.
    sources: [Source; 4],
    /// The next requests of visits that go on.
    going_on: BinaryHeap<Reverse<Next>>,
    /// When each place was last used; nothing where sessions do not end for want of use.
    used: Vec<f64>,
    idle: f64,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    kind: Kind,
    rate: f64,
    next: f64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Visit,
    Login,
    Revocation,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Next {
    at: f64,
    place: u32,
}

impl Eq for Next {}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at)
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Trace {
    /// The trace of a seed. A session that was not used for `idle` seconds begins anew.
    ///
    /// # Panics
    ///
    /// If there are no sessions, or more than 2^32, or the exponent is below zero.
    pub fn new(workload: &Workload, idle: Option<f64>, seed: u64) -> Self {
        assert!(u32::try_from(workload.sessions).is_ok(), "too many places");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let visits = workload.requests / workload.visit;
        // Long enough before the first event that is told that as many visits go on then as ever.
        let begin = -5.0 * workload.visit * workload.think.as_secs_f64();
        let source = |kind, rate| Source {
            kind,
            rate,
            next: begin,
        };
        let mut sources = [
            source(Kind::Visit, visits),
            source(Kind::Login, workload.logins),
            source(Kind::Revocation, workload.revocations),
            source(Kind::Update, workload.updates),
        ];
        for source in &mut sources {
            source.next += source.pause(&mut random);
        }
        let places = workload.sessions as usize;
        let mut trace = Self {
            ranks: Zipf::new(workload.sessions as f64, workload.zipf)
                .expect("there are sessions, and the exponent is not below zero"),
            workload: workload.clone(),
            random,
            sources,
            going_on: BinaryHeap::new(),
            used: idle.map_or(Vec::new(), |_| vec![0.0; places]),
            idle: idle.unwrap_or(f64::INFINITY),
        };
        while trace.next().is_some_and(|event| event.at < 0.0) {}
        trace
    }

    fn popular_place(&mut self) -> u32 {
        self.ranks.sample(&mut self.random) as u32 - 1
    }

    fn any_place(&mut self) -> u32 {
        self.random.random_range(0..self.workload.sessions as u32)
    }

    fn node(&mut self, place: u32) -> u32 {
        match self.workload.routing {
            Routing::Random => self.random.random_range(0..self.workload.nodes),
            Routing::Sticky => place % self.workload.nodes,
        }
    }

    /// A request; the visit may go on after it.
    fn request(&mut self, at: f64, place: u32) -> What {
        if self.random.random_bool(1.0 - 1.0 / self.workload.visit) {
            let think = self.workload.think.as_secs_f64();
            let pause = exponential(1.0 / think, &mut self.random);
            self.going_on.push(Reverse(Next {
                at: at + pause,
                place,
            }));
        }
        if let Some(used) = self.used.get_mut(place as usize) {
            let unused = at - *used;
            *used = at;
            if unused > self.idle {
                return What::Login;
            }
        }
        let body = self.random.random_bool(self.workload.bodies);
        What::Request { body }
    }
}

impl Iterator for Trace {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let soonest = (0..self.sources.len())
            .min_by(|&a, &b| self.sources[a].next.total_cmp(&self.sources[b].next))?;
        let source = self.sources[soonest];
        if let Some(&Reverse(Next { at, place })) = self.going_on.peek()
            && at < source.next
        {
            self.going_on.pop();
            let what = self.request(at, place);
            let node = self.node(place);
            return Some(Event {
                at,
                node,
                place,
                what,
            });
        }
        let at = source.next;
        self.sources[soonest].next += source.pause(&mut self.random);
        let (place, what) = match source.kind {
            Kind::Visit => {
                let place = self.popular_place();
                (place, self.request(at, place))
            }
            Kind::Update => (self.popular_place(), What::Update),
            Kind::Login => (self.any_place(), What::Login),
            Kind::Revocation => (self.any_place(), What::Revocation),
        };
        let node = self.node(place);
        at.is_finite().then_some(Event {
            at,
            node,
            place,
            what,
        })
    }
}

impl Source {
    fn pause(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match self.rate > 0.0 {
            true => exponential(self.rate, random),
            false => f64::INFINITY,
        }
    }
}

fn exponential(rate: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    Exp::new(rate).expect("a rate above zero").sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(workload: &Workload, idle: Option<f64>, seconds: f64) -> Vec<Event> {
        let trace = Trace::new(workload, idle, 1);
        trace.take_while(|event| event.at < seconds).collect()
    }

    #[test]
    fn a_seed_makes_the_same_trace_in_order_and_at_the_rates_asked_for() {
        let workload = Workload {
            requests: 1000.0,
            logins: 20.0,
            revocations: 10.0,
            updates: 5.0,
            ..Workload::of(1000, 10)
        };
        let trace = events(&workload, None, 600.0);
        assert_eq!(trace, events(&workload, None, 600.0));
        assert!(trace.is_sorted_by(|a, b| a.at <= b.at));
        let count = |what: fn(What) -> bool| trace.iter().filter(|e| what(e.what)).count() as f64;
        for (count, rate) in [
            (count(|what| matches!(what, What::Request { .. })), 1000.0),
            (count(|what| what == What::Login), 20.0),
            (count(|what| what == What::Revocation), 10.0),
            (count(|what| what == What::Update), 5.0),
        ] {
            assert!((count / 600.0 / rate - 1.0).abs() < 0.05, "{count}, {rate}");
        }
        // The first rank has its share.
        let first = trace
            .iter()
            .filter(|e| e.place == 0 && matches!(e.what, What::Request { .. }))
            .count() as f64;
        let share = workload.share(1.0, 2.0) * count(|what| matches!(what, What::Request { .. }));
        assert!((first / share - 1.0).abs() < 0.15, "{first}, {share}");
    }

    #[test]
    fn what_is_not_used_for_long_begins_anew_and_a_sticky_session_keeps_its_node() {
        let workload = Workload {
            visit: 1.0,
            routing: Routing::Sticky,
            ..Workload::of(1000, 10)
        };
        let trace = events(&workload, Some(60.0), 3600.0);
        let logins = trace.iter().filter(|e| e.what == What::Login).count();
        assert!(logins > trace.len() / 3, "{logins} of {}", trace.len());
        assert!(trace.iter().all(|e| e.node == e.place % workload.nodes));
    }
}
