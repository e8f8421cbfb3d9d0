//! Looking at a record as nodes would, and saying what they would not.

use std::time::Duration;

use redis::RedisError;
use session_core::{Key, Lineage, Timestamp, TokenKeys};

use super::broken::Broken;
use super::content::WarmRecord;
use super::finding::{Unreadable, WarmFound, WarmKind};
use super::record::{MAX, PREAMBLE, Place, SEAL, decode, epoch};
use super::tier::Warm;

impl Warm {
    /// What stands where a lookup by `key` reads. A minted token's hash leads nowhere.
    pub(crate) async fn inspect(&self, key: Key, lineage: Lineage, now: Timestamp) -> WarmFound {
        let Some(place) = Place::of(key) else {
            return WarmFound::Nothing;
        };
        let Some(connection) = self.health.connection() else {
            return WarmFound::Unanswered(format!("{} is not reached", self.target).into());
        };
        let key = place.key(&self.prefix);
        let get = redis::cmd("GET").arg(&key).take();
        let got = self
            .ask::<Option<Vec<u8>>>(connection.clone(), &self.sent.get, &get)
            .await;
        let read = match got {
            Ok(None) => return WarmFound::Nothing,
            Ok(Some(bytes)) => read(&bytes, place, &key, lineage, &self.keys)
                .map(|(record, kind)| (record, kind, bytes.len())),
            Err(error) if error.code() == Some("WRONGTYPE") => Err(Unreadable::Form),
            Err(error) => return WarmFound::Unanswered(words(error)),
        };
        let sent = self.metrics.meter.redis_command("PTTL");
        let ask = redis::cmd("PTTL").arg(&key).take();
        let ttl = self.ask::<i64>(connection, &sent, &ask).await.ok();
        let ttl = ttl.and_then(|ttl| u64::try_from(ttl).ok());
        let ttl = ttl.map(Duration::from_millis);
        match read {
            Ok((record, kind, bytes)) => {
                let (version, as_of) = record.stamp();
                let standing = match &record {
                    WarmRecord::Session { head, .. } => Some(head.standing(now)),
                    WarmRecord::Tombstone { .. } => None,
                };
                WarmFound::Record {
                    kind,
                    standing,
                    id: record.id(),
                    version,
                    as_of,
                    bytes,
                    ttl,
                }
            }
            Err(why) => WarmFound::Unreadable { why, ttl },
        }
    }
}

fn read(
    bytes: &[u8],
    place: Place,
    key: &[u8],
    lineage: Lineage,
    keys: &TokenKeys,
) -> Result<(WarmRecord, WarmKind), Unreadable> {
    if let Some(record) = decode(bytes, place, key, lineage, keys) {
        let kind = match &record {
            WarmRecord::Session { body: None, .. } => WarmKind::Head,
            WarmRecord::Session { body: Some(_), .. } => WarmKind::Full,
            WarmRecord::Tombstone { .. } => WarmKind::Tombstone,
        };
        return Ok((record, kind));
    }
    let form = PREAMBLE + SEAL..=MAX;
    let Some((content, sealed)) = bytes.split_last_chunk::<SEAL>() else {
        return Err(Unreadable::Form);
    };
    Err(if !form.contains(&bytes.len()) {
        Unreadable::Form
    } else if bytes[0] != epoch(lineage) {
        Unreadable::Lineage
    } else if !keys.opens(&[&lineage.get().to_le_bytes(), key], content, sealed) {
        Unreadable::Seal
    } else {
        Unreadable::Content
    })
}

/// Why Redis did not answer, with no secret in it.
fn words(error: RedisError) -> Box<str> {
    let Broken(reason) = error.into();
    reason.into()
}
