//! How a session is written in Redis.
//!
//! ```text
//! epoch (1) | kind and end (1) | version (8) | as_of (8) | [id (16)] | payload | seal (12)
//! ```
//!
//! Version and mark stand at fixed places, big-endian with the sign bit flipped, so that the
//! script can compare them; the epoch tells this format and the database's lineage apart from
//! others, as well as one byte can, so that a record of another never keeps one of this one out.
//! The id stands there only where the key does not tell it: under a foreign key. The payload is
//! postcard; a tombstone has none. Two bits tell the kind, the other six when Redis drops the record. The seal covers the lineage, the key and all that precedes it.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use session_core::{
    Device, Head, Key, KeyHash, Lineage, Mark, SessionId, Timestamp, TokenKeys, User, UserId,
    Version,
};

use super::content::WarmRecord;
use super::ttl::ExpiryHint;
use crate::cold::RawBody;

const FORMAT: u8 = 1;
const HEAD: u8 = 1;
const FULL: u8 = 2;
const TOMBSTONE: u8 = 3;

/// Epoch, kind, version and mark.
pub(super) const PREAMBLE: usize = 18;
/// 96 bits, which can be guessed only at Redis itself, one try at a time. Four more bytes, and a
/// common head would take the next larger piece of Redis's memory, which has 32 more.
pub(super) const SEAL: usize = 12;
/// Above all that `session.max_data` allows; more is not ours.
pub(super) const MAX: usize = 17 << 20;

/// Characters of 16 bytes.
const NAME: usize = 22;
/// Of a key after its prefix.
pub(super) const LONGEST: usize = ":f:".len() + NAME;

/// Where a record stands: under its session's id, or under a foreign key of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Session(SessionId),
    Foreign(KeyHash),
}

impl Place {
    /// The place that a lookup by `key` reads; a minted token's hash has none, since the token
    /// carries the id.
    pub(super) fn of(key: Key) -> Option<Self> {
        match key {
            Key::Id(id) => Some(Self::Session(id)),
            Key::AccessJti(hash) | Key::Refresh(hash) => {
                hash.is_foreign().then_some(Self::Foreign(hash))
            }
        }
    }

    /// The key in Redis.
    pub(crate) fn key(self, prefix: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(prefix.len() + LONGEST);
        self.write_key(prefix, &mut key);
        key
    }

    /// The same after what is there already.
    pub(super) fn write_key(self, prefix: &str, to: &mut Vec<u8>) {
        match self {
            Self::Session(id) => write(prefix, ":", id.as_bytes(), to),
            Self::Foreign(hash) => write(prefix, ":f:", hash.as_bytes(), to),
        }
    }

    /// The key of its lease.
    pub(super) fn lease(self, prefix: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(prefix.len() + LONGEST);
        match self {
            Self::Session(id) => write(prefix, ":l:", id.as_bytes(), &mut key),
            Self::Foreign(hash) => write(prefix, ":l:", hash.as_bytes(), &mut key),
        }
        key
    }
}

fn write(prefix: &str, mark: &str, name: &[u8; 16], to: &mut Vec<u8>) {
    to.extend_from_slice(prefix.as_bytes());
    to.extend_from_slice(mark.as_bytes());
    let mut text = [0; NAME];
    URL_SAFE_NO_PAD
        .encode_slice(name, &mut text)
        .expect("16 bytes are 22 characters");
    to.extend_from_slice(&text);
}

/// The record as it stands under `key`, which is the key of `place`.
pub(crate) fn encode(
    record: &WarmRecord,
    place: Place,
    key: &[u8],
    lineage: Lineage,
    keys: &TokenKeys,
) -> Vec<u8> {
    let (version, as_of) = record.stamp();
    let (kind, ends) = match record {
        WarmRecord::Session { body, ends, .. } => (if body.is_some() { FULL } else { HEAD }, *ends),
        WarmRecord::Tombstone { .. } => (TOMBSTONE, ExpiryHint::WITH_SESSION),
    };
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&[epoch(lineage), kind << ExpiryHint::BITS | ends.bits()]);
    bytes.extend_from_slice(&ordered(version.get()));
    bytes.extend_from_slice(&ordered(as_of.get()));
    if let Place::Foreign(_) = place {
        bytes.extend_from_slice(record.id().as_bytes());
    }
    if let WarmRecord::Session { head, body, .. } = record {
        bytes = append(&PlainHead::from(head), bytes);
        if let Some(body) = body {
            bytes = append(&PlainBody::from(body), bytes);
        }
    }
    let seal = seal(key, &bytes, lineage, keys);
    bytes.extend_from_slice(&seal);
    bytes
}

/// The record that was written under `key`; `None` if it was not written there by us, or not in
/// a way that we know, or of another lineage.
pub(crate) fn decode(
    bytes: &[u8],
    place: Place,
    key: &[u8],
    lineage: Lineage,
    keys: &TokenKeys,
) -> Option<WarmRecord> {
    if bytes.len() > MAX || bytes.first() != Some(&epoch(lineage)) {
        return None;
    }
    let (content, sealed) = bytes.split_last_chunk::<SEAL>()?;
    if !keys.opens(&[&lineage.get().to_le_bytes(), key], content, sealed) {
        return None;
    }
    let (preamble, rest) = content.split_first_chunk::<PREAMBLE>()?;
    let (version, as_of) = preamble[2..].split_at(8);
    let version = Version::new(unordered(version.try_into().ok()?));
    let as_of = Mark::new(unordered(as_of.try_into().ok()?));
    let (id, payload) = match place {
        Place::Session(id) => (id, rest),
        Place::Foreign(_) => {
            let (id, payload) = rest.split_first_chunk::<16>()?;
            (SessionId::from_bytes(*id), payload)
        }
    };
    let kind = preamble[1] >> ExpiryHint::BITS;
    let ends = ExpiryHint::from_bits(preamble[1] & ((1 << ExpiryHint::BITS) - 1));
    let (record, rest) = match kind {
        HEAD | FULL => {
            let (head, rest) = postcard::take_from_bytes::<PlainHead<'_>>(payload).ok()?;
            let head = head.with(id, version, as_of);
            let (body, rest) = match kind {
                HEAD => (None, rest),
                _ => {
                    let (body, rest) = postcard::take_from_bytes::<PlainBody<'_>>(rest).ok()?;
                    (Some(body.into()), rest)
                }
            };
            (WarmRecord::Session { head, body, ends }, rest)
        }
        TOMBSTONE => (WarmRecord::Tombstone { id, version, as_of }, payload),
        _ => return None,
    };
    rest.is_empty().then_some(record)
}

pub(super) fn epoch(lineage: Lineage) -> u8 {
    lineage
        .get()
        .to_le_bytes()
        .iter()
        .fold(FORMAT, |epoch, byte| epoch ^ byte)
}

pub(crate) fn seal(key: &[u8], content: &[u8], lineage: Lineage, keys: &TokenKeys) -> [u8; SEAL] {
    let place = [&lineage.get().to_le_bytes(), key];
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&keys.seal(&place, content)[..SEAL]);
    seal
}

/// Eight bytes that compare as the number does.
pub(crate) fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

/// The number that was written by [`ordered`].
pub(crate) fn unordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

fn append(part: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    // A vector takes any length, and none of our types has a form that postcard lacks.
    postcard::to_extend(part, bytes).expect("plain structs of numbers and strings can be written")
}

/// A head without what stands before it. One that is not valid is kept as a tombstone instead.
#[derive(Serialize, Deserialize)]
struct PlainHead<'a> {
    #[serde(borrow)]
    user: Option<PlainUser<'a>>,
    expires_at: i64,
    /// How long before it expires, which takes fewer bytes than an instant; so with the next.
    last_seen: i64,
    authenticated: i64,
    idle_ttl: Option<u64>,
    assurance: u8,
    access: Option<[u8; 16]>,
    refresh: Option<[u8; 16]>,
}

#[derive(Serialize, Deserialize)]
struct PlainUser<'a> {
    id: PlainUserId,
    email: &'a str,
    username: &'a str,
}

/// [`UserId`] tells its kinds apart by their form, which postcard does not write.
#[derive(Serialize, Deserialize)]
enum PlainUserId {
    Int(i64),
    Uuid([u8; 16]),
}

#[derive(Serialize, Deserialize)]
struct PlainBody<'a> {
    ip: Option<IpAddr>,
    user_agent: Option<&'a str>,
    label: Option<&'a str>,
    created_at: i64,
    data: &'a str,
}

impl<'a> From<&'a Head> for PlainHead<'a> {
    fn from(head: &'a Head) -> Self {
        Self {
            user: head.user.as_ref().map(|user| PlainUser {
                id: match user.id {
                    UserId::Int(id) => PlainUserId::Int(id),
                    UserId::Uuid(id) => PlainUserId::Uuid(id.into_bytes()),
                },
                email: &user.email,
                username: &user.username,
            }),
            expires_at: head.expires_at.unix_millis(),
            last_seen: before(head.expires_at, head.last_seen_at),
            authenticated: before(head.expires_at, head.authenticated_at),
            idle_ttl: head.idle_ttl.map(|ttl| ttl.as_secs()),
            assurance: head.assurance,
            access: head.access.map(|hash| *hash.as_bytes()),
            refresh: head.refresh.map(|hash| *hash.as_bytes()),
        }
    }
}

impl PlainHead<'_> {
    fn with(self, id: SessionId, version: Version, as_of: Mark) -> Head {
        Head {
            id,
            user: self.user.map(|user| User {
                id: match user.id {
                    PlainUserId::Int(id) => UserId::Int(id),
                    PlainUserId::Uuid(id) => UserId::Uuid(uuid::Uuid::from_bytes(id)),
                },
                email: user.email.into(),
                username: user.username.into(),
            }),
            is_active: true,
            revoked_at: None,
            expires_at: Timestamp::from_unix_millis(self.expires_at),
            last_seen_at: Timestamp::from_unix_millis(self.expires_at.wrapping_sub(self.last_seen)),
            idle_ttl: self.idle_ttl.map(Duration::from_secs),
            authenticated_at: Timestamp::from_unix_millis(
                self.expires_at.wrapping_sub(self.authenticated),
            ),
            assurance: self.assurance,
            version,
            as_of,
            access: self.access.map(KeyHash::from_bytes),
            refresh: self.refresh.map(KeyHash::from_bytes),
        }
    }
}

fn before(end: Timestamp, instant: Timestamp) -> i64 {
    end.unix_millis().wrapping_sub(instant.unix_millis())
}

impl<'a> From<&'a RawBody> for PlainBody<'a> {
    fn from(body: &'a RawBody) -> Self {
        Self {
            ip: body.device.ip,
            user_agent: body.device.user_agent.as_deref(),
            label: body.device.label.as_deref(),
            created_at: body.created_at.unix_millis(),
            data: &body.data,
        }
    }
}

impl From<PlainBody<'_>> for RawBody {
    fn from(body: PlainBody<'_>) -> Self {
        Self {
            device: Device {
                ip: body.ip,
                user_agent: body.user_agent.map(Into::into),
                label: body.label.map(Into::into),
            },
            created_at: Timestamp::from_unix_millis(body.created_at),
            data: body.data.into(),
        }
    }
}

#[cfg(test)]
mod tests;
