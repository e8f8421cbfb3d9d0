//! What was done and said; and what of it must not be.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | what is noted, and what can be wrong with it |
//! | `setback.rs` | what is noted of a database that went back |
//! | `check.rs` | what is wrong |
//! | `index.rs` | which histories a read may be of, and what each has of a session |
//! | `tests.rs` | that what is wrong is found, and what is right is not |

mod check;
mod index;
mod setback;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use check::STATEMENT;
pub use setback::{Change, Login, Refusal, Row, Setback};

/// A session that was served. Times are nanoseconds since boot, by the one clock of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which session.
    pub session: usize,
    /// By which node.
    pub node: usize,
    /// At which version.
    pub version: i64,
    /// The tag of its last change, if the node had the data at hand.
    pub tag: Option<u64>,
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
    /// How often the database had gone back before.
    pub setbacks: usize,
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
    pub false_refusals: Vec<Refusal>,
    /// When each session began, by its number. Kept only for databases that go back.
    pub logins: Vec<Login>,
    /// Changes of sessions that were asked for. Kept only for databases that go back.
    pub changes: Vec<Change>,
    /// How the database went back, in order of time.
    pub setbacks: Vec<Setback>,
    /// Valid sessions that were not served though the database had been back for long.
    pub unserved: Vec<String>,
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
    /// A session was served that is not in the history that goes on, or not like this.
    OfLostHistory {
        /// The read.
        read: Read,
        /// How often the database had gone back before.
        setbacks: usize,
        /// Why it cannot be of the history that goes on.
        why: String,
    },
    /// A session was served with data that were only ever in a copy that was promoted by mistake.
    OfForkedCopy {
        /// The read.
        read: Read,
    },
    /// A valid session was not served though the database had been back for long.
    Unserved(String),
    /// A node served an older version than it had served before.
    Backwards {
        /// The read.
        read: Read,
        /// The version before.
        before: i64,
    },
    /// A session was refused although nobody revoked it.
    RefusedForNothing {
        /// What the client was told.
        refusal: Refusal,
        /// The last setback before, and how long ago that was.
        since: Option<(String, Duration)>,
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

impl Violation {
    /// The kind, in words, and after which setback it came if that matters.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Late { .. } => "served late".into(),
            Self::OfLostHistory { .. } => "served of a lost history".into(),
            Self::OfForkedCopy { .. } => "served of a forked copy".into(),
            Self::Unserved(_) => "not served".into(),
            Self::Backwards { .. } => "went backwards".into(),
            Self::RefusedForNothing { since: None, .. } => "refused for nothing".into(),
            Self::RefusedForNothing {
                since: Some((what, _)),
                ..
            } => format!("refused for nothing after: {what}"),
            Self::MixedUp { .. } => "answered with another session".into(),
            Self::Left(_) => "not given back".into(),
            Self::Lost(_) => "lost".into(),
        }
    }
}

/// The tag that is only ever written to a copy that was promoted by mistake.
pub(crate) const FORKED: u64 = 1 << 40;
