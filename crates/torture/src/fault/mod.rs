//! What goes wrong, by a seeded plan.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | the kinds, and in which order they come |
//! | `strike.rs` | servers and nodes that stop, and are back |
//! | `setback.rs` | what is done with each database that goes back |
//! | `restores.rs` | dumps that are restored into the database |
//! | `crashes.rs` | commits that a crash loses |
//! | `copies.rs` | a copy that is promoted by mistake |
//! | `files.rs` | SQLite files that are replaced |

mod copies;
mod crashes;
mod files;
mod restores;
mod setback;
mod strike;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::Load;
use crate::warm::Warm;
use crate::world::World;
use crate::{Plan, Store};

use strike::Strikes;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Redis is killed, and is back, empty, after a while.
    RedisKilled,
    /// Redis stands still.
    RedisPaused,
    /// Redis is killed, and is back as it was in a snapshot of a while ago.
    RedisSnapshot,
    /// A replica of Redis takes over that lacks what was written for a while.
    RedisPromoted,
    /// Some nodes are cut off from Redis while the others go on.
    RedisCutOff,
    /// Subscribers are cut off, so that messages are lost.
    MessagesLost,
    /// The database stands still.
    DatabasePaused,
    /// The database is killed and started again.
    DatabaseKilled,
    /// The replica of the database receives what is new, but does not show it.
    ReplicaLagging,
    /// A node stands still for longer than the bound.
    NodePaused,
    /// A write transaction is held open.
    LongTransaction,
    /// The tables are emptied, and the data of a dump restored into them.
    RestoredIntoEmptied,
    /// The same, with triggers switched off.
    RestoredWithoutTriggers,
    /// A dump is restored in the place of the tables, statement by statement.
    RestoredClean,
    /// The same in one transaction.
    RestoredAtOnce,
    /// One backend is killed, and the server recovers without its last commits.
    CommitsLostByBackend,
    /// The server is killed, and started again without its last commits.
    CommitsLostByServer,
    /// The replica of the database is promoted by mistake, and changed by itself.
    ReplicaPromoted,
    /// A backup is moved into the place of the SQLite file.
    FileMoved,
    /// The SQLite file is removed, and a backup copied to its place.
    FileCopied,
    /// A backup is restored into the SQLite file.
    FileRestored,
}

impl Fault {
    /// Every kind by which no database goes back. Those that a run has nothing for are left out.
    pub const ALL: [Self; 11] = [
        Self::RedisKilled,
        Self::RedisPaused,
        Self::RedisSnapshot,
        Self::RedisPromoted,
        Self::RedisCutOff,
        Self::MessagesLost,
        Self::DatabasePaused,
        Self::DatabaseKilled,
        Self::ReplicaLagging,
        Self::NodePaused,
        Self::LongTransaction,
    ];

    /// Every kind by which a PostgreSQL goes back, or forks.
    pub const POSTGRES_GOES_BACK: [Self; 7] = [
        Self::RestoredIntoEmptied,
        Self::RestoredWithoutTriggers,
        Self::RestoredClean,
        Self::RestoredAtOnce,
        Self::CommitsLostByBackend,
        Self::CommitsLostByServer,
        Self::ReplicaPromoted,
    ];

    /// Every kind by which a SQLite file goes back.
    pub const SQLITE_GOES_BACK: [Self; 3] = [Self::FileMoved, Self::FileCopied, Self::FileRestored];

    /// Every kind by which a database goes back.
    pub fn setbacks(store: Store) -> Vec<Self> {
        match store {
            Store::Postgres => Self::POSTGRES_GOES_BACK.into(),
            Store::Sqlite => Self::SQLITE_GOES_BACK.into(),
        }
    }

    /// Every kind there is for a database.
    pub fn every(store: Store) -> Vec<Self> {
        [Self::ALL.into(), Self::setbacks(store)].concat()
    }

    /// Whether the database itself goes back. (A copy that is promoted takes nothing away from it.)
    pub(crate) fn is_setback(self) -> bool {
        let goes_back = Self::POSTGRES_GOES_BACK.contains(&self);
        self != Self::ReplicaPromoted && (goes_back || Self::SQLITE_GOES_BACK.contains(&self))
    }

    /// Whether sessions are missing for a while that the database has again in the end.
    pub(crate) fn empties(self) -> bool {
        matches!(
            self,
            Self::RestoredIntoEmptied | Self::RestoredWithoutTriggers | Self::RestoredClean
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RedisKilled => "Redis killed, back empty",
            Self::RedisPaused => "Redis paused",
            Self::RedisSnapshot => "Redis killed, back from an old snapshot",
            Self::RedisPromoted => "Redis replica promoted, late writes lost",
            Self::RedisCutOff => "some nodes cut off from Redis",
            Self::MessagesLost => "subscribers cut off",
            Self::DatabasePaused => "database paused",
            Self::DatabaseKilled => "database killed and restarted",
            Self::ReplicaLagging => "database replica lagging",
            Self::NodePaused => "node paused for longer than the bound",
            Self::LongTransaction => "write transaction held open",
            Self::RestoredIntoEmptied => "tables emptied, data of a dump restored",
            Self::RestoredWithoutTriggers => "the same with triggers switched off",
            Self::RestoredClean => "dump restored in the place of the tables",
            Self::RestoredAtOnce => "the same in one transaction",
            Self::CommitsLostByBackend => "backend killed, last commits lost",
            Self::CommitsLostByServer => "database killed, last commits lost",
            Self::ReplicaPromoted => "database replica promoted by mistake",
            Self::FileMoved => "backup moved over the SQLite file",
            Self::FileCopied => "SQLite file removed, backup copied there",
            Self::FileRestored => "backup restored into the SQLite file",
        })
    }
}

/// Makes one thing after the other go wrong, until `stop`; returns what.
pub(crate) fn inject(
    plan: &Plan,
    world: &World,
    warm: Option<&mut Warm>,
    load: &Load<'_>,
    stop: &AtomicBool,
) -> Vec<Fault> {
    let mut strikes = Strikes {
        plan,
        world,
        warm,
        load,
        stop,
        random: fastrand::Rng::with_seed(plan.seed),
    };
    let mut done = Vec::new();
    let mut left = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let pause = Duration::from_millis(strikes.random.u64(300..1200));
        strikes.rest(pause);
        if left.is_empty() {
            // Each kind once before any comes again.
            left.clone_from(&plan.faults);
            strikes.random.shuffle(&mut left);
        }
        let Some(fault) = left.pop() else { continue };
        if stop.load(Ordering::SeqCst) {
            break;
        }
        if strikes.strike(fault) {
            done.push(fault);
        }
    }
    done
}
