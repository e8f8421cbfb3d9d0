//! The database: one session's row, transactions that overlap, and snapshots with their marks; and
//! how it notices that it went back, and begins a new lineage.

use crate::history::{History, Identity};
use crate::loss::{Copy, Fork};
use crate::promise::Promise;
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

impl Row {
    /// The change that makes a difference.
    pub(crate) fn other(self) -> Change {
        match self.valid {
            true => Change::Revoke,
            false => Change::Restore,
        }
    }

    pub(crate) fn changed(self, change: Change, number: u8) -> Self {
        Self {
            version: self.version + 1,
            valid: change == Change::Restore,
            changed_at: number,
        }
    }
}

/// What a reader sees, and the mark: every change numbered below it is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Snapshot {
    pub(crate) row: Row,
    pub(crate) mark: u8,
    pub(crate) lineage: u8,
    /// Changes numbered below this are told to nobody.
    pub(crate) begins: u8,
    /// The stretch of history that it is of, which no node knows.
    pub(crate) line: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    number: u8,
    pub(crate) change: Option<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) next: u8,
    pub(crate) row: Row,
    pub(crate) open: Vec<Transaction>,
    /// How many transactions began in the history that goes on, and how often they changed the row.
    pub(crate) begun: u8,
    pub(crate) changes: u8,
    /// What it stores of its history, what it is now, and what is in the unlogged table.
    pub(crate) history: History,
    pub(crate) identity: Identity,
    pub(crate) crash_marker: Option<u8>,
    /// How many lineages there were; a new one is none of them.
    lineages: u8,
    /// How often it went back, what it may go back to, and from which of that on by a crash.
    pub(crate) lost: u8,
    pub(crate) copies: Vec<Copy>,
    pub(crate) on_disk: usize,
    pub(crate) fork: Option<Fork>,
    /// Everything that it and its fork ever were, to any reader; sorted.
    pub(crate) past: Vec<Snapshot>,
    pub(crate) line: u8,
    pub(crate) promise: Promise,
}

impl Database {
    pub(crate) fn new(world: &World) -> Self {
        let identity = Identity {
            run: 0,
            incarnation: 0,
        };
        let mut database = Self {
            next: 2,
            row: Row {
                version: 1,
                valid: !world.revoked,
                changed_at: 1,
            },
            open: Vec::new(),
            begun: 0,
            changes: 0,
            history: History {
                lineage: 0,
                identity,
                begins: 0,
            },
            identity,
            crash_marker: Some(0),
            lineages: 1,
            lost: 0,
            copies: Vec::new(),
            on_disk: 0,
            fork: None,
            past: Vec::new(),
            line: 0,
            promise: Promise::new(),
        };
        if world.revoked {
            database.promise.revoked(0, 1);
        }
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
            lineage: self.history.lineage,
            begins: self.history.begins,
            line: self.line,
        }
    }

    /// Whether it says, in the same snapshot, that commits may have been lost.
    pub(crate) fn moved(&self, world: &World) -> bool {
        let mark = self.snapshot(world).mark;
        self.history
            .is_of_another(world, self.identity, self.crash_marker, mark)
    }

    pub(crate) fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        if self.begun < world.transactions {
            steps.push(Step::Begin);
        }
        let locked = self.open.iter().any(|open| open.change.is_some());
        for open in &self.open {
            steps.push(Step::Commit(open.number));
            if !locked && self.changes < world.changes {
                steps.push(Step::Change(open.number, self.row.other()));
            }
        }
        self.losses(world, steps);
        if self.moved(world) {
            steps.push(Step::Renew);
        }
    }

    pub(crate) fn begin(&mut self, world: &World) {
        self.open.push(Transaction {
            number: self.next,
            change: None,
        });
        self.begun += 1;
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
            self.row = self.row.changed(change, number);
            if change == Change::Revoke {
                self.promise.revoked(self.line, self.row.version);
            }
        }
        self.copy(world);
        self.remember(world);
    }

    /// Begins a new lineage, on what the database is now.
    pub(crate) fn renew_lineage(&mut self, world: &World) {
        // The renewing transaction's own number would be `next`. The model gives it to the next
        // transaction as well, which is no better.
        let begins = match world.keeps(Rule::HistoryBegins) {
            true => self.snapshot(world).mark,
            false => self.next,
        };
        self.history = History {
            lineage: self.lineages,
            identity: self.identity,
            begins,
        };
        self.crash_marker = Some(self.lineages);
        self.lineages += 1;
        self.copy(world);
        self.remember(world);
    }

    pub(crate) fn remember(&mut self, world: &World) {
        self.remember_one(self.snapshot(world));
    }

    pub(crate) fn remember_one(&mut self, snapshot: Snapshot) {
        if let Err(place) = self.past.binary_search(&snapshot) {
            self.past.insert(place, snapshot);
        }
    }
}
