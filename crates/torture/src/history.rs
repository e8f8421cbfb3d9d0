//! What was done and said; and what of it must not be.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A session that was served. Times are nanoseconds since boot, by the one clock of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which session.
    pub session: usize,
    /// By which node.
    pub node: usize,
    /// At which version.
    pub version: i64,
    /// When the node began to look.
    pub asked_at: i64,
    /// When it had the session.
    pub served_at: i64,
}

/// A revocation that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which session.
    pub session: usize,
    /// It was committed by then.
    pub committed_by: i64,
}

/// All that was done and said.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Sessions that were served.
    pub reads: Vec<Read>,
    /// Revocations that were acknowledged.
    pub revocations: Vec<Revocation>,
    /// Sessions that were refused although nobody revoked them.
    pub false_refusals: Vec<usize>,
    /// Sessions for which a node answered with another.
    pub mixed_up: Vec<usize>,
    /// Acknowledged changes that are not there in the end.
    pub lost: Vec<String>,
    /// Sessions looked at in the end.
    pub checked: u64,
    /// How often each thing was done.
    pub done: BTreeMap<&'static str, u64>,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A session was served later than the bound after its revocation.
    Late {
        /// The read.
        read: Read,
        /// How long after the commit the node began to look.
        after: Duration,
    },
    /// A node served an older version than it had served before.
    Backwards {
        /// The read.
        read: Read,
        /// The version before.
        before: i64,
    },
    /// A session was refused although nobody revoked it.
    RefusedForNothing {
        /// Which session.
        session: usize,
    },
    /// A node answered with another session than the one that was asked for.
    MixedUp {
        /// Which session was asked for.
        session: usize,
    },
    /// Something that the nodes have no use for any more, and did not give back.
    Left(String),
    /// A change that was acknowledged is not there.
    Lost(String),
}

impl History {
    /// Whatever must not be, held to `bound`.
    pub fn violations(&self, bound: Duration) -> Vec<Violation> {
        let late = self
            .served_after()
            .filter_map(|(read, after)| (after > bound).then_some(Violation::Late { read, after }));
        let refused = self.false_refusals.iter();
        let refused = refused.map(|&session| Violation::RefusedForNothing { session });
        let mixed_up = self.mixed_up.iter();
        let mixed_up = mixed_up.map(|&session| Violation::MixedUp { session });
        let lost = self.lost.iter().cloned().map(Violation::Lost);
        late.chain(self.backwards())
            .chain(refused)
            .chain(mixed_up)
            .chain(lost)
            .collect()
    }

    /// Reads of revoked sessions that began after the commit, and how long after.
    pub fn served_after(&self) -> impl Iterator<Item = (Read, Duration)> {
        let committed: HashMap<usize, i64> = self
            .revocations
            .iter()
            .map(|revocation| (revocation.session, revocation.committed_by))
            .collect();
        self.reads.iter().filter_map(move |read| {
            let after = read.asked_at - committed.get(&read.session)?;
            (after > 0).then(|| (*read, Duration::from_nanos(after.unsigned_abs())))
        })
    }

    /// Of two reads of a session by a node, the one that began after the other had ended must not
    /// see less.
    fn backwards(&self) -> Vec<Violation> {
        let mut by_place: HashMap<(usize, usize), Vec<Read>> = HashMap::new();
        for read in &self.reads {
            by_place
                .entry((read.node, read.session))
                .or_default()
                .push(*read);
        }
        let mut violations = Vec::new();
        for reads in by_place.values_mut() {
            let mut ended = reads.clone();
            reads.sort_by_key(|read| read.asked_at);
            ended.sort_by_key(|read| read.served_at);
            let (mut newest, mut next) = (0, 0);
            for read in reads {
                while next < ended.len() && ended[next].served_at < read.asked_at {
                    newest = newest.max(ended[next].version);
                    next += 1;
                }
                if read.version < newest {
                    violations.push(Violation::Backwards {
                        read: *read,
                        before: newest,
                    });
                }
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: i64, asked_at: i64, served_at: i64) -> Read {
        Read {
            session: 1,
            node: 0,
            version,
            asked_at,
            served_at,
        }
    }

    fn history(reads: &[Read], committed_by: i64) -> History {
        History {
            reads: reads.to_vec(),
            revocations: vec![Revocation {
                session: 1,
                committed_by,
            }],
            ..History::default()
        }
    }

    const BOUND: Duration = Duration::from_nanos(100);

    #[test]
    fn what_began_within_the_bound_is_no_violation_and_what_began_later_is() {
        assert_eq!(history(&[read(1, 200, 300)], 100).violations(BOUND), []);
        let late = read(1, 201, 202);
        let found = history(&[late], 100).violations(BOUND);
        let after = Duration::from_nanos(101);
        assert_eq!(found, [Violation::Late { read: late, after }]);
    }

    #[test]
    fn a_version_that_goes_back_is_found_and_reads_that_overlap_are_not() {
        let back = read(1, 30, 40);
        let found = history(&[read(2, 10, 20), back], 1000).violations(BOUND);
        let before = 2;
        assert_eq!(found, [Violation::Backwards { read: back, before }]);
        let overlapping = [read(2, 10, 20), read(1, 15, 40)];
        assert_eq!(history(&overlapping, 1000).violations(BOUND), []);
    }

    #[test]
    fn refusals_for_nothing_answers_for_others_and_lost_changes_are_found() {
        let history = History {
            false_refusals: vec![3],
            mixed_up: vec![4],
            lost: vec!["one".into()],
            ..History::default()
        };
        let found = history.violations(BOUND);
        assert_eq!(found[0], Violation::RefusedForNothing { session: 3 });
        assert_eq!(found[1], Violation::MixedUp { session: 4 });
        assert_eq!(found[2], Violation::Lost("one".into()));
    }
}
