use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::{KeyHash, Mark, SessionId, Timestamp, UserId, Version};

/// What authentication needs of a session: small, and of bounded size.
///
/// What is looked at for each request stands first, so that it lies in few lines of the processor's
/// caches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Head {
    /// Unused for this long it is no longer accepted; `None`: never for that.
    pub idle_ttl: Option<Duration>,
    /// When it was last used, as far as this record knows; noted late.
    pub last_seen_at: Timestamp,
    /// The instant from which it is no longer accepted.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// Neither the session nor its user has been switched off.
    pub is_active: bool,
    /// Hash of the access token's secret, or of a foreign `jti`.
    pub access: Option<KeyHash>,
    /// Hash of the refresh token's secret.
    pub refresh: Option<KeyHash>,
    /// How well its user has proved to be that user, as the application counts: for instance the level
    /// of NIST SP 800-63B, 1 to 3.
    pub assurance: u8,
    /// Whose session it is; `None` for a guest's.
    pub user: Option<User>,
    /// The session's name.
    pub id: SessionId,
    /// When its user last proved to be that user.
    pub authenticated_at: Timestamp,
    /// Set by the database on each change that matters.
    pub version: Version,
    /// Every change numbered below this is in the record.
    pub as_of: Mark,
}

impl Head {
    /// A valid guest's session as it begins, with no keys and no idle timeout.
    pub const fn new(id: SessionId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id,
            user: None,
            is_active: true,
            revoked_at: None,
            expires_at,
            last_seen_at: now,
            idle_ttl: None,
            authenticated_at: now,
            assurance: 0,
            version: Version::new(1),
            as_of: Mark::ZERO,
            access: None,
            refresh: None,
        }
    }

    /// Whether the session may be accepted at `now`, and if not, why.
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.standing_if_seen(self.last_seen_at, now)
    }

    /// The same, where it is known that it was last used at `seen`.
    pub fn standing_if_seen(&self, seen: Timestamp, now: Timestamp) -> Standing {
        if !self.is_active || self.revoked_at.is_some() {
            Standing::Revoked
        } else if now >= self.expires_at {
            Standing::Expired
        } else if self.idle_ttl.is_some_and(|ttl| now >= seen + ttl) {
            Standing::Idle
        } else {
            Standing::Valid
        }
    }

    /// The foreign keys that lead here only through lookup entries.
    pub fn foreign_keys(&self) -> impl Iterator<Item = KeyHash> {
        [self.access, self.refresh]
            .into_iter()
            .flatten()
            .filter(KeyHash::is_foreign)
    }
}

/// What a head says of itself at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be accepted.
    Valid,
    /// Its absolute expiry has passed.
    Expired,
    /// It has not been used for too long.
    Idle,
    /// It, or its user, was switched off.
    Revoked,
}

/// The summary of a user that a session carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The key of the user's row.
    pub id: UserId,
    /// The user's e-mail address.
    pub email: Box<str>,
    /// The name the user logs in with.
    pub username: Box<str>,
}

/// What a session holds beyond its head.
#[derive(Clone, Debug)]
pub struct Body<D> {
    /// Where the session lives; `None` if nothing is known of that.
    pub device: Option<Box<Device>>,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// The application's own data, or why it could not be read: an error to the handler that
    /// asks for it, not a logout.
    pub data: Result<D, DataError>,
}

impl<D> Body<D> {
    /// The application's data.
    ///
    /// # Errors
    ///
    /// [`DataError`] if it does not read as the application's type.
    pub fn data(&self) -> Result<&D, DataError> {
        self.data.as_ref().map_err(Clone::clone)
    }

    /// The device that the session was made on.
    pub fn device(&self) -> &Device {
        static UNKNOWN: Device = Device {
            ip: None,
            user_agent: None,
            label: None,
        };
        self.device.as_deref().unwrap_or(&UNKNOWN)
    }
}

/// The device that a session was made on, as its user would recognise it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The client's address at login.
    pub ip: Option<IpAddr>,
    /// The `User-Agent` header at login.
    pub user_agent: Option<Box<str>>,
    /// The name that the user gave the device.
    pub label: Option<Box<str>>,
}

/// The stored data of a session does not read as the application's type.
///
/// Says where in the data the mismatch is, never what stands there.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the session's data does not read as the application's type ({at}): migrate it on load, as SessionData describes"
)]
pub struct DataError {
    /// Category and position of the mismatch.
    pub at: Arc<str>,
}

/// A session as a tier holds it: a head, and the body once someone asked for it.
#[derive(Clone, Debug)]
pub struct Record<D> {
    /// What authentication needs.
    pub head: Head,
    /// The rest, if this tier holds it.
    pub body: Option<Body<D>>,
}
