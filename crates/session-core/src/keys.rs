use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{KeyHash, SessionId, Token, TokenKind};

/// The keys under which tokens are minted, checked and hashed.
///
/// The *root* derives the key of the stored hashes and stays for as long as sessions shall
/// live; MAC keys rotate: [`rotate`](Self::rotate) signs with a new one and goes on accepting
/// the old ones. Keys are derived by BLAKE3's key derivation, so that no two uses share one.
#[derive(Clone, ZeroizeOnDrop)]
pub struct TokenKeys {
    hash: [u8; 32],
    record: [u8; 32],
    /// The first signs; all are accepted.
    mac: Vec<[u8; 32]>,
}

impl TokenKeys {
    /// Keys derived from one root secret, which every node of a service must share.
    pub fn new(root: &SecretKey) -> Self {
        Self {
            hash: blake3::derive_key("session-core v1 key hash", &root.0),
            record: blake3::derive_key("session-core v1 warm record", &root.0),
            mac: vec![mac_key(root)],
        }
    }

    /// Keys from a fresh random root: sessions end with the process. For tests and first steps.
    pub fn random() -> Self {
        Self::new(&SecretKey::random())
    }

    /// Signs with `key` from now on, and still accepts what earlier keys signed.
    #[must_use]
    pub fn rotate(mut self, key: &SecretKey) -> Self {
        self.mac.insert(0, mac_key(key));
        self
    }

    /// A new token for a session, with 128 random bits of secret.
    ///
    /// # Panics
    ///
    /// If the system has no random generator; nothing secure can be done without one.
    pub fn mint(&self, kind: TokenKind, id: SessionId) -> Token {
        let mut secret = [0; 16];
        fill_random(&mut secret);
        let mac = mac(&self.mac[0], kind, id, &secret);
        Token {
            kind,
            id,
            secret,
            mac,
        }
    }

    /// Whether the token was minted under one of these keys. One hash per accepted key, no I/O.
    pub fn verify(&self, token: &Token) -> bool {
        self.mac.iter().any(|key| {
            mac(key, token.kind, token.id, &token.secret)
                .ct_eq(&token.mac)
                .into()
        })
    }

    /// What is stored of a minted token.
    pub fn hash(&self, token: &Token) -> KeyHash {
        let mut input = [0; 33];
        input[0] = token.kind.tag();
        input[1..17].copy_from_slice(token.id.as_bytes());
        input[17..].copy_from_slice(&token.secret);
        let hash = blake3::keyed_hash(&self.hash, &input);
        input.zeroize();
        KeyHash::new(&hash, false)
    }

    /// What is stored of someone else's key, such as the `jti` of a JWT.
    pub fn hash_foreign(&self, kind: TokenKind, key: &str) -> KeyHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.hash);
        hasher.update(&[kind.tag() | 0x80]);
        hasher.update(key.as_bytes());
        KeyHash::new(&hasher.finalize(), true)
    }

    /// Seals a record that leaves the process: 16 bytes over the place it stands in and its
    /// content. A record that was damaged, moved or made by someone else does not match.
    pub fn seal(&self, place: &[u8], content: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.record);
        hasher.update(&(place.len() as u64).to_le_bytes());
        hasher.update(place);
        hasher.update(content);
        let mut seal = [0; 16];
        seal.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        seal
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({} accepted, …)", self.mac.len())
    }
}

/// A secret of at least 32 bytes that keys are derived from.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey(Vec<u8>);

impl SecretKey {
    /// The secret as the operator keeps it.
    ///
    /// # Errors
    ///
    /// [`TooShort`] below 32 bytes, since a guessable key protects nothing.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, TooShort> {
        let secret = Self(secret.into());
        if secret.0.len() < 32 {
            return Err(TooShort(secret.0.len()));
        }
        Ok(secret)
    }

    /// A fresh secret of 32 bytes from the system's generator.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        let mut secret = vec![0; 32];
        fill_random(&mut secret);
        Self(secret)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A key is too short to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has {0} bytes; it needs at least 32, for instance from `openssl rand -base64 32`")]
pub struct TooShort(usize);

fn mac_key(secret: &SecretKey) -> [u8; 32] {
    blake3::derive_key("session-core v1 token mac", &secret.0)
}

fn mac(key: &[u8; 32], kind: TokenKind, id: SessionId, secret: &[u8; 16]) -> [u8; 16] {
    let mut input = [0; 33];
    input[0] = kind.tag();
    input[1..17].copy_from_slice(id.as_bytes());
    input[17..].copy_from_slice(secret);
    let hash = blake3::keyed_hash(key, &input);
    input.zeroize();
    let mut mac = [0; 16];
    mac.copy_from_slice(&hash.as_bytes()[..16]);
    mac
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a random generator");
}
