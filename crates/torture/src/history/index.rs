//! Which histories a read may be of, and what each of them has of a session.
//!
//! History number *k* begins with the *k*-th setback. Number 0 is the one before the first.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Change, History, Read, Setback};

/// The history by session.
pub(super) struct Index<'a> {
    history: &'a History,
    bound: i64,
    /// When a session was revoked, by the history in which that was committed.
    revoked: HashMap<(usize, usize), i64>,
    changes: HashMap<usize, Vec<&'a Change>>,
}

/// Why a session is dead in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dead {
    Revoked,
    /// The history does not have it.
    Absent,
}

impl<'a> Index<'a> {
    pub(super) fn of(history: &'a History, bound: Duration) -> Self {
        let mut changes: HashMap<usize, Vec<&Change>> = HashMap::new();
        for change in &history.changes {
            changes.entry(change.session).or_default().push(change);
        }
        let revoked = history.revocations.iter();
        let revoked = revoked.map(|it| ((it.setbacks, it.session), it.committed_by));
        Self {
            history,
            bound: i64::try_from(bound.as_nanos()).unwrap_or(i64::MAX),
            revoked: revoked.collect(),
            changes,
        }
    }

    /// The numbers of the histories that something may be of which began and ended at these
    /// instants: more than one if it was on the way while the database went back, or began within
    /// the bound after that.
    pub(super) fn histories(&self, began_at: i64, ended_at: i64) -> RangeInclusive<usize> {
        let setbacks = &self.history.setbacks;
        let first = setbacks.partition_point(|it| began_at > it.answered_at + self.bound);
        let last = setbacks.partition_point(|it| it.began_at <= ended_at);
        first..=last.max(first)
    }

    /// Since when a session is dead in a history, and why. What is dead in two histories that follow each
    /// other was dead all the time.
    fn dead_since(&self, history: usize, session: usize) -> Option<(i64, Dead)> {
        let Some(setback) = self.setback(history) else {
            return self.revoked_in(history, session);
        };
        let why = match setback.rows.get(&session) {
            Some(row) if row.active => return self.revoked_in(history, session),
            Some(_) => Dead::Revoked,
            None if self.began_before(session, setback) => Dead::Absent,
            None => return self.revoked_in(history, session),
        };
        let before = self.dead_since(history - 1, session);
        Some(before.unwrap_or((setback.answered_at, why)))
    }

    fn revoked_in(&self, history: usize, session: usize) -> Option<(i64, Dead)> {
        let at = self.revoked.get(&(history, session))?;
        Some((*at, Dead::Revoked))
    }

    fn began_before(&self, session: usize, setback: &Setback) -> bool {
        let login = self.history.logins.get(session);
        login.is_some_and(|login| login.committed_by < setback.asked_at)
    }

    /// For how long a session had been dead when a read of it began. Where the read may be of several
    /// histories, the one counts in which it was dead for the shortest time.
    pub(super) fn served_after(&self, read: &Read) -> Option<(i64, Dead)> {
        let mut shortest: Option<(i64, Dead)> = None;
        for history in self.histories(read.asked_at, read.served_at) {
            let (since, why) = self.dead_since(history, read.session)?;
            let after = read.asked_at - since;
            if shortest.is_none_or(|(shortest, _)| after < shortest) {
                shortest = Some((after, why));
            }
        }
        shortest.filter(|&(after, _)| after > 0)
    }

    /// The one history that a read is of, if it can be of no other.
    pub(super) fn settled(&self, read: &Read) -> Option<usize> {
        let histories = self.histories(read.asked_at, read.served_at);
        (histories.start() == histories.end()).then_some(*histories.end())
    }

    /// Why a read shows what its history does not have, or no longer has.
    pub(super) fn differs(&self, history: usize, read: &Read) -> Option<String> {
        let setback = self.setback(history)?;
        let row = setback.rows.get(&read.session)?;
        if read.version < row.version {
            return Some(format!("it begins with version {}", row.version));
        }
        let changes = self.changes.get(&read.session);
        let changes = changes.map_or(&[][..], Vec::as_slice);
        let later = changes.iter().filter(|change| {
            change.committed_by >= setback.asked_at && change.asked_at <= read.served_at
        });
        let most = row.version + later.count() as i64;
        if read.version > most {
            return Some(format!("it can have reached version {most} at most"));
        }
        let tag = read.tag.filter(|&tag| tag != row.tag)?;
        let before = changes
            .iter()
            .find(|change| change.tag == tag && change.committed_by < setback.asked_at)?;
        Some(format!(
            "it begins with change {}, and change {tag} was committed before, by {}",
            row.tag, before.committed_by
        ))
    }

    fn setback(&self, history: usize) -> Option<&'a Setback> {
        self.history.setbacks.get(history.checked_sub(1)?)
    }
}
