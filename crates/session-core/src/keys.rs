use std::cmp::Ordering;
use std::fmt;

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::{ForeignToken, KeyHash, SecretKey, SessionId, Token, TokenKind};

/// The keys under which tokens are minted, checked and hashed.
///
/// The *root* derives the key of the stored hashes and stays for as long as sessions shall
/// live. MAC keys rotate: they form a ring, of which all are accepted and one signs. Keys are
/// derived by BLAKE3's key derivation, so that no two uses share one.
///
/// # Rotation
///
/// Nodes restart one after the other, and none may refuse what another has signed. So:
///
/// 1. every node [announces](Self::announce) the new key: it accepts it, and signs as before;
/// 2. every node [rotates](Self::rotate) to it. Tokens under the retired key are accepted, and
///    [signed anew](Self::resign) when they are next seen; the session and its stored hash stay
///    the same;
/// 3. when the longest session has ended, the retired key is left out: made with
///    [`with_mac_key`](Self::with_mac_key), the ring holds the new key alone.
///
/// A MAC key that may have leaked is rotated in the same way, without haste: it makes nobody's
/// token, since a token's secret must match the session's stored hash too. The MAC only spares
/// the tiers the question; so a session that is *hot* also opens to its true token under a key
/// that is no longer accepted.
///
/// # Rotation of the root
///
/// Keys of another root, with another MAC key, may be accepted beside these: see
/// [`announce_root`](Self::announce_root), [`retire_root`](Self::retire_root), and after a leak
/// [`retire_leaked_root`](Self::retire_leaked_root).
///
/// What it costs, beside nothing for a token that was known a moment ago: a token of these keys is one
/// hash more where it is looked up. One of another root is a hash more for each accepted key before
/// it, and so is each forged token. A record or message sealed under another root is one hash more for
/// each root before it. With one root all is as it was.
///
/// ```
/// use session_core::{SecretKey, SessionId, Signed, TokenKeys, TokenKind};
///
/// let (root, key) = (SecretKey::random(), SecretKey::random());
/// let token = TokenKeys::new(&root).mint(TokenKind::Access, SessionId::random());
///
/// let keys = TokenKeys::new(&root).rotate(&key);
/// assert_eq!(keys.signed(&token), Some(Signed::Retired));
/// let anew = keys.resign(&token).unwrap();
/// assert_eq!(keys.signed(&anew), Some(Signed::Current));
/// assert_eq!(keys.hash(&anew), keys.hash(&token));
///
/// let keys = TokenKeys::with_mac_key(&root, &key);
/// assert!(keys.verify(&anew) && !keys.verify(&token));
/// ```
#[derive(Clone, ZeroizeOnDrop)]
pub struct TokenKeys {
    hash: [u8; 32],
    record: [u8; 32],
    succession: [u8; 32],
    /// The newest first: announced ones, the one that signs, retired ones.
    ring: Vec<[u8; 32]>,
    #[zeroize(skip)]
    signs: usize,
    /// Keys of other roots, which wipe themselves.
    #[zeroize(skip)]
    others: Vec<Other>,
    #[zeroize(skip)]
    is_weak: bool,
}

/// Keys of another root.
#[derive(Clone)]
struct Other {
    keys: TokenKeys,
    kind: OtherKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OtherKind {
    Announced,
    Retired,
    /// Others may have it: what it seals and derives is refused.
    Leaked,
}

/// Which key of the ring signed a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// One that other nodes may sign with already.
    Announced,
    /// The one that signs.
    Current,
    /// One that signed before.
    Retired,
}

impl TokenKeys {
    /// Keys derived from one root secret, which every node of a service must share.
    pub fn new(root: &SecretKey) -> Self {
        Self::with_mac_key(root, root)
    }

    /// As [`new`](Self::new), but signing with `key` in the root's place: tokens that the root
    /// signed are not accepted.
    pub fn with_mac_key(root: &SecretKey, key: &SecretKey) -> Self {
        Self {
            hash: blake3::derive_key("session-core v1 key hash", root.exposed()),
            record: blake3::derive_key("session-core v1 warm record", root.exposed()),
            succession: blake3::derive_key("session-core v1 refresh succession", root.exposed()),
            ring: vec![mac_key(key)],
            signs: 0,
            others: Vec::new(),
            is_weak: root.is_weak(),
        }
    }

    /// Also accepts tokens, records and messages of a root that other nodes will sign with soon: the first
    /// step of a routine rotation of the root, on all nodes.
    ///
    /// ```
    /// use session_core::{SecretKey, SessionId, TokenKeys, TokenKind};
    ///
    /// let (old, new) = (SecretKey::random(), SecretKey::random());
    /// let token = TokenKeys::new(&old).mint(TokenKind::Access, SessionId::random());
    ///
    /// // 1. On all nodes, one after the other:
    /// let announced = TokenKeys::new(&old).announce_root(TokenKeys::new(&new))?;
    /// // 2. Then on all nodes:
    /// let rotated = TokenKeys::new(&new).retire_root(TokenKeys::new(&old))?;
    /// assert!(announced.verify(&token) && rotated.verify(&token));
    /// assert_eq!(rotated.hash(&token), TokenKeys::new(&old).hash(&token));
    /// // 3. When the longest session has ended:
    /// let alone = TokenKeys::new(&new);
    /// assert!(!alone.verify(&token));
    /// # Ok::<(), session_core::SharedMacKey>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SharedMacKey`] if both have a MAC key in common: tokens would not tell of which root they are.
    pub fn announce_root(self, next: TokenKeys) -> Result<Self, SharedMacKey> {
        self.beside(next, OtherKind::Announced)
    }

    /// Still accepts tokens, records and messages of a root that is used no more: the second step of a
    /// routine rotation of the root. Sessions go on, and have tokens of the new root after their next
    /// refresh. Leave the old root out when the longest session has ended.
    ///
    /// # Errors
    ///
    /// As [`announce_root`](Self::announce_root).
    pub fn retire_root(self, old: TokenKeys) -> Result<Self, SharedMacKey> {
        self.beside(old, OtherKind::Retired)
    }

    /// After a leak of the old root, in place of [`retire_root`](Self::retire_root), on all nodes at once.
    /// Tokens of the old root still find their sessions, since nobody can make one of them from the root.
    /// What the root alone can make is refused at once: records in Redis, messages between nodes, and what
    /// refresh tokens are traded for. A refresh token of the old root that is not the newest of its
    /// session is refused too, but does not end the session: anybody may have made it.
    ///
    /// # Errors
    ///
    /// As [`announce_root`](Self::announce_root).
    pub fn retire_leaked_root(self, leaked: TokenKeys) -> Result<Self, SharedMacKey> {
        self.beside(leaked, OtherKind::Leaked)
    }

    fn beside(mut self, keys: TokenKeys, kind: OtherKind) -> Result<Self, SharedMacKey> {
        let shares = |ring: &[[u8; 32]]| keys.ring.iter().any(|key| ring.contains(key));
        if shares(&self.ring) || self.others.iter().any(|other| shares(&other.keys.ring)) {
            return Err(SharedMacKey);
        }
        self.others.push(Other { keys, kind });
        Ok(self)
    }

    /// Whether the root looks as if it could be guessed: one character again and again, or words.
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Keys for one namespace among several that share these: they accept, find and open nothing of
    /// each other's. The last step: a key that is announced or rotated to afterwards is everybody's.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        let derived = |key: &[u8; 32]| {
            let mut hasher = blake3::Hasher::new_derive_key("session-core v1 namespace");
            hasher.update(key).update(namespace.as_bytes());
            let derived = *hasher.finalize().as_bytes();
            hasher.zeroize();
            derived
        };
        Self {
            hash: derived(&self.hash),
            record: derived(&self.record),
            succession: derived(&self.succession),
            ring: self.ring.iter().map(derived).collect(),
            signs: self.signs,
            others: self
                .others
                .iter()
                .map(|other| other.within(namespace))
                .collect(),
            is_weak: self.is_weak,
        }
    }

    /// Keys from a fresh random root: sessions end with the process. For tests and first steps.
    pub fn random() -> Self {
        Self::new(&SecretKey::random())
    }

    /// Accepts what `key` signed, and signs as before: the first step of a rotation.
    #[must_use]
    pub fn announce(self, key: &SecretKey) -> Self {
        let signs = self.signs + 1;
        self.newest(key, signs)
    }

    /// Signs with `key` from now on, and still accepts what earlier keys signed.
    #[must_use]
    pub fn rotate(self, key: &SecretKey) -> Self {
        self.newest(key, 0)
    }

    fn newest(mut self, key: &SecretKey, signs: usize) -> Self {
        // A vector that grows leaves its content behind; this one is wiped.
        let mut ring = Vec::with_capacity(self.ring.len() + 1);
        ring.push(mac_key(key));
        ring.extend_from_slice(&self.ring);
        self.ring.zeroize();
        self.ring = ring;
        self.signs = signs;
        self
    }

    /// A new token for a session, with 128 random bits of secret.
    ///
    /// # Panics
    ///
    /// If the system has no random generator; nothing secure can be done without one.
    pub fn mint(&self, kind: TokenKind, id: SessionId) -> Token {
        // Made in its place, so that no copy of the secret stays behind.
        let mut token = Token::blank(kind, id);
        fill_random(token.secret_mut());
        token.set_mac(&self.mac(&self.ring[self.signs], &token));
        token
    }

    /// The token of this kind that `refresh` is traded for, with `salt`; the same whenever asked.
    ///
    /// Its secret comes of the old one's and of the salt, 128 random bits each, under a key of its
    /// own: whoever trades in one token twice gets one answer, and nobody keeps it meanwhile. A
    /// leaked database (the salt) or an old token alone is not enough to know it.
    pub fn succeed(&self, refresh: &Token, salt: &Salt, kind: TokenKind) -> Token {
        let mut input = [0; 49];
        input[0] = kind.tag();
        input[1..17].copy_from_slice(refresh.id().as_bytes());
        input[17..33].copy_from_slice(refresh.secret());
        input[33..].copy_from_slice(&salt.0);
        let hash = blake3::keyed_hash(&self.succession, &input);
        input.zeroize();
        let mut token = Token::blank(kind, refresh.id());
        token.secret_mut().copy_from_slice(&hash.as_bytes()[..16]);
        token.set_mac(&self.mac(&self.ring[self.signs], &token));
        token
    }

    /// The pair of tokens, access and refresh, that `refresh` was traded for with `salt`, of which the
    /// refresh token is stored as `newest`; whichever root it was made by, but for a leaked one.
    pub fn succeeded(
        &self,
        refresh: &Token,
        salt: &Salt,
        newest: Option<KeyHash>,
    ) -> Option<(Token, Token)> {
        let others = self
            .others
            .iter()
            .filter(|other| other.kind != OtherKind::Leaked);
        std::iter::once(self)
            .chain(others.map(|other| &other.keys))
            .find_map(|keys| {
                let next = keys.succeed(refresh, salt, TokenKind::Refresh);
                let access = || keys.succeed(refresh, salt, TokenKind::Access);
                (newest == Some(keys.hash_own(&next))).then(|| (access(), next))
            })
    }

    /// Whether the token was minted under one of these keys. One hash per accepted key, no I/O.
    pub fn verify(&self, token: &Token) -> bool {
        self.signed(token).is_some()
    }

    /// Whether the token is of a root that [has leaked](Self::retire_leaked_root), so that anybody may
    /// have signed it.
    pub fn is_of_leaked_root(&self, token: &Token) -> bool {
        self.signed_own(token).is_none()
            && self
                .other_of(token)
                .is_some_and(|other| other.kind == OtherKind::Leaked)
    }

    /// The keys of another root that signed the token.
    fn other_of(&self, token: &Token) -> Option<&Other> {
        self.others.iter().find(|other| other.keys.verify(token))
    }

    /// Which key signed the token; `None` if it is none of these. One hash per accepted key, no
    /// I/O; the time that it takes tells nothing of the token.
    pub fn signed(&self, token: &Token) -> Option<Signed> {
        self.signed_own(token).or_else(|| {
            self.other_of(token).map(|other| match other.kind {
                OtherKind::Announced => Signed::Announced,
                OtherKind::Retired | OtherKind::Leaked => Signed::Retired,
            })
        })
    }

    fn signed_own(&self, token: &Token) -> Option<Signed> {
        const NOBODY: u64 = u64::MAX;
        let mut signer = NOBODY;
        // Of a key that is there twice, announced and then rotated to, the newest place counts.
        for (at, key) in self.ring.iter().enumerate().rev() {
            let mac = self.mac(key, token);
            signer.conditional_assign(&(at as u64), mac.ct_eq(token.mac()));
        }
        (signer != NOBODY).then(|| match signer.cmp(&(self.signs as u64)) {
            Ordering::Less => Signed::Announced,
            Ordering::Equal => Signed::Current,
            Ordering::Greater => Signed::Retired,
        })
    }

    /// Whether a key is accepted that signs no more.
    pub fn has_retired(&self) -> bool {
        self.ring.len() > self.signs + 1
    }

    /// The same token under the key that signs; `None` unless a retired key signed it. Free of
    /// cost while no key is retired, else one hash per accepted key and one more.
    ///
    /// `tower-session` does this for cookies. For clients that keep their token themselves an
    /// application may do it, in an answer that they read; or leave it until they refresh.
    pub fn resign(&self, token: &Token) -> Option<Token> {
        // A token of another root has another hash in the database: it goes on as it is.
        if !self.has_retired() || self.signed_own(token) != Some(Signed::Retired) {
            return None;
        }
        let mut token = token.clone();
        token.set_mac(&self.mac(&self.ring[self.signs], &token));
        Some(token)
    }

    /// Of a refresh token the root is needed too: one that is not the newest ends its session, and
    /// whoever knows a MAC key alone shall not be able to do that.
    fn mac(&self, key: &[u8; 32], token: &Token) -> [u8; 16] {
        count_hash();
        let hash = match token.kind() {
            TokenKind::Access => blake3::keyed_hash(key, token.proven()),
            TokenKind::Refresh => {
                let key = blake3::keyed_hash(&self.succession, key);
                blake3::keyed_hash(key.as_bytes(), token.proven())
            }
        };
        let mut mac = [0; 16];
        mac.copy_from_slice(&hash.as_bytes()[..16]);
        mac
    }

    /// What is stored of a minted token: its hash under the root that it is of.
    #[inline]
    pub fn hash(&self, token: &Token) -> KeyHash {
        match self.others.is_empty() {
            true => self.hash_own(token),
            false => self.hash_of_its_root(token),
        }
    }

    #[cold]
    fn hash_of_its_root(&self, token: &Token) -> KeyHash {
        let other = match self.signed_own(token) {
            Some(_) => None,
            None => self.other_of(token),
        };
        other.map_or_else(|| self.hash_own(token), |other| other.keys.hash_own(token))
    }

    fn hash_own(&self, token: &Token) -> KeyHash {
        count_hash();
        KeyHash::new(&blake3::keyed_hash(&self.hash, token.proven()), false)
    }

    /// What is stored of someone else's token, such as a JWT.
    pub fn hash_foreign(&self, kind: TokenKind, token: &ForeignToken<'_>) -> KeyHash {
        let mut hasher = blake3::Hasher::new_keyed(&self.hash);
        // Up to release 0.1 it was the id alone, behind another tag.
        hasher.update(&[kind.tag() | 0xc0]);
        for (length, part) in token.parts() {
            hasher.update(&length).update(part.as_bytes());
        }
        KeyHash::new(&hasher.finalize(), true)
    }

    /// What may be stored of someone else's token: under these keys, and then under other roots that are
    /// accepted.
    pub fn hashes_foreign(
        &self,
        kind: TokenKind,
        token: &ForeignToken<'_>,
    ) -> impl Iterator<Item = KeyHash> {
        let others = self.others.iter().map(|other| &other.keys);
        let all = std::iter::once(self).chain(others);
        all.map(move |keys| keys.hash_foreign(kind, token))
    }

    /// Whether these are the first bytes of what [`seal`](Self::seal) made of this content at this place,
    /// under these keys or under another root that is accepted and has not leaked. In constant time for
    /// each root.
    pub fn opens<const BYTES: usize>(
        &self,
        place: &[&[u8]],
        content: &[u8],
        seal: &[u8; BYTES],
    ) -> bool {
        const { assert!(BYTES >= 12 && BYTES <= 16) };
        let sealed = |keys: &Self| bool::from(keys.seal(place, content)[..BYTES].ct_eq(seal));
        let mut others = self
            .others
            .iter()
            .filter(|other| other.kind != OtherKind::Leaked);
        sealed(self) || others.any(|other| sealed(&other.keys))
    }

    /// The [seals](Self::seal) under these keys, and then under each other root that is accepted and has
    /// not leaked.
    pub fn seals(&self, place: &[&[u8]], content: &[u8]) -> impl Iterator<Item = [u8; 16]> {
        let others = self
            .others
            .iter()
            .filter(|other| other.kind != OtherKind::Leaked);
        let all = std::iter::once(self).chain(others.map(|other| &other.keys));
        all.map(|keys| keys.seal(place, content))
    }

    /// Seals a record that leaves the process: 16 bytes over the place it stands in, whose pieces
    /// are read as one, and its content. A record that was damaged, moved or made by someone else does
    /// not match.
    pub fn seal(&self, place: &[&[u8]], content: &[u8]) -> [u8; 16] {
        count_hash();
        let length: usize = place.iter().map(|piece| piece.len()).sum();
        let mut hasher = blake3::Hasher::new_keyed(&self.record);
        hasher.update(&(length as u64).to_le_bytes());
        for piece in place {
            hasher.update(piece);
        }
        hasher.update(content);
        let mut seal = [0; 16];
        seal.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        seal
    }
}

impl Other {
    fn within(&self, namespace: &str) -> Self {
        Self {
            keys: self.keys.within(namespace),
            kind: self.kind,
        }
    }
}

/// Two roots have a MAC key in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "both roots have a MAC key in common: a new root needs a new MAC key, or one that is made of it"
)]
pub struct SharedMacKey;

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({} accepted, …)", self.ring.len())
    }
}

/// The random part of what a refresh token is traded for: see [`TokenKeys::succeed`]. Stored with
/// the session; no secret by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt([u8; 16]);

impl Salt {
    /// 128 fresh bits.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        let mut salt = [0; 16];
        fill_random(&mut salt);
        Self(salt)
    }

    /// The salt as stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A salt that was stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

#[cfg(not(test))]
#[inline(always)]
fn count_hash() {}

#[cfg(test)]
thread_local!(static HASHES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });

#[cfg(test)]
fn count_hash() {
    HASHES.set(HASHES.get() + 1);
}

fn mac_key(secret: &SecretKey) -> [u8; 32] {
    blake3::derive_key("session-core v1 token mac", secret.exposed())
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a random generator");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a lookup costs beside I/O: the hash that is compared, and where the session is not hot the MAC.
    #[test]
    fn each_root_that_is_accepted_costs_the_hashes_that_are_stated() {
        let root = || TokenKeys::new(&SecretKey::random());
        let (new, old, older) = (root(), root(), root());
        let all = new.clone().retire_root(old.clone()).unwrap();
        let all = all.retire_root(older.clone()).unwrap();
        let token = |keys: &TokenKeys| keys.mint(TokenKind::Access, SessionId::random());
        let hashes = |work: &dyn Fn()| {
            HASHES.set(0);
            work();
            HASHES.get()
        };
        let (new_token, old_token, older_token) = (token(&new), token(&old), token(&older));
        let forged = token(&root());
        // With one root.
        assert_eq!(
            hashes(&|| assert_eq!(new.hash(&new_token).as_bytes().len(), 16)),
            1
        );
        assert_eq!(hashes(&|| assert!(new.verify(&new_token))), 1);
        // With three.
        for (token, compared, verified) in [
            (&new_token, 2, 1),
            (&old_token, 3, 2),
            (&older_token, 4, 3),
            (&forged, 4, 3),
        ] {
            assert_eq!(
                hashes(&|| assert_eq!(all.hash(token).as_bytes().len(), 16)),
                compared
            );
            assert_eq!(
                hashes(&|| assert_eq!(all.verify(token), token.id() != forged.id())),
                verified
            );
        }
        for (keys, opened) in [(&new, 1), (&old, 2), (&older, 3)] {
            let seal = keys.seal(&[b"place"], b"content");
            assert_eq!(
                hashes(&|| assert!(all.opens(&[b"place"], b"content", &seal))),
                opened
            );
        }
    }

    #[test]
    fn a_root_that_has_leaked_opens_and_derives_nothing() {
        let root = || TokenKeys::new(&SecretKey::random());
        let (new, old) = (root(), root());
        let retired = new.clone().retire_root(old.clone()).unwrap();
        let leaked = new.clone().retire_leaked_root(old.clone()).unwrap();
        let seal = old.seal(&[b"place"], b"content");
        assert!(retired.opens(&[b"place"], b"content", &seal));
        assert!(!leaked.opens(&[b"place"], b"content", &seal));
        let (token, salt) = (
            old.mint(TokenKind::Refresh, SessionId::random()),
            Salt::random(),
        );
        let newest = old.hash(&old.succeed(&token, &salt, TokenKind::Refresh));
        assert!(retired.succeeded(&token, &salt, Some(newest)).is_some());
        assert!(leaked.succeeded(&token, &salt, Some(newest)).is_none());
        // Its tokens still find their sessions, by the hash that is stored of them.
        assert!(leaked.verify(&token) && leaked.is_of_leaked_root(&token));
        assert_eq!(leaked.hash(&token), old.hash(&token));
        assert!(!retired.is_of_leaked_root(&token));
        // Within a namespace the same.
        let (within, theirs) = (leaked.within("shop"), old.within("shop"));
        let seal = theirs.seal(&[b"place"], b"content");
        assert!(!within.opens(&[b"place"], b"content", &seal));
        let token = theirs.mint(TokenKind::Access, SessionId::random());
        assert_eq!(within.hash(&token), theirs.hash(&token));
    }

    #[test]
    fn two_roots_have_no_mac_key_in_common() {
        let (root, other, key) = (
            SecretKey::random(),
            SecretKey::random(),
            SecretKey::random(),
        );
        let with = |root| TokenKeys::with_mac_key(root, &key);
        assert_eq!(
            with(&root).retire_root(with(&other)).err(),
            Some(SharedMacKey)
        );
        assert!(TokenKeys::new(&root).retire_root(with(&other)).is_ok());
    }

    #[test]
    fn a_seal_is_one_hash_whatever_pieces_its_place_comes_in() {
        let keys = TokenKeys::random();
        let place = b"lineage and key";
        for length in [0, 1, 80, 5000] {
            let content = vec![7; length];
            let mut whole = (place.len() as u64).to_le_bytes().to_vec();
            whole.extend_from_slice(place);
            whole.extend_from_slice(&content);
            let hash = blake3::keyed_hash(&keys.record, &whole);
            let (lineage, key) = place.split_at(7);
            for pieces in [&[&place[..]][..], &[lineage, key]] {
                assert_eq!(keys.seal(pieces, &content), hash.as_bytes()[..16]);
            }
            assert_ne!(
                keys.seal(&[lineage], &[key, &content].concat()),
                hash.as_bytes()[..16]
            );
        }
    }
}
