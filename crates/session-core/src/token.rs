use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{KeyHash, SessionId};

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

/// A token that we minted: the session's id, 128 bits of secret, and a MAC over both.
///
/// Written as `sa1_` (access) or `sr1_` (refresh) and 64 characters of base64url. Neither a
/// leaked database (it holds only keyed hashes) nor a leaked MAC key (the secret must match the
/// stored hash too) is enough to forge one. Zeroized on drop; `Debug` shows the id alone.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token {
    #[zeroize(skip)]
    kind: TokenKind,
    #[zeroize(skip)]
    id: SessionId,
    secret: [u8; 16],
    mac: [u8; 16],
}

impl Token {
    /// Characters of a written token.
    pub const LEN: usize = 4 + 64;

    /// Reads a token as a client sent it. Its MAC is *not* checked yet: see
    /// [`TokenKeys::verify`].
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] for anything that we could not have minted.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        if text.len() != Self::LEN {
            return Err(MalformedToken);
        }
        let (prefix, encoded) = text.split_at_checked(4).ok_or(MalformedToken)?;
        let kind = TokenKind::from_prefix(prefix).ok_or(MalformedToken)?;
        let mut bytes = Zeroizing::new([0; 48]);
        let read = URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut_slice());
        if read != Ok(48) {
            return Err(MalformedToken);
        }
        Ok(Self {
            kind,
            id: SessionId::from_bytes(cut(bytes.as_slice(), 0)),
            secret: cut(bytes.as_slice(), 16),
            mac: cut(bytes.as_slice(), 32),
        })
    }

    /// What the token is for.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The session that it opens.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The token as it goes to the client: a secret, wiped when dropped.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 48]);
        bytes[..16].copy_from_slice(self.id.as_bytes());
        bytes[16..32].copy_from_slice(&self.secret);
        bytes[32..].copy_from_slice(&self.mac);
        let mut text = Zeroizing::new(String::with_capacity(Self::LEN));
        text.push_str(self.kind.prefix());
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?} of {}, …)", self.kind, self.id)
    }
}

/// What a token is for; neither is accepted in place of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Authenticates requests.
    Access,
    /// Buys a new pair of tokens.
    Refresh,
}

impl TokenKind {
    fn tag(self) -> u8 {
        match self {
            Self::Access => 1,
            Self::Refresh => 2,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Access => "sa1_",
            Self::Refresh => "sr1_",
        }
    }

    fn from_prefix(prefix: &str) -> Option<Self> {
        match prefix {
            "sa1_" => Some(Self::Access),
            "sr1_" => Some(Self::Refresh),
            _ => None,
        }
    }
}

/// The text is not a token that we mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this service")]
pub struct MalformedToken;

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
    cut(hash.as_bytes(), 0)
}

fn cut(bytes: &[u8], from: usize) -> [u8; 16] {
    let mut part = [0; 16];
    part.copy_from_slice(&bytes[from..from + 16]);
    part
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a random generator");
}
