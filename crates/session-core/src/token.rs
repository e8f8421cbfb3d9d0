use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::SessionId;

/// A token that we minted: the session's id, 128 bits of secret, and a MAC over both.
///
/// Written as `sa1_` (access) or `sr1_` (refresh) and 64 characters of base64url. Neither a
/// leaked database (it holds only keyed hashes) nor a leaked MAC key (the secret must match the
/// stored hash too) is enough to forge one. Zeroized on drop; `Debug` shows the id alone.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token {
    /// Kind (1) | id (16) | secret (16) | MAC (16). What is hashed stands together, so that hashing it
    /// makes no copy, which would have to be wiped too.
    bytes: [u8; 49],
}

/// Where each part of a token begins.
const ID: usize = 1;
const SECRET: usize = 17;
const MAC: usize = 33;

impl Token {
    /// Characters of a written token.
    pub const LEN: usize = 4 + 64;

    /// Reads a token as a client sent it. Its MAC is *not* checked yet: see
    /// [`TokenKeys::verify`](crate::TokenKeys::verify).
    ///
    /// # Errors
    ///
    /// [`MalformedToken`] for anything that we could not have minted.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, MalformedToken> {
        let text = text.as_ref();
        if text.len() != Self::LEN {
            return Err(MalformedToken);
        }
        let (prefix, encoded) = text.split_at(4);
        let kind = TokenKind::from_prefix(prefix).ok_or(MalformedToken)?;
        let mut token = Self { bytes: [0; 49] };
        token.bytes[0] = kind.tag();
        let read = URL_SAFE_NO_PAD.decode_slice(encoded, &mut token.bytes[ID..]);
        match read {
            Ok(48) => Ok(token),
            _ => Err(MalformedToken),
        }
    }

    /// A token that has no secret and no MAC yet.
    pub(crate) fn blank(kind: TokenKind, id: SessionId) -> Self {
        let mut bytes = [0; 49];
        bytes[0] = kind.tag();
        bytes[ID..SECRET].copy_from_slice(id.as_bytes());
        Self { bytes }
    }

    /// What the token is for.
    pub fn kind(&self) -> TokenKind {
        match self.bytes[0] {
            REFRESH => TokenKind::Refresh,
            _ => TokenKind::Access,
        }
    }

    /// The session that it opens.
    pub fn id(&self) -> SessionId {
        SessionId::from_bytes(cut(&self.bytes, ID))
    }

    /// What its MAC and its hash are of: kind, id and secret.
    pub(crate) fn proven(&self) -> &[u8] {
        &self.bytes[..MAC]
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.bytes[SECRET..MAC]
    }

    pub(crate) fn secret_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[SECRET..MAC]
    }

    pub(crate) fn mac(&self) -> &[u8] {
        &self.bytes[MAC..]
    }

    pub(crate) fn set_mac(&mut self, mac: &[u8; 16]) {
        self.bytes[MAC..].copy_from_slice(mac);
    }

    /// The token as it goes to the client, without an allocation: a secret, wiped when dropped.
    pub fn written(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut text = Zeroizing::new([0; Self::LEN]);
        let (prefix, encoded) = text.split_at_mut(4);
        prefix.copy_from_slice(self.kind().prefix().as_bytes());
        write(&self.bytes[ID..], encoded);
        text
    }

    /// The token as it goes to the client: a secret, wiped when dropped.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(Self::LEN));
        text.push_str(self.kind().prefix());
        URL_SAFE_NO_PAD.encode_string(&self.bytes[ID..], &mut text);
        text
    }
}

/// Writes bytes as tokens are written; four characters for each three.
pub(crate) fn write(bytes: &[u8], characters: &mut [u8]) {
    URL_SAFE_NO_PAD
        .encode_slice(bytes, characters)
        .expect("there is room for four characters for each three bytes");
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?} of {}, …)", self.kind(), self.id())
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

const ACCESS: u8 = 1;
const REFRESH: u8 = 2;

impl TokenKind {
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Access => ACCESS,
            Self::Refresh => REFRESH,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Access => "sa1_",
            Self::Refresh => "sr1_",
        }
    }

    fn from_prefix(prefix: &[u8]) -> Option<Self> {
        match prefix {
            b"sa1_" => Some(Self::Access),
            b"sr1_" => Some(Self::Refresh),
            _ => None,
        }
    }
}

/// The text is not a token that we mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of this service")]
pub struct MalformedToken;

fn cut(bytes: &[u8], from: usize) -> [u8; 16] {
    let mut part = [0; 16];
    part.copy_from_slice(&bytes[from..from + 16]);
    part
}
