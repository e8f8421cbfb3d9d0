//! Where a list of sessions goes on.

use std::fmt;
use std::str::FromStr;

use session_core::{SessionId, Timestamp};

/// A place in a list of a user's sessions: after the session that was shown last.
///
/// Written as `1767225600000.0b2f9d3e-6a4c-4f0e-9f43-5f1c2f6a7b8d`, so that it fits into a URL as it is. It
/// is no secret, and names no user: whoever makes one up sees another part of their own list.
///
/// ```
/// use tier_cache::cold::Cursor;
///
/// let text = "1767225600000.0b2f9d3e-6a4c-4f0e-9f43-5f1c2f6a7b8d";
/// let cursor: Cursor = text.parse().unwrap();
/// assert_eq!(cursor.to_string(), text);
/// assert!("tomorrow".parse::<Cursor>().unwrap_err().to_string().contains("tomorrow"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When that session was last seen.
    pub last_seen_at: Timestamp,
    /// Its id.
    pub id: SessionId,
}

impl Cursor {
    /// The end of the year 9999.
    const LATEST: Timestamp = Timestamp::from_unix_millis(253_402_300_799_999);

    /// Before any session.
    #[cfg(feature = "diesel")]
    pub(super) const START: Self = Self {
        last_seen_at: Self::LATEST,
        id: SessionId::from_bytes([0xff; 16]),
    };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.last_seen_at.unix_millis(), self.id)
    }
}

/// A text that is no [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in a list of sessions: use one that a page before it gave")]
pub struct MalformedCursor(String);

impl FromStr for Cursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// Of what a client sent an error quotes no more.
        const SHOWN: usize = 80;
        let malformed = || MalformedCursor(text.chars().take(SHOWN).collect());
        let (millis, id) = text.split_once('.').ok_or_else(malformed)?;
        let millis: i64 = millis.parse().map_err(|_| malformed())?;
        Ok(Self {
            // PostgreSQL knows no instants far beyond.
            last_seen_at: Timestamp::from_unix_millis(millis.clamp(0, Self::LATEST.unix_millis())),
            id: id.parse().map_err(|_| malformed())?,
        })
    }
}
