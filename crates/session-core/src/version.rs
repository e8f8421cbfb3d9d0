use std::fmt;

use serde::{Deserialize, Serialize};

/// How often a session's row has changed in a way that matters; set by the database alone.
///
/// Of two records of one session the one with the higher version is the later truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The version that a row begins with: nothing older of it can be anywhere.
    pub const FIRST: Self = Self(1);
    /// Above every version that a row can have: the floor of a deleted session.
    pub const DELETED: Self = Self(i64::MAX);

    /// The version that the database wrote.
    pub const fn new(version: i64) -> Self {
        Self(version)
    }

    /// The version as the database holds it.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the database's history of commits.
///
/// On a change it is the number of the transaction that made it. On a read (`as_of`) it is the
/// oldest transaction still in progress in the snapshot: *every change numbered below it is in
/// this record*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(i64);

impl Mark {
    /// Before every change.
    pub const ZERO: Self = Self(0);

    /// The mark that the database gave.
    pub const fn new(mark: i64) -> Self {
        Self(mark)
    }

    /// The mark as the database holds it.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which history of commits marks and versions belong to.
///
/// A database that was restored from a backup, or failed over to a copy that lacked the last
/// commits, numbers its next commits as those were that it lost. Its marks and versions say
/// nothing of records from before, so it gets a new lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lineage(i64);

impl Lineage {
    /// Of a database that cannot lose what it committed, such as one in memory.
    pub const ONLY: Self = Self(0);

    /// The lineage as the database holds it.
    pub const fn new(lineage: i64) -> Self {
        Self(lineage)
    }

    /// The lineage for the database to hold.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// One that no other history has.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has a random generator");
        Self(i64::from_le_bytes(bytes))
    }
}
