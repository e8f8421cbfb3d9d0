//! What is told of the warm tier to whoever looks into it.

use std::time::Duration;

use session_core::{Mark, SessionId, Standing, Version};

/// Where in Redis a record of a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarmPlace {
    /// Under its id.
    Session,
    /// Under its foreign access key, such as a `jti`.
    Access,
    /// Under its foreign refresh key.
    Refresh,
}

/// What Redis holds at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarmFound {
    /// It could not be asked; the reason in words that hold no secret.
    Unanswered(Box<str>),
    /// Nothing.
    Nothing,
    /// A record that nodes can read.
    #[non_exhaustive]
    Record {
        /// How much of the session it is.
        kind: WarmKind,
        /// Whose it is.
        id: SessionId,
        /// The version of the row that it was made of.
        version: Version,
        /// Every change numbered below this is in it.
        as_of: Mark,
        /// How it says that the session stands; `None` for a tombstone. What is not valid by its own
        /// times is asked of the database.
        standing: Option<Standing>,
        /// Its size.
        bytes: usize,
        /// How long Redis keeps it; `None` if it does not say.
        ttl: Option<Duration>,
    },
    /// Something that no node reads; to them it is as good as nothing.
    #[non_exhaustive]
    Unreadable {
        /// Why.
        why: Unreadable,
        /// How long Redis keeps it; `None` if it does not say.
        ttl: Option<Duration>,
    },
}

/// How much of a session a warm record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarmKind {
    /// What authentication needs.
    Head,
    /// All of it.
    Full,
    /// That it was revoked.
    Tombstone,
}

/// Why nodes do not read what stands at a place in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// It has not the form of a record.
    Form,
    /// It is of another lineage of the database, or of another release's format.
    Lineage,
    /// Its seal does not match: written under another root key or namespace, moved, damaged, or
    /// of another lineage (one in 256 looks like this one).
    Seal,
    /// It is sealed, but has content that this release does not know.
    Content,
}

/// How much Redis holds. What it does not permit to ask for is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmStats {
    /// Records of sessions, tombstones too, under our prefix.
    pub sessions: Option<u64>,
    /// Copies of them under foreign keys.
    pub copies: Option<u64>,
    /// Whether all keys were looked at. If not, the two above are the least that there are.
    pub complete: bool,
    /// Keys in the whole database, which may be others' too.
    pub keys: Option<u64>,
    /// Bytes of memory that the server uses.
    pub memory: Option<u64>,
    /// The most that it may use; `None` also where it may use all.
    pub max_memory: Option<u64>,
    /// Who listens for pushes: each node does, and whoever asks this by tiers of its own.
    pub listeners: Option<u64>,
}
