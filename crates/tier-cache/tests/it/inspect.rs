//! What each tier holds of a session is told, and why the gate refuses it.

use std::time::Duration;

use session_core::{Key, SecretKey, SessionId, Standing, TokenKeys, TokenKind, Version};
use testbed::Redis;
use tier_cache::{
    Admission, Clock, Holds, Inspection, Login, Tiers, Unreadable, WarmFound, WarmKind, WarmPlace,
    cold,
};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    a_fresh_session_is_in_both_tiers_and_admitted,
    a_record_made_stale_by_plain_sql_is_below_the_floor,
    a_record_from_before_what_the_node_knows_is_refused_for_its_mark,
    a_deleted_session_is_known_by_its_trace,
    a_revoked_one_leaves_a_tombstone,
    a_foreign_key_leads_to_the_session_and_its_copy,
    what_nobody_can_read_is_told_with_the_reason,
    an_unknown_session_is_nowhere,
    without_redis_the_database_is_told_of,
    a_record_that_is_over_says_so,
    what_redis_does_not_permit_is_left_out,
);

async fn inspect(node: &Tiers<Basket>, id: SessionId) -> Inspection {
    node.inspect(Key::Id(id)).await.unwrap()
}

/// The session's own record, if it can be read: its kind, version and what the gate says.
fn record(inspection: &Inspection) -> (WarmKind, Version, Admission) {
    let own = &inspection.warm[0];
    assert_eq!(own.place, WarmPlace::Session);
    match &own.found {
        WarmFound::Record {
            kind, version, ttl, ..
        } => {
            assert!(ttl.is_some_and(|ttl| !ttl.is_zero()));
            (*kind, *version, own.admission.unwrap())
        }
        other => panic!("{other:?}"),
    }
}

async fn a_fresh_session_is_in_both_tiers_and_admitted(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let seen = inspect(&service.node().await, id).await;
    assert_eq!(seen.id, Some(id));
    let row = seen.row.as_ref().unwrap();
    assert_eq!(row.head.version, Version::new(1));
    assert_eq!(row.lineage, seen.lineage);
    assert_eq!(
        record(&seen),
        (WarmKind::Head, Version::new(1), Admission::Admitted)
    );

    let mut config = service.config();
    config.warm.holds = Holds::Full;
    let node = service.node_with(config).await;
    let whole = node.login(Login::guest()).await.unwrap().session.id();
    assert_eq!(record(&inspect(&node, whole).await).0, WarmKind::Full);
}

async fn a_record_made_stale_by_plain_sql_is_below_the_floor(cold: Cold) {
    let service = Service::new(cold);
    let node = service.quiet_node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    let seen = inspect(&service.quiet_node().await, id).await;
    assert_eq!(
        record(&seen),
        (WarmKind::Head, Version::new(1), Admission::BelowFloor)
    );
    let (floor, mark) = seen.gate.unwrap().floor.unwrap();
    let row = seen.row.unwrap();
    assert_eq!((floor, mark), (Version::new(2), row.changed_at));
    assert!(!row.head.is_active);
}

async fn a_record_from_before_what_the_node_knows_is_refused_for_its_mark(cold: Cold) {
    let service = Service::new(cold);
    let mut ids = Vec::new();
    let writer = service.quiet_node().await;
    for _ in 0..8 {
        ids.push(writer.login(Login::guest()).await.unwrap().session.id());
    }
    let first = ids[0];
    service.cold.sql(&format!(
        "UPDATE sessions SET label = 'changed' WHERE id <> '{first}'"
    ));
    let mut config = service.config();
    config.fence.max_floors = 2;
    let node = service.node_with(config).await;
    // Of more changes than it remembers a node learns once those before them are all committed; on
    // a shared server other tests' transactions are among them.
    eventually("it knows since when it knows all", async || {
        record(&inspect(&node, ids[0]).await).2 == Admission::BeforeSince
    })
    .await;
    assert!(inspect(&node, ids[0]).await.gate.unwrap().floor.is_none());
}

async fn a_deleted_session_is_known_by_its_trace(cold: Cold) {
    let service = Service::new(cold);
    let node = service.quiet_node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    service
        .cold
        .sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    let seen = inspect(&service.quiet_node().await, id).await;
    assert!(seen.row.is_none());
    assert_eq!(record(&seen).2, Admission::BelowFloor);
    let (floor, _) = seen.gate.unwrap().floor.unwrap();
    assert_eq!(floor, Version::DELETED);
}

async fn a_revoked_one_leaves_a_tombstone(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    node.revoke(id).await.unwrap();
    let seen = inspect(&node, id).await;
    assert_eq!(
        record(&seen),
        (WarmKind::Tombstone, Version::new(2), Admission::Admitted)
    );
    assert!(seen.row.unwrap().head.revoked_at.is_some());
}

async fn a_foreign_key_leads_to_the_session_and_its_copy(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let adopted = node
        .adopt(
            Login::guest(),
            Some(crate::support::foreign("their-jti")),
            None,
        )
        .await;
    let id = adopted.unwrap().id();
    let jti = Key::AccessJti(
        service
            .keys()
            .hash_foreign(TokenKind::Access, &crate::support::foreign("their-jti")),
    );
    for key in [jti, Key::Id(id)] {
        let seen = node.inspect(key).await.unwrap();
        assert_eq!(seen.id, Some(id));
        record(&seen);
        let [_, copy] = &seen.warm[..] else {
            panic!("{:?}", seen.warm)
        };
        assert_eq!(copy.place, WarmPlace::Access);
        assert_eq!(copy.admission, Some(Admission::Admitted));
    }
    // Where the row is gone the copy still leads to it.
    service
        .cold
        .sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    let seen = service.node().await.inspect(jti).await.unwrap();
    assert_eq!((seen.id, seen.warm.len()), (Some(id), 2));
    assert_eq!(seen.warm[1].admission, Some(Admission::BelowFloor));
}

async fn what_nobody_can_read_is_told_with_the_reason(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    let key = service.redis().cli(&["KEYS", "*"]);
    let key = key.trim();
    let why = async |node: &Tiers<Basket>| match &inspect(node, id).await.warm[0].found {
        WarmFound::Unreadable { why, .. } => *why,
        other => panic!("{other:?}"),
    };

    let others = TokenKeys::new(&SecretKey::random());
    let stranger = Tiers::open(service.config(), others).await.unwrap();
    assert_eq!(why(&stranger).await, Unreadable::Seal);

    service.redis().cli(&["COPY", key, "kept"]);
    service.redis().cli(&["SET", key, "hello"]);
    assert_eq!(why(&node).await, Unreadable::Form);
    service.redis().cli(&["DEL", key]);
    service.redis().cli(&["LPUSH", key, "hello"]);
    assert_eq!(why(&node).await, Unreadable::Form);

    service.redis().cli(&["COPY", "kept", key, "REPLACE"]);
    // Another one, whose one byte in the record is another too.
    service
        .cold
        .sql("UPDATE session_history SET lineage = CASE WHEN lineage % 2 = 0 THEN lineage + 1 ELSE lineage - 1 END");
    assert_eq!(why(&node).await, Unreadable::Lineage);
}

async fn an_unknown_session_is_nowhere(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let seen = inspect(&node, SessionId::random()).await;
    assert!(seen.row.is_none() && seen.gate.unwrap().floor.is_none());
    assert_eq!(seen.warm[0].found, WarmFound::Nothing);
    let jti = service
        .keys()
        .hash_foreign(TokenKind::Access, &crate::support::foreign("nobody's"));
    let seen = node.inspect(Key::AccessJti(jti)).await.unwrap();
    assert!(seen.id.is_none() && seen.gate.is_none());
}

async fn without_redis_the_database_is_told_of(cold: Cold) {
    let mut service = Service::new(cold);
    let node = service.node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    service.redis().kill();
    let later = service.node().await;
    let seen = inspect(&later, id).await;
    assert!(seen.row.is_some());
    assert!(matches!(seen.warm[0].found, WarmFound::Unanswered(_)));

    service.redis = None;
    assert!(inspect(&service.node().await, id).await.warm.is_empty());
}

async fn a_record_that_is_over_says_so(cold: Cold) {
    let service = Service::new(cold);
    let clock = Clock::manual();
    let node: Tiers<Basket> = {
        service.node().await;
        let store = cold::existing(&service.quiet().cold).await.unwrap();
        let tiers = Tiers::builder(service.quiet(), service.keys()).store(store);
        tiers.clock(clock.clone()).start().await.unwrap()
    };
    let login = Login::guest().idle_ttl(Duration::from_secs(600));
    let id = node.login(login).await.unwrap().session.id();
    let standing = async || match inspect(&node, id).await.warm[0].found {
        WarmFound::Record { standing, .. } => standing,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(standing().await, Some(Standing::Valid));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(standing().await, Some(Standing::Idle));
    node.revoke(id).await.unwrap();
    assert_eq!(standing().await, None);
}

async fn what_redis_does_not_permit_is_left_out(cold: Cold) {
    // As the documentation of the warm tier has it.
    const LEAST: &str = "app on >secret resetkeys ~session:* resetchannels &session:changes \
        -@all +get +getrange +set +eval +evalsha +publish +subscribe +ping";
    let redis = Redis::builder().user("default off").user(LEAST).start();
    let service = Service::without_redis(cold);
    let mut config = service.config();
    config.warm.url = Some(redis.url_as("app", "secret"));
    let node = service.node_with(config).await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    match inspect(&node, id).await.warm[0].found {
        WarmFound::Record { ttl, .. } => assert_eq!(ttl, None),
        ref other => panic!("{other:?}"),
    }
    let warm = node.stats().await.unwrap().warm.unwrap();
    assert_eq!((warm.sessions, warm.keys), (None, None));
    assert_eq!((warm.memory, warm.listeners), (None, None));
}
