use std::fmt;

use siphasher::sip128::{Hash128, SipHasher24};
use zeroize::Zeroizing;

use crate::keys::fill_random;
use crate::{SessionId, Token};

/// Knows tokens again that were accepted before, in a fraction of the time that it takes to read
/// and hash one.
///
/// SipHash-2-4 with 128 bits, under a random key that never leaves the process: who knows neither
/// the key nor fingerprints can only guess, with one chance in 2¹²⁸. (Aumasson and Bernstein,
/// SipHash: a fast short-input PRF, 2012.) A token's [`Stem`] is no secret, and is not hashed but
/// added to the hash of the rest: of two tokens that differ in it alone the fingerprints differ
/// too. So whoever has seen fingerprints, and one token, can make a text that has another's: they
/// are as secret as the key. They prove nothing by themselves: an application compares a token's
/// [hash](crate::TokenKeys::hash) first, and the fingerprint from then on.
///
/// ```
/// use session_core::{Fingerprint, Fingerprints, SessionId, TokenKeys, TokenKind, WrittenToken};
///
/// let (keys, id) = (TokenKeys::random(), SessionId::random());
/// let [accepted, other] = [0; 2].map(|_| keys.mint(TokenKind::Access, id).expose());
/// let written = |text| WrittenToken::access(text).unwrap();
///
/// let fingerprints = Fingerprints::random();
/// let known = fingerprints.of(written(&accepted));
/// assert_eq!(fingerprints.of(written(&accepted)), known);
/// assert_eq!(Fingerprint::from_halves(known.halves()), known);
/// assert_ne!(fingerprints.of(written(&other)), known);
/// assert_ne!(Fingerprints::random().of(written(&accepted)), known);
/// ```
#[derive(Clone)]
pub struct Fingerprints(SipHasher24);

/// What a token is known again by. Equality takes constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Hash128);

impl Fingerprints {
    /// Under a fresh random key.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        let mut key = Zeroizing::new([0; 16]);
        fill_random(&mut *key);
        Self(SipHasher24::new_with_key(&key))
    }

    /// The fingerprint of a token, in which all of its characters count but those of its kind.
    #[inline]
    pub fn of(&self, token: WrittenToken<'_>) -> Fingerprint {
        let (stem, rest) = token.parts();
        let Hash128 { h1, h2 } = self.0.hash(rest);
        let [first, second] = stem.halves();
        Fingerprint::from_halves([h1 ^ first, h2 ^ second])
    }
}

impl Fingerprint {
    /// As two numbers, for keeping it in places that hold no more.
    pub const fn halves(self) -> [u64; 2] {
        [self.0.h1, self.0.h2]
    }

    /// The fingerprint of these [`halves`](Self::halves).
    pub const fn from_halves([h1, h2]: [u64; 2]) -> Self {
        Self(Hash128 { h1, h2 })
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints(…)")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// A text that may be an access token: it is as long as one, and begins like one.
#[derive(Clone, Copy)]
pub struct WrittenToken<'a>(&'a [u8; Token::LEN]);

impl<'a> WrittenToken<'a> {
    /// The text, if it may be an access token.
    #[inline]
    pub fn access(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Option<Self> {
        let text: &[u8; Token::LEN] = text.as_ref().try_into().ok()?;
        text.starts_with(b"sa1_").then_some(Self(text))
    }

    /// The stem of the session that it names, if it is a token at all.
    #[inline]
    pub fn stem(self) -> Stem {
        self.parts().0
    }

    /// What stands behind the kind, which is the same for all.
    #[inline]
    fn parts(self) -> (Stem, &'a [u8]) {
        let [_, _, _, _, parts @ ..] = self.0;
        let (stem, rest) = parts.split_first_chunk().expect("64 are more than 16");
        (Stem(*stem), rest)
    }
}

impl fmt::Debug for WrittenToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrittenToken(…)")
    }
}

/// How each token of a session begins after its kind: with the first 12 bytes of the session's id,
/// written as 16 characters. Found in a token without reading it; sessions may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stem([u8; 16]);

impl Stem {
    /// The stem of a session's tokens.
    pub fn of(session: SessionId) -> Self {
        let mut stem = [0; 16];
        crate::token::write(&session.as_bytes()[..12], &mut stem);
        Self(stem)
    }

    /// As two numbers.
    #[inline]
    pub fn halves(self) -> [u64; 2] {
        let whole = u128::from_le_bytes(self.0);
        [whole as u64, (whole >> 64) as u64]
    }
}
