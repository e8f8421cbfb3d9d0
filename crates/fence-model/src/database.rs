//! The database: one session's row, transactions that overlap, and snapshots with their marks; and
//! how it loses its last commits, and begins a new lineage.

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
    pub(crate) lineage: u8,
    /// How often commits had been lost, which no node knows.
    pub(crate) losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transaction {
    number: u8,
    change: Option<Change>,
}

/// A revocation that was committed, and not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Revocation {
    pub(crate) version: u8,
    /// How often commits had been lost by then.
    pub(crate) losses: u8,
    /// Ticks since; what is older than B is just that.
    pub(crate) age: u8,
}

/// What a backup or a standby has, to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Copy {
    next: u8,
    row: Row,
    changes: u8,
    /// How many of the revocations it has.
    revocations: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    next: u8,
    row: Row,
    open: Vec<Transaction>,
    changes: u8,
    lineage: u8,
    losses: u8,
    /// It runs where its lineage was not begun, and says so.
    pub(crate) moved: bool,
    copies: Vec<Copy>,
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
            lineage: 0,
            losses: 0,
            moved: false,
            copies: Vec::new(),
            revocations: Vec::new(),
            past: Vec::new(),
        };
        database.copy(world);
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
            lineage: self.lineage,
            losses: self.losses,
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
        if self.losses < world.losses {
            steps.extend((0..self.copies.len()).map(Step::Lose));
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
                self.revoked();
            }
        }
        self.copy(world);
        self.remember(world);
    }

    /// Goes on from a copy: what was committed after it is lost, what was open is undone, and the
    /// numbers are given out again.
    pub(crate) fn lose(&mut self, world: &World, copy: usize) {
        let copy = self.copies[copy].clone();
        self.next = copy.next;
        self.row = copy.row;
        self.changes = copy.changes;
        self.open.clear();
        self.losses += 1;
        self.moved = true;
        self.revocations.truncate(copy.revocations);
        if !self.row.valid {
            // What made it valid again is lost: this is what revokes it.
            self.revoked();
        }
        self.copies.clear();
        self.copy(world);
        self.remember(world);
    }

    /// Whoever notices begins a new lineage; whoever comes second finds it done.
    pub(crate) fn renew_lineage(&mut self, world: &World) {
        self.moved = false;
        self.lineage += 1;
        self.remember(world);
    }

    fn revoked(&mut self) {
        self.revocations.push(Revocation {
            version: self.row.version,
            losses: self.losses,
            age: 0,
        });
    }

    fn copy(&mut self, world: &World) {
        if self.losses < world.losses {
            let copy = Copy {
                next: self.next,
                row: self.row,
                changes: self.changes,
                revocations: self.revocations.len(),
            };
            if self.copies.last() != Some(&copy) {
                self.copies.push(copy);
            }
        }
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
