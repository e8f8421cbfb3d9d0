//! Whether a cached entry may be served for what the caller presented.

use session_core::{KeyHash, Standing};

use crate::clock::Now;
use crate::error::Refusal;
use crate::hot::Entry;

/// What the caller presented, which the session must hold to be served.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Presented {
    /// Nothing but the session's id.
    Nothing,
    Access(KeyHash),
    Refresh(KeyHash),
    /// A token that the session held once, and does not hold any more.
    Replaced,
}

/// Whether an entry may be served for what a caller presented.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    Refused(Refusal),
    /// Refused by what this cache holds, which may be out of date: the database must confirm it.
    Doubtful(Refusal),
}

impl Verdict {
    pub(super) fn into_refusal(self) -> Refusal {
        match self {
            Self::Accepted => Refusal::Unknown,
            Self::Refused(refusal) | Self::Doubtful(refusal) => refusal,
        }
    }
}

/// Judges an entry at `now`.
pub(super) fn verdict<D>(entry: &Entry<D>, presented: Presented, now: Now) -> Verdict {
    let head = entry.head();
    let standing = entry.standing(now.wall);
    let refusal = match standing {
        Standing::Valid => None,
        Standing::Revoked => return Verdict::Refused(Refusal::Revoked),
        Standing::Expired => Some(Refusal::Expired),
        Standing::Idle => Some(Refusal::Idle),
    };
    if let Some(refusal) = refusal {
        // It may have been prolonged, or used, on another node.
        return match entry.stood(standing) {
            true => Verdict::Refused(refusal),
            false => Verdict::Doubtful(refusal),
        };
    }
    let shows = match presented {
        Presented::Nothing => true,
        Presented::Access(hash) => head.access == Some(hash),
        Presented::Refresh(hash) => head.refresh == Some(hash),
        Presented::Replaced => false,
    };
    if shows {
        Verdict::Accepted
    } else {
        // It may have got new tokens a moment ago, on another node.
        Verdict::Doubtful(Refusal::Replaced)
    }
}
