use session_core::Device;

use super::*;
use crate::cold::RawBody;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_records_the_newer_stays_in_whatever_order_they_come() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    // Halves that compare otherwise as strings, as doubles, or one by one.
    let stamps = [
        (1, 7),
        (1, 8),
        (2, 0),
        (0xffff_ffff, 1),
        (0x1_0000_0000, 0),
        (0x1_0000_0000, 0xffff_ffff),
        (0x1_0000_0000, 0x1_0000_0000),
        (0x20_0000_0000_0000, 3),
        (0x20_0000_0000_0001, 2),
        (i64::MAX - 1, 0),
        (i64::MAX, i64::MAX - 1),
        (i64::MAX, i64::MAX),
    ];
    for (older, earlier) in stamps.iter().enumerate() {
        for later in &stamps[older + 1..] {
            for [first, second] in [[earlier, later], [later, earlier]] {
                let id = SessionId::random();
                node.warm
                    .fill(&session(id, first.0, first.1), LINEAGE, HOUR)
                    .await;
                node.warm
                    .fill(&session(id, second.0, second.1), LINEAGE, HOUR)
                    .await;
                let newer = session(id, later.0, later.1);
                assert_eq!(node.get(id).await, Some(newer), "{first:?} then {second:?}");
            }
        }
    }
    assert_eq!((count(&node.unreadable), count(&node.errors)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_records_of_one_version_and_mark_the_later_stays() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 3, 5), LINEAGE, HOUR).await;
    let whole = WarmRecord::Session {
        head: head(id, 3, 5),
        body: Some(RawBody {
            device: Device {
                ip: Some("2001:db8::1".parse().unwrap()),
                user_agent: Some("Mozilla/5.0".into()),
                label: None,
            },
            created_at: Timestamp::from_unix_millis(1),
            data: r#"{"cart":[1,2]}"#.into(),
        }),
        ends: ExpiryHint::from_bits(63),
    };
    node.warm.fill(&whole, LINEAGE, HOUR).await;
    assert_eq!(node.get(id).await, Some(whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fill_does_not_bring_a_revoked_session_back() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 3, 5), LINEAGE, HOUR).await;
    let revoked = tombstone(id, 4, 6);
    assert!(
        node.warm
            .apply(&revoked, &[], push(id, 4), LINEAGE, HOUR)
            .await
    );
    node.warm.fill(&session(id, 3, 9), LINEAGE, HOUR).await;
    assert_eq!(node.get(id).await, Some(revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_lineage_is_a_miss_and_however_new_it_is_it_is_replaced() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    let lost = Lineage::new(LINEAGE.get() + 1);
    node.warm.fill(&session(id, 9, 9), lost, HOUR).await;
    assert_eq!(node.get(id).await, None);
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    assert_eq!(node.get(id).await, Some(session(id, 1, 1)));
    assert_eq!(node.look_up(Key::Id(id), lost).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_leads_to_a_copy_that_ends_with_the_session() {
    let redis = Redis::start();
    let keys = TokenKeys::random();
    let node = Node::start(&config(redis.url()), &keys).await;
    let id = SessionId::random();
    let token = |id| session_core::ForeignToken::new("https://idp.example", id).unwrap();
    let jti = keys.hash_foreign(session_core::TokenKind::Access, &token("jti-1"));
    let next = keys.hash_foreign(session_core::TokenKind::Access, &token("jti-2"));
    let with = |version, jti| {
        let access = Some(jti);
        let head = Head {
            access,
            ..head(id, version, 1)
        };
        WarmRecord::Session {
            head,
            body: None,
            ends: ExpiryHint::WITH_SESSION,
        }
    };

    assert_eq!(node.look_up(Key::AccessJti(jti), LINEAGE).await, None);
    node.warm.fill(&with(1, jti), LINEAGE, HOUR).await;
    let found = node.look_up(Key::AccessJti(jti), LINEAGE).await;
    assert_eq!(found, Some(with(1, jti)));

    // The key changes: the old one leads to the session as it is now, which no longer has it.
    let changed = with(2, next);
    assert!(
        node.warm
            .apply(&changed, &[jti, jti], push(id, 2), LINEAGE, HOUR)
            .await
    );
    for key in [Key::Id(id), Key::AccessJti(jti), Key::AccessJti(next)] {
        assert_eq!(node.look_up(key, LINEAGE).await, Some(changed.clone()));
    }

    let deleted = tombstone(id, 3, 1);
    assert!(
        node.warm
            .apply(&deleted, &[next], push(id, 3), LINEAGE, HOUR)
            .await
    );
    let found = node.look_up(Key::AccessJti(next), LINEAGE).await;
    assert_eq!(found, Some(deleted));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_a_counted_miss_and_is_replaced() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    let key = node.key(id);
    let genuine = session(id, 3, 5);
    node.warm.fill(&genuine, LINEAGE, HOUR).await;
    let genuine_bytes: Vec<u8> = node.send(redis::cmd("GET").arg(&key)).await;
    let place = Place::Session(id);
    let forged = encode(
        &session(id, 2, 5),
        place,
        &key,
        LINEAGE,
        &TokenKeys::random(),
    );
    let mut of_next_format = genuine_bytes.clone();
    of_next_format[0] += 1;
    // What stands there in another format is not a version that we can compare.
    of_next_format[2..18].fill(0xff);
    // The script must fail on none of these either, whatever they look like.
    let mut there: Vec<Vec<u8>> = vec![
        vec![],
        b"hello".to_vec(),
        vec![1; 17],
        forged,
        of_next_format,
        genuine_bytes[..30].to_vec(),
    ];
    there.extend((0..genuine_bytes.len()).map(|at| genuine_bytes[..at].to_vec()));
    let mut unreadable = 0;
    for bytes in there {
        node.send::<()>(redis::cmd("SET").arg(&key).arg(&bytes))
            .await;
        assert_eq!(node.get(id).await, None);
        unreadable += 1;
        assert_eq!(count(&node.unreadable), unreadable);
        node.warm.fill(&genuine, LINEAGE, HOUR).await;
        assert_eq!(node.get(id).await, Some(genuine.clone()));
    }

    node.send::<()>(redis::cmd("DEL").arg(&key)).await;
    node.send::<()>(redis::cmd("LPUSH").arg(&key).arg(1)).await;
    assert_eq!(node.get(id).await, None);
    assert_eq!(count(&node.unreadable), unreadable + 1);
    node.warm.fill(&genuine, LINEAGE, HOUR).await;
    assert_eq!(node.get(id).await, Some(genuine));
    assert_eq!(count(&node.errors), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_are_read_together_each_gets_its_own_answer() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let ids = [(); 4].map(|()| SessionId::random());
    let [first, _, wrong, last] = ids;
    for (id, version) in [(first, 1), (last, 4)] {
        let record = session(id, version, 1);
        node.warm.fill(&record, LINEAGE, HOUR).await;
    }
    let list = node.key(wrong);
    node.send::<()>(redis::cmd("LPUSH").arg(list).arg(1)).await;
    let mut keys = ids.map(Key::Id).to_vec();
    // The hash of a token of ours leads nowhere in Redis.
    keys.insert(1, Key::AccessJti(KeyHash::from_bytes([0; 16])));

    let before = redis.calls();
    let found: Vec<_> = node.warm.get(&keys, LINEAGE).await.collect();
    let (first, last) = (session(first, 1, 1), session(last, 4, 1));
    let expected = [Some(first), None, None, None, Some(last)];
    assert_eq!(found, expected);
    assert_eq!(calls_since(&redis, &before), calls([("get", 4)]));
    assert_eq!((count(&node.unreadable), count(&node.errors)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_sends_exactly_what_it_needs() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    // Once per server, the script itself.
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;

    let before = redis.calls();
    assert!(node.get(id).await.is_some());
    assert_eq!(calls_since(&redis, &before), calls([("get", 1)]));

    let before = redis.calls();
    assert!(node.get(SessionId::random()).await.is_none());
    assert_eq!(calls_since(&redis, &before), calls([("get", 1)]));

    let before = redis.calls();
    let minted = KeyHash::from_bytes([2; 16]);
    assert!(
        node.look_up(Key::AccessJti(minted), LINEAGE)
            .await
            .is_none()
    );
    assert!(node.look_up(Key::Refresh(minted), LINEAGE).await.is_none());
    assert_eq!(calls_since(&redis, &before), calls([]));

    let before = redis.calls();
    node.warm.fill(&session(id, 2, 1), LINEAGE, HOUR).await;
    let set = calls([("evalsha", 1), ("getrange", 1), ("set", 1)]);
    assert_eq!(calls_since(&redis, &before), set);

    let before = redis.calls();
    let foreign = KeyHash::from_bytes([1; 16]);
    let revoked = tombstone(id, 3, 1);
    assert!(
        node.warm
            .apply(&revoked, &[foreign], push(id, 3), LINEAGE, HOUR)
            .await
    );
    let set = calls([("evalsha", 2), ("getrange", 2), ("set", 2), ("publish", 1)]);
    assert_eq!(calls_since(&redis, &before), set);
    assert_eq!(count(&node.gets), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_ends_with_its_ttl() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    let left: i64 = node.send(redis::cmd("PTTL").arg(node.key(id))).await;
    assert!(left > 0 && left <= 3_600_000, "{left}");

    // Neither a ttl that rounds to nothing nor one without end is an error.
    node.warm
        .fill(&session(id, 2, 1), LINEAGE, Duration::MAX)
        .await;
    assert_eq!(node.get(id).await, Some(session(id, 2, 1)));
    node.warm
        .fill(&session(id, 3, 1), LINEAGE, Duration::ZERO)
        .await;
    until("the record has ended", async || {
        node.get(id).await.is_none()
    })
    .await;
    assert_eq!(count(&node.errors), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_with_email_and_name_takes_at_most_200_bytes_of_redis() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    node.warm
        .fill(&session(id, 12, 123_456_789), LINEAGE, HOUR)
        .await;
    let key = node.key(id);
    let length: u64 = node.send(redis::cmd("STRLEN").arg(&key)).await;
    let usage: u64 = node.send(redis::cmd("MEMORY").arg("USAGE").arg(&key)).await;
    println!("a record of {length} bytes takes {usage}");
    assert!(usage <= 200, "a record of {length} bytes takes {usage}");
}
