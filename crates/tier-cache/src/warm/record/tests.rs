use proptest::option;
use proptest::prelude::*;

use super::*;

const PREFIX: &str = "session";
const LINEAGE: Lineage = Lineage::new(0x0123_4567_89ab_cdee);

fn hash() -> impl Strategy<Value = KeyHash> {
    any::<[u8; 16]>().prop_map(KeyHash::from_bytes)
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,40}".prop_map(String::into_boxed_str)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_unix_millis)
}

fn user() -> impl Strategy<Value = User> {
    let id = prop_oneof![
        any::<i64>().prop_map(UserId::Int),
        any::<[u8; 16]>().prop_map(|bytes| UserId::Uuid(uuid::Uuid::from_bytes(bytes))),
    ];
    (id, text(), text()).prop_map(|(id, email, username)| User {
        id,
        email,
        username,
    })
}

fn head() -> impl Strategy<Value = Head> {
    let stamps = (any::<[u8; 16]>(), any::<i64>(), any::<i64>());
    let times = (time(), time(), time());
    let policy = (option::of(any::<u32>()), any::<u8>());
    let hashes = (option::of(hash()), option::of(hash()));
    (stamps, option::of(user()), times, policy, hashes).prop_map(
        |((id, version, as_of), user, times, (idle, assurance), (access, refresh))| {
            let (expires_at, last_seen_at, authenticated_at) = times;
            Head {
                user,
                last_seen_at,
                idle_ttl: idle.map(|seconds| Duration::from_secs(seconds.into())),
                authenticated_at,
                assurance,
                version: Version::new(version),
                as_of: Mark::new(as_of),
                access,
                refresh,
                ..Head::new(SessionId::from_bytes(id), expires_at, expires_at)
            }
        },
    )
}

fn body() -> impl Strategy<Value = RawBody> {
    let device = (
        option::of(any::<IpAddr>()),
        option::of(text()),
        option::of(text()),
    );
    (device, time(), text()).prop_map(|((ip, user_agent, label), created_at, data)| RawBody {
        device: Device {
            ip,
            user_agent,
            label,
        },
        created_at,
        data,
    })
}

fn record() -> impl Strategy<Value = WarmRecord> {
    prop_oneof![
        4 => (head(), option::of(body()), (0..1_u8 << ExpiryHint::BITS).prop_map(ExpiryHint::from_bits))
            .prop_map(|(head, body, ends)| WarmRecord::Session { head, body, ends }),
        1 => head().prop_map(|head| WarmRecord::Tombstone {
            id: head.id,
            version: head.version,
            as_of: head.as_of,
        }),
    ]
}

fn places(record: &WarmRecord) -> [Place; 2] {
    let foreign = KeyHash::from_bytes([0xff; 16]);
    [Place::Session(record.id()), Place::Foreign(foreign)]
}

/// Seals what was changed, as only someone with the keys can.
fn resealed(mut bytes: Vec<u8>, key: &[u8], keys: &TokenKeys) -> Vec<u8> {
    bytes.truncate(bytes.len() - SEAL);
    let seal = seal(key, &bytes, LINEAGE, keys);
    bytes.extend_from_slice(&seal);
    bytes
}

proptest! {
    #[test]
    fn a_record_reads_as_it_was_written(record in record()) {
        let keys = TokenKeys::random();
        for place in places(&record) {
            let key = place.key(PREFIX);
            let bytes = encode(&record, place, &key, LINEAGE, &keys);
            prop_assert_eq!(decode(&bytes, place, &key, LINEAGE, &keys), Some(record.clone()));
        }
    }

    #[test]
    fn a_damaged_record_is_refused(record in record(), tail in any::<u8>()) {
        let keys = TokenKeys::random();
        for place in places(&record) {
            let key = place.key(PREFIX);
            let bytes = encode(&record, place, &key, LINEAGE, &keys);
            for at in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..at], place, &key, LINEAGE, &keys), None);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                prop_assert_eq!(decode(&flipped, place, &key, LINEAGE, &keys), None);
            }
            let mut longer = bytes;
            longer.push(tail);
            prop_assert_eq!(decode(&longer, place, &key, LINEAGE, &keys), None);
        }
    }

    #[test]
    fn whatever_stands_there_and_however_it_is_sealed_nothing_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let keys = TokenKeys::random();
        let place = Place::Session(SessionId::random());
        let key = place.key(PREFIX);
        decode(&bytes, place, &key, LINEAGE, &keys);
        bytes.splice(0..0, [epoch(LINEAGE), FULL << ExpiryHint::BITS]);
        bytes.extend_from_slice(&[0; SEAL]);
        decode(&resealed(bytes, &key, &keys), place, &key, LINEAGE, &keys);
    }

    #[test]
    fn numbers_are_ordered_as_their_bytes_are(a in any::<i64>(), b in any::<i64>()) {
        prop_assert_eq!(ordered(a).cmp(&ordered(b)), a.cmp(&b));
        prop_assert_eq!(unordered(ordered(a)), a);
    }
}

#[test]
fn a_record_of_another_place_or_maker_is_refused() {
    let keys = TokenKeys::random();
    let record = tombstone();
    let place = Place::Session(record.id());
    let key = place.key(PREFIX);
    let bytes = encode(&record, place, &key, LINEAGE, &keys);

    let elsewhere = Place::Session(SessionId::random());
    let other_key = elsewhere.key(PREFIX);
    assert_eq!(decode(&bytes, elsewhere, &other_key, LINEAGE, &keys), None);
    let other_prefix = place.key("staging");
    assert_eq!(decode(&bytes, place, &other_prefix, LINEAGE, &keys), None);
    assert_eq!(
        decode(&bytes, place, &key, LINEAGE, &TokenKeys::random()),
        None
    );
    // One with the same epoch, too.
    for lineage in [LINEAGE.get() ^ 0x0101, 0].map(Lineage::new) {
        assert_eq!(decode(&bytes, place, &key, lineage, &keys), None);
    }
}

#[test]
fn formats_kinds_and_tails_that_we_do_not_know_are_refused_though_sealed() {
    let keys = TokenKeys::random();
    let record = tombstone();
    let place = Place::Session(record.id());
    let key = place.key(PREFIX);
    let bytes = encode(&record, place, &key, LINEAGE, &keys);
    let read = |bytes: Vec<u8>| decode(&resealed(bytes, &key, &keys), place, &key, LINEAGE, &keys);
    assert_eq!(read(bytes.clone()), Some(record));

    for format in [1, 2, 0x80, 0xff].map(|bits| epoch(LINEAGE) ^ bits) {
        let mut changed = bytes.clone();
        changed[0] = format;
        assert_eq!(read(changed), None);
    }
    // A head or a full record without a payload is as bad as an unknown kind.
    for kind in [0, HEAD, FULL] {
        let mut changed = bytes.clone();
        changed[1] = kind << ExpiryHint::BITS;
        assert_eq!(read(changed), None);
    }
    let mut longer = bytes.clone();
    longer.splice(PREAMBLE..PREAMBLE, [0]);
    assert_eq!(read(longer), None);
}

#[test]
fn a_record_larger_than_a_session_can_be_is_refused() {
    let keys = TokenKeys::random();
    let id = SessionId::random();
    let place = Place::Session(id);
    let key = place.key(PREFIX);
    let readable = |data: usize| {
        let record = WarmRecord::Session {
            head: Head::new(
                id,
                Timestamp::from_unix_millis(0),
                Timestamp::from_unix_millis(0),
            ),
            body: Some(RawBody {
                device: Device::default(),
                created_at: Timestamp::from_unix_millis(0),
                data: "x".repeat(data).into(),
            }),
            ends: ExpiryHint::WITH_SESSION,
        };
        let bytes = encode(&record, place, &key, LINEAGE, &keys);
        decode(&bytes, place, &key, LINEAGE, &keys).is_some()
    };
    assert!(readable(16 << 20));
    assert!(!readable(MAX));
}

#[test]
fn only_ids_and_foreign_hashes_have_a_place() {
    let minted = KeyHash::from_bytes([2; 16]);
    let foreign = KeyHash::from_bytes([3; 16]);
    assert!(Place::of(Key::AccessJti(minted)).is_none());
    assert!(Place::of(Key::Refresh(minted)).is_none());
    let place = Place::of(Key::AccessJti(foreign)).unwrap();
    assert_eq!(place.key("app"), b"app:f:AwMDAwMDAwMDAwMDAwMDAw");
    let place = Place::of(Key::Id(SessionId::from_bytes([3; 16]))).unwrap();
    assert_eq!(place.key("app"), b"app:AwMDAwMDAwMDAwMDAwMDAw");
    assert_eq!(place.lease("app"), b"app:l:AwMDAwMDAwMDAwMDAwMDAw");
}

#[test]
fn a_seal_is_of_the_lineage_the_key_and_what_precedes_it_in_this_order() {
    let (record, keys) = (tombstone(), TokenKeys::random());
    let place = Place::Session(record.id());
    let key = place.key(PREFIX);
    let bytes = encode(&record, place, &key, LINEAGE, &keys);
    let (content, seal) = bytes.split_last_chunk::<SEAL>().unwrap();
    let sealed_place = [&LINEAGE.get().to_le_bytes()[..], &key].concat();
    assert_eq!(keys.seal(&[&sealed_place], content)[..SEAL], seal[..]);
}

fn tombstone() -> WarmRecord {
    WarmRecord::Tombstone {
        id: SessionId::random(),
        version: Version::DELETED,
        as_of: Mark::new(5),
    }
}
