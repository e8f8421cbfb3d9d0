#[cfg(feature = "redis")]
use session_core::KeyHash;
use session_core::{Head, Mark, SessionId, Version};

use super::ttl::ExpiryHint;
use crate::cold::RawBody;

/// What the warm tier holds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are sessions, and each lives for one call"
)]
pub(crate) enum WarmRecord {
    /// The head, and the body where the tier holds whole sessions.
    Session {
        /// What authentication needs.
        head: Head,
        /// The rest.
        body: Option<RawBody>,
        /// When Redis drops it.
        ends: ExpiryHint,
    },
    /// The session was revoked or deleted.
    Tombstone {
        /// Which one.
        id: SessionId,
        /// The version that this made.
        version: Version,
        /// Every change numbered below this was seen.
        as_of: Mark,
    },
}

impl WarmRecord {
    /// The session's name.
    #[cfg(feature = "redis")]
    pub(crate) fn id(&self) -> SessionId {
        match self {
            Self::Session { head, .. } => head.id,
            Self::Tombstone { id, .. } => *id,
        }
    }

    #[cfg(feature = "redis")]
    pub(super) fn stamp(&self) -> (Version, Mark) {
        match self {
            Self::Session { head, .. } => (head.version, head.as_of),
            Self::Tombstone { version, as_of, .. } => (*version, *as_of),
        }
    }

    /// The foreign keys that lead to the session, as far as the record tells.
    #[cfg(feature = "redis")]
    pub(super) fn foreign_keys(&self) -> impl Iterator<Item = KeyHash> {
        let head = match self {
            Self::Session { head, .. } => Some(head),
            Self::Tombstone { .. } => None,
        };
        head.into_iter().flat_map(Head::foreign_keys)
    }
}
