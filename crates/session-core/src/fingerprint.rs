use std::fmt;

use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt as _, BlockSizeUser,
    KeyInit as _,
};
use aes::{Aes128Enc, Block};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::keys::fill_random;
use crate::{SessionId, Token};

/// Knows tokens again that were accepted before, in a fraction of the time that it takes to read
/// and hash one.
///
/// A keyed hash of 128 bits, under a random key that never leaves the process: who knows neither
/// the key nor fingerprints can only guess, with one chance in 2¹²⁸. Where the processor has
/// instructions for AES it is a PMAC of three blocks by AES-128 (Black and Rogaway, A Block-Cipher
/// Mode of Operation for Parallelizable Message Authentication, 2002; what is added to the blocks is
/// random here, in place of derived from the key), else the first half of a BLAKE3.
///
/// A token's [`Stem`] is no secret, and is not hashed but added to the hash of the rest: of two
/// tokens that differ in it alone the fingerprints differ too. So whoever has seen fingerprints, and
/// one token, can make a text that has another's: they are as secret as the key. They prove nothing
/// by themselves: an application compares a token's [hash](crate::TokenKeys::hash) first, and the
/// fingerprint from then on.
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
pub struct Fingerprints(Method);

#[derive(Clone)]
enum Method {
    Pmac(Pmac),
    /// Where AES without instructions for it would take ten times as long as this.
    Blake3(Zeroizing<[u8; 32]>),
}

/// A token without its kind and stem, in blocks of the cipher.
type Blocks = [[u8; 16]; BLOCKS];

const BLOCKS: usize = 3;

/// What a token is known again by. Equality takes constant time.
#[derive(Clone, Copy)]
pub struct Fingerprint(u128);

impl Fingerprints {
    /// Under a fresh random key.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        Self(match aes::hardware_accelerated() {
            true => Method::pmac(),
            false => Method::blake3(),
        })
    }

    /// The fingerprint of a token, in which all of its characters count but those of its kind.
    #[inline]
    pub fn of(&self, token: WrittenToken<'_>) -> Fingerprint {
        let (stem, blocks) = token.parts();
        let hash = match &self.0 {
            Method::Pmac(pmac) => pmac.of(blocks),
            Method::Blake3(key) => blake3_of(key, blocks),
        };
        Fingerprint(hash ^ stem.number())
    }
}

impl Method {
    fn pmac() -> Self {
        let mut random = Zeroizing::new([[0; 16]; 1 + BLOCKS]);
        fill_random(random.as_flattened_mut());
        let [key, offsets @ ..] = &*random;
        Self::Pmac(Pmac {
            cipher: Aes128Enc::new(key.into()),
            offsets: Zeroizing::new(offsets.map(u128::from_le_bytes)),
        })
    }

    fn blake3() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        fill_random(&mut *key);
        Self::Blake3(key)
    }
}

#[cold]
fn blake3_of(key: &[u8; 32], blocks: &Blocks) -> u128 {
    let hash = blake3::keyed_hash(key, blocks.as_flattened());
    let (half, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("32 are more than 16");
    u128::from_le_bytes(*half)
}

#[derive(Clone)]
struct Pmac {
    cipher: Aes128Enc,
    /// What is added to each block, so that it counts which is which.
    offsets: Zeroizing<[u128; BLOCKS]>,
}

impl Pmac {
    #[inline]
    fn of(&self, blocks: &Blocks) -> u128 {
        let mut mac = 0;
        self.cipher.encrypt_with_backend(Summing {
            blocks,
            offsets: &self.offsets,
            mac: &mut mac,
        });
        mac
    }
}

/// All of a MAC at once, with the cipher's instructions in line.
struct Summing<'a> {
    blocks: &'a Blocks,
    offsets: &'a [u128; BLOCKS],
    mac: &'a mut u128,
}

impl BlockSizeUser for Summing<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Summing<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, cipher: &B) {
        let encrypt = |block: u128| {
            let mut block = Block::from(block.to_le_bytes());
            cipher.encrypt_block((&mut block).into());
            u128::from_le_bytes(block.into())
        };
        let block = |at: usize| u128::from_le_bytes(self.blocks[at]) ^ self.offsets[at];
        *self.mac = encrypt(encrypt(block(0)) ^ encrypt(block(1)) ^ block(2));
    }
}

impl Fingerprint {
    /// As two numbers, for keeping it in places that hold no more.
    pub const fn halves(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    /// The fingerprint of these [`halves`](Self::halves).
    pub const fn from_halves([lower, upper]: [u64; 2]) -> Self {
        Self(lower as u128 | (upper as u128) << 64)
    }
}

impl PartialEq for Fingerprint {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

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
    fn parts(self) -> (Stem, &'a Blocks) {
        let [_, _, _, _, parts @ ..] = self.0;
        let (parts, _) = parts.as_chunks();
        let [stem, blocks @ ..]: &[[u8; 16]; 1 + BLOCKS] = parts.try_into().expect("64 are 4 · 16");
        (Stem(*stem), blocks)
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
        let number = self.number();
        [number as u64, (number >> 64) as u64]
    }

    #[inline]
    fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

#[cfg(test)]
mod tests;
