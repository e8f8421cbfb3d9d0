use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use crate::SessionId;

/// What a session is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// By its id. Every token that we mint carries it.
    Id(SessionId),
    /// By the hash of a foreign access token: its issuer, its `jti`, and its subject where one is given. See
    /// [`TokenKeys::hash_foreign`](crate::TokenKeys::hash_foreign).
    AccessJti(KeyHash),
    /// By the hash of a refresh token.
    Refresh(KeyHash),
}

/// A keyed hash of a token's secret or of a foreign key, cut to 127 bits and one flag.
///
/// It is all that is stored of a secret, in SQL, in Redis and in memory alike. The flag says
/// whether the key is *foreign*: a minted token carries its session's id and needs no lookup
/// entry; a `jti` of someone else's token does.
///
/// Equality takes constant time.
#[derive(Clone, Copy, Eq)]
pub struct KeyHash([u8; 16]);

impl KeyHash {
    const FOREIGN: u8 = 1;

    pub(crate) fn new(hash: &blake3::Hash, foreign: bool) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        bytes[15] = (bytes[15] & !Self::FOREIGN) | u8::from(foreign);
        Self(bytes)
    }

    /// The hash as stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A hash that was stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Whether the key is someone else's, so that only a lookup entry leads to the session.
    pub const fn is_foreign(&self) -> bool {
        self.0[15] & Self::FOREIGN != 0
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl ConstantTimeEq for KeyHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        // As one number: byte by byte it takes ten times as long.
        u128::from_ne_bytes(self.0).ct_eq(&u128::from_ne_bytes(other.0))
    }
}

impl std::hash::Hash for KeyHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}
