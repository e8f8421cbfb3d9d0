//! How the database goes back to an earlier state of itself, and how a copy of it goes on beside it.

use crate::database::{Change, Database, Row, Snapshot};
use crate::history::History;
use crate::promise::Revocation;
use crate::{Rule, Step, World};

/// A way of going back to an earlier state, as data brings it back and as it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One process of the server is killed, and the last commits were not yet on disk. The server
    /// lives on; its unlogged tables are emptied.
    Crash,
    /// The server is stopped, an older copy of its files is put in place, and it is started.
    /// Unlogged tables are as they were.
    PutBack,
    /// A standby is promoted that lacked the last commits. The old primary goes on, and answers as
    /// a replica.
    FailOver,
    /// The tables are made anew from a dump. The server lives on, and so do transactions that did
    /// not change them; numbers go on.
    Restore,
}

impl Loss {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Crash, Self::PutBack, Self::FailOver, Self::Restore];
}

/// What a backup, a dump or a standby has, to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    next: u8,
    begun: u8,
    row: Row,
    changes: u8,
    history: History,
    incarnation: u8,
    crash_marker: Option<u8>,
    line: u8,
    revocations: Vec<Revocation>,
}

/// A database that began as a copy of ours and goes on by itself. Reads of a replica may reach it,
/// the feed does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fork {
    next: u8,
    row: Row,
    changes: u8,
    /// The lineage in which it answers.
    lineage: u8,
    line: u8,
}

/// A lineage that no node follows: a copy that is no standby any more answers in it.
const NOBODYS: u8 = u8::MAX;

impl Database {
    pub(crate) fn losses(&self, world: &World, steps: &mut Vec<Step>) {
        let changing = self.open.iter().any(|open| open.change.is_some());
        for &loss in world.goes_back {
            let from = match loss {
                // What was there when the server started is on disk.
                Loss::Crash => self.on_disk,
                // Its tables are locked.
                Loss::Restore if changing => continue,
                _ => 0,
            };
            if self.lost < world.losses {
                steps.extend((from..self.copies.len()).map(|copy| Step::Lose(loss, copy)));
            }
        }
        match &self.fork {
            Some(fork) if fork.changes < world.fork_changes => {
                steps.push(Step::Fork(fork.row.other()));
            }
            None if world.fork_changes > 0 => {
                steps.extend((0..self.copies.len()).map(Step::Promote));
            }
            _ => {}
        }
    }

    /// Goes on from a copy: what was committed after it is lost.
    pub(crate) fn lose(&mut self, world: &World, loss: Loss, copy: usize) {
        let copy = self.copies[copy].clone();
        if loss == Loss::FailOver {
            // It is what its lineage was begun on, and says so.
            self.fork_off(world, self.history.lineage);
        }
        self.lost += 1;
        self.row = copy.row;
        self.changes = copy.changes;
        self.begun = copy.begun;
        self.history = copy.history;
        self.crash_marker = match loss {
            Loss::Crash | Loss::FailOver => None,
            Loss::PutBack | Loss::Restore => copy.crash_marker,
        };
        if loss == Loss::Restore {
            self.identity.incarnation = self.lost;
        } else {
            self.next = copy.next;
            self.open.clear();
            self.identity.incarnation = copy.incarnation;
            self.on_disk = self.copies.len();
        }
        if matches!(loss, Loss::PutBack | Loss::FailOver) {
            self.identity.run = self.lost;
        }
        self.promise.go_on_from(copy.revocations);
        self.begin_line(copy.line);
        self.copy(world);
        self.remember(world);
    }

    /// A copy is promoted, while the database lives on.
    pub(crate) fn promote(&mut self, world: &World, copy: usize) {
        let copy = &self.copies[copy];
        let lineage = match world.keeps(Rule::CopyMoved) {
            true => NOBODYS,
            false => copy.history.lineage,
        };
        self.fork = Some(Fork {
            next: copy.next,
            row: copy.row,
            changes: 0,
            lineage,
            line: self.promise.branch(copy.line, copy.row.version),
        });
        self.begin_line(self.line);
        self.copy(world);
    }

    fn fork_off(&mut self, world: &World, lineage: u8) {
        if world.fork_changes > 0 {
            self.fork = Some(Fork {
                next: self.next,
                row: self.row,
                changes: 0,
                lineage,
                line: self.line,
            });
        }
    }

    /// The fork commits a change of its own.
    pub(crate) fn fork_changes(&mut self, change: Change) {
        let Some(fork) = &mut self.fork else { return };
        fork.changes += 1;
        fork.row = fork.row.changed(change, fork.next);
        fork.next += 1;
        let snapshot = Snapshot {
            row: fork.row,
            mark: fork.next,
            lineage: fork.lineage,
            begins: 0,
            line: fork.line,
        };
        self.remember_one(snapshot);
    }

    /// From here on nothing that was made valid elsewhere counts.
    fn begin_line(&mut self, parent: u8) {
        self.line = self.promise.branch(parent, self.row.version);
        if !self.row.valid {
            self.promise.revoked(self.line, self.row.version);
        }
    }

    /// Keeps what the database is now, if it is ever to go on from it.
    pub(crate) fn copy(&mut self, world: &World) {
        let may_fork = world.fork_changes > 0 && self.fork.is_none();
        if self.lost == world.losses && !may_fork {
            self.copies.clear();
            self.on_disk = 0;
            return;
        }
        let copy = Copy {
            next: self.next,
            begun: self.begun,
            row: self.row,
            changes: self.changes,
            history: self.history,
            incarnation: self.identity.incarnation,
            crash_marker: self.crash_marker,
            line: self.line,
            revocations: self.promise.copy(),
        };
        if self.copies.last() != Some(&copy) {
            self.copies.push(copy);
        }
    }
}
