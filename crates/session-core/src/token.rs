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
    #[zeroize(skip)]
    pub(crate) kind: TokenKind,
    #[zeroize(skip)]
    pub(crate) id: SessionId,
    pub(crate) secret: [u8; 16],
    pub(crate) mac: [u8; 16],
}

impl Token {
    /// Characters of a written token.
    pub const LEN: usize = 4 + 64;

    /// Reads a token as a client sent it. Its MAC is *not* checked yet: see
    /// [`TokenKeys::verify`](crate::TokenKeys::verify).
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
    pub(crate) fn tag(self) -> u8 {
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

fn cut(bytes: &[u8], from: usize) -> [u8; 16] {
    let mut part = [0; 16];
    part.copy_from_slice(&bytes[from..from + 16]);
    part
}
