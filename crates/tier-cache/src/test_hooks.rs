//! For fuzzing alone: what is read of Redis, with the seal out of the way that keeps made-up
//! bytes from getting far.

use session_core::{KeyHash, Lineage, SecretKey, SessionId, TokenKeys};

use crate::cold::Changed;
use crate::warm::{Place, decode, encode, seal};

const LINEAGE: Lineage = Lineage::ONLY;

/// Reads bytes as a warm record, and as the content of one that we sealed. Returns whether they are
/// the content of a record.
///
/// # Panics
///
/// If what is read is read differently once it is written again.
pub fn read_warm_record(bytes: &[u8]) -> bool {
    let mut is_read = false;
    let keys = keys();
    let id = SessionId::from_bytes([1; 16]);
    for place in [
        Place::Session(id),
        Place::Foreign(KeyHash::from_bytes([1; 16])),
    ] {
        let key = place.key("session");
        let decode = |bytes: &[u8]| decode(bytes, place, &key, LINEAGE, &keys);
        assert_eq!(decode(bytes), None, "it is not sealed");
        let sealed = [bytes, &seal(&key, bytes, LINEAGE, &keys)].concat();
        if let Some(record) = decode(&sealed) {
            is_read = true;
            let again = encode(&record, place, &key, LINEAGE, &keys);
            assert_eq!(decode(&again), Some(record));
        }
    }
    is_read
}

/// Reads bytes as a push, and as the content of one that we sealed. Returns whether they are the
/// content of a push.
///
/// # Panics
///
/// If what is read is not written in the same bytes again.
pub fn read_push(bytes: &[u8]) -> bool {
    const CHANNEL: &str = "session:changes";
    let keys = keys();
    assert_eq!(
        Changed::decode(bytes, CHANNEL, &keys),
        None,
        "it is not sealed"
    );
    let sealed = [bytes, &keys.seal(&[CHANNEL.as_bytes()], bytes)].concat();
    let Some((lineage, push)) = Changed::decode(&sealed, CHANNEL, &keys) else {
        return false;
    };
    assert_eq!(push.encode(CHANNEL, lineage, &keys)[..], sealed);
    true
}

/// The same each time, so that what was found once is found again.
fn keys() -> TokenKeys {
    TokenKeys::new(&SecretKey::new([7; 32]).expect("it is long enough"))
}
