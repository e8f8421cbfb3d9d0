//! The database: one session's row, transactions that overlap, and snapshots with their marks.

use crate::{Rule, Step, World};

/// What a transaction makes of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is revoked.
    Revoke,
    /// It is made valid again.
    Restore,
}

/// The session's row as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    pub(crate) version: u8,
    pub(crate) valid: bool,
    /// The number of the transaction that changed it last.
    pub(crate) changed_at: u8,
}

/// What a reader sees, and the mark: every change numbered below it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Snapshot {
    pub(crate) row: Row,
    pub(crate) mark: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transaction {
    number: u8,
    change: Option<Change>,
}

/// A revocation that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Revocation {
    pub(crate) version: u8,
    /// Ticks since; what is older than B is just that.
    pub(crate) age: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    next: u8,
    row: Row,
    open: Vec<Transaction>,
    changes: u8,
    pub(crate) revocations: Vec<Revocation>,
    /// Everything that it ever was, to any reader; sorted.
    pub(crate) past: Vec<Snapshot>,
}

impl Database {
    pub(crate) fn new(world: &World) -> Self {
        let mut database = Self {
            next: 2,
            row: Row {
                version: 1,
                valid: true,
                changed_at: 1,
            },
            open: Vec::new(),
            changes: 0,
            revocations: Vec::new(),
            past: Vec::new(),
        };
        database.remember(world);
        database
    }

    pub(crate) fn snapshot(&self, world: &World) -> Snapshot {
        let oldest = self.open.iter().map(|transaction| transaction.number).min();
        let mark = match oldest {
            Some(oldest) if world.keeps(Rule::OldestInProgress) => oldest,
            _ => self.next,
        };
        Snapshot {
            row: self.row,
            mark,
        }
    }

    pub(crate) fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        if self.next < 2 + world.transactions {
            steps.push(Step::Begin);
        }
        let locked = self.open.iter().any(|open| open.change.is_some());
        for open in &self.open {
            steps.push(Step::Commit(open.number));
            if !locked && self.changes < world.changes {
                steps.push(Step::Change(
                    open.number,
                    if self.row.valid {
                        Change::Revoke
                    } else {
                        Change::Restore
                    },
                ));
            }
        }
    }

    pub(crate) fn begin(&mut self, world: &World) {
        self.open.push(Transaction {
            number: self.next,
            change: None,
        });
        self.next += 1;
        self.remember(world);
    }

    pub(crate) fn change(&mut self, number: u8, change: Change) {
        self.changes += 1;
        let open = self.open.iter_mut().find(|open| open.number == number);
        open.expect("it is open").change = Some(change);
    }

    pub(crate) fn commit(&mut self, world: &World, number: u8) {
        let at = self.open.iter().position(|open| open.number == number);
        let transaction = self.open.remove(at.expect("it is open"));
        if let Some(change) = transaction.change {
            self.row = Row {
                version: self.row.version + 1,
                valid: change == Change::Restore,
                changed_at: number,
            };
            if change == Change::Revoke {
                self.revocations.push(Revocation {
                    version: self.row.version,
                    age: 0,
                });
            }
        }
        self.remember(world);
    }

    pub(crate) fn tick(&mut self, world: &World) {
        for revocation in &mut self.revocations {
            revocation.age = (revocation.age + 1).min(world.bound + 1);
        }
    }

    fn remember(&mut self, world: &World) {
        let snapshot = self.snapshot(world);
        if let Err(place) = self.past.binary_search(&snapshot) {
            self.past.insert(place, snapshot);
        }
    }
}
