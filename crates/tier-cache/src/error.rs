//! Why a session was not handed out, and why an operation failed.

use std::sync::Arc;
use std::time::Duration;

use session_core::{DataError, UserId};

/// Why a request has no session although it showed a token.
///
/// Cloned to everyone who waited for the same load.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What the client sent is no token of this service: garbled, oversized, or not ours.
    #[error("the token is not one of this service")]
    Malformed,
    /// One place, as the cookie, shows several tokens, and no other place shows one.
    /// Nothing says which of them is the client's own.
    #[error("the request shows several different tokens in one place")]
    Ambiguous,
    /// Its MAC does not match: forged, or signed by a key that is no longer accepted.
    #[error("the token's signature is not accepted")]
    Forged,
    /// No session has this key.
    #[error("no such session")]
    Unknown,
    /// The session goes on under newer tokens.
    #[error("the token was replaced by a newer one")]
    Replaced,
    /// The session's time is over.
    #[error("the session has expired")]
    Expired,
    /// The session was not used for too long.
    #[error("the session was not used for too long")]
    Idle,
    /// The refresh token was traded in before. Somebody has a copy of it, so the session was revoked.
    #[error("the refresh token was used before, so its session was revoked")]
    Reused,
    /// The session, or its user, was switched off.
    #[error("the session was revoked")]
    Revoked,
    /// No tier could say: not a verdict on the session.
    #[error("the session cannot be checked just now")]
    Unavailable {
        /// When it may be worth asking again.
        retry_after: Duration,
    },
}

impl Refusal {
    /// Whether it says nothing about the session, so that the client should keep its token.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why an operation on sessions failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session that it was to act on is not accepted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Someone else changed the session meanwhile, again and again.
    #[error("the session was modified concurrently ({attempts} attempts): read it again and retry")]
    Conflict {
        /// How often it was tried; not at all where too many wait to change it already.
        attempts: u32,
    },
    /// The user has as many sessions as `session.max_per_user` allows, and more are refused.
    #[error(
        "the user has {allowed} sessions, as many as session.max_per_user allows: end one of them, or set \
         session.when_full to revoke-oldest"
    )]
    TooManySessions {
        /// How many are allowed.
        allowed: u32,
    },
    /// The user of the session to begin does not exist.
    #[error("user {user} does not exist in the table users: add the row before the login")]
    NoSuchUser {
        /// Who was to log in.
        user: UserId,
    },
    /// The application's data is too large to store.
    #[error(
        "the session's data takes {size} bytes, and session.max_data allows {allowed}: keep less in the session, or \
         raise it"
    )]
    DataTooLarge {
        /// Bytes of the data as JSON.
        size: usize,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The application's data cannot be written as JSON.
    #[error("the session's data cannot be written as JSON: {0}; its type must serialize to JSON")]
    Unwritable(Arc<serde_json::Error>),
    /// The stored data does not read as the application's type.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The cold tier failed; nothing was changed that is not said to be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tiers are shutting down.
    #[error("the session tiers are shutting down: send the request to another node")]
    ShuttingDown,
}

/// Why the cold tier failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} failed at the database: {reason}")]
pub struct StoreError {
    /// What was attempted.
    pub operation: &'static str,
    /// What the database or its driver said, with no value of a row in it.
    pub reason: Arc<str>,
    /// Whether the same operation may succeed later, with nothing mended.
    pub transient: bool,
    /// Whether the database let us in; `false` after a wrong password, for instance.
    pub reached: bool,
}

impl StoreError {
    /// A failure that may pass: no connection, a timeout. Line breaks in the reason, as in what a
    /// trigger raises, become spaces: a log has a line for it.
    pub fn transient(operation: &'static str, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        let lines = reason
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        Self {
            operation,
            reason: lines.collect::<Vec<_>>().join(" ").into(),
            transient: true,
            reached: true,
        }
    }

    /// A failure that will not pass by waiting.
    pub fn permanent(operation: &'static str, reason: impl std::fmt::Display) -> Self {
        Self {
            transient: false,
            ..Self::transient(operation, reason)
        }
    }

    /// A failure to connect that will not pass by waiting, such as a wrong password.
    pub fn unreached(operation: &'static str, reason: impl std::fmt::Display) -> Self {
        Self {
            reached: false,
            ..Self::permanent(operation, reason)
        }
    }

    /// Whether the database gave no answer, so that the failure says nothing about what was asked.
    pub fn is_unavailable(&self) -> bool {
        self.transient || !self.reached
    }
}
