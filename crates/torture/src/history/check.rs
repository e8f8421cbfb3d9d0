//! What is wrong.

use std::collections::HashMap;
use std::time::Duration;

use super::index::{Dead, Index};
use super::{FORKED, History, Read, Refusal, Setback, Violation};

/// The nodes wait no longer for the answer to a statement.
pub(crate) const STATEMENT: Duration = Duration::from_secs(2);

impl History {
    /// Whatever must not be, held to `bound`.
    pub fn violations(&self, bound: Duration) -> Vec<Violation> {
        let index = Index::of(self, bound);
        let mut violations = self.late(&index, bound);
        violations.extend(self.of_lost_history(&index));
        let forked = self.reads.iter().filter(|read| read.tag == Some(FORKED));
        violations.extend(forked.map(|&read| Violation::OfForkedCopy { read }));
        violations.extend(self.backwards(&index));
        violations.extend(self.refused_for_nothing(bound));
        let mixed_up = self.mixed_up.iter();
        violations.extend(mixed_up.map(|&session| Violation::MixedUp { session }));
        violations.extend(self.unserved.iter().cloned().map(Violation::Unserved));
        violations.extend(self.lost.iter().cloned().map(Violation::Lost));
        violations
    }

    /// How long after the end of a session it was still served, for each read that was; the end is its
    /// revocation, or that the history went on without it.
    pub fn served_after(&self, bound: Duration) -> Vec<Duration> {
        let index = Index::of(self, bound);
        let after = self
            .reads
            .iter()
            .filter_map(|read| index.served_after(read));
        after.map(|(after, _)| duration(after)).collect()
    }

    fn late(&self, index: &Index<'_>, bound: Duration) -> Vec<Violation> {
        let late = self.reads.iter().filter_map(|&read| {
            let (after, why) = index.served_after(&read)?;
            let after = duration(after);
            let violation = match why {
                Dead::Revoked => Violation::Late { read, after },
                Dead::Absent => Violation::OfLostHistory {
                    read,
                    setbacks: index.histories(read.asked_at, read.served_at).count(),
                    why: format!("it does not have the session, since {after:?}"),
                },
            };
            (after > bound).then_some(violation)
        });
        late.collect()
    }

    fn of_lost_history(&self, index: &Index<'_>) -> Vec<Violation> {
        let lost = self.reads.iter().filter_map(|&read| {
            let setbacks = index.settled(&read)?;
            let why = index.differs(setbacks, &read)?;
            Some(Violation::OfLostHistory {
                read,
                setbacks,
                why,
            })
        });
        lost.collect()
    }

    /// Of two reads of a session by a node in one history, the one that began after the other had ended must
    /// not see less.
    fn backwards(&self, index: &Index<'_>) -> Vec<Violation> {
        let mut by_place: HashMap<(usize, usize, usize), Vec<Read>> = HashMap::new();
        for read in &self.reads {
            if let Some(history) = index.settled(read) {
                let place = (history, read.node, read.session);
                by_place.entry(place).or_default().push(*read);
            }
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

    /// How long after a setback a session was still refused that is valid in the history that goes on, for
    /// each refusal.
    pub fn refused_after(&self) -> Vec<Duration> {
        let refused = self.false_refusals.iter().filter_map(|refusal| {
            let setback = self.before(refusal)?;
            self.is_before_the_next(refusal)
                .then(|| setback.ago(refusal))
        });
        refused.collect()
    }

    fn refused_for_nothing(&self, bound: Duration) -> Vec<Violation> {
        let refused = self.false_refusals.iter().filter(|refusal| {
            let before = self.before(refusal);
            before.is_none_or(|it| refusal.asked_at > it.may_refuse_until(refusal, bound))
                && self.is_before_the_next(refusal)
        });
        let refused = refused.map(|refusal| Violation::RefusedForNothing {
            refusal: refusal.clone(),
            since: self
                .before(refusal)
                .map(|it| (it.what.clone(), it.ago(refusal))),
        });
        refused.collect()
    }

    /// The last setback before a refusal.
    fn before(&self, refusal: &Refusal) -> Option<&Setback> {
        self.setbacks.get(refusal.setbacks.checked_sub(1)?)
    }

    /// Whether a client was refused before the next setback began. What it believes is not known later.
    fn is_before_the_next(&self, refusal: &Refusal) -> bool {
        let next = self.setbacks.get(refusal.setbacks);
        next.is_none_or(|next| refusal.refused_at < next.began_at)
    }
}

impl Setback {
    /// Until when a node may be asked for a valid session and refuse it.
    ///
    /// Within the bound it may be of the history before. Where rows were missing for a while it may have
    /// asked for one just before that came back, have waited for the answer for as long as it waits for a
    /// statement, and remember for the bound from then on that there was none.
    fn may_refuse_until(&self, refusal: &Refusal, bound: Duration) -> i64 {
        let settled = self.answered_at + nanos(bound);
        match self.emptied && refusal.is_of_no_session() {
            true => settled.max(self.asked_at + nanos(STATEMENT + bound)),
            false => settled,
        }
    }

    /// How long ago it was when a client asked and was refused.
    fn ago(&self, refusal: &Refusal) -> Duration {
        duration((refusal.asked_at - self.answered_at).max(0))
    }
}

impl Refusal {
    fn is_of_no_session(&self) -> bool {
        self.said == tier_cache::Refusal::Unknown.to_string()
    }
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.unsigned_abs())
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
