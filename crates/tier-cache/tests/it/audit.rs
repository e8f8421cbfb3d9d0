//! What is told of sessions, to whoever keeps watch (OWASP ASVS 5.0, V16.3).

use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use serde_json::Value;
use session_core::SessionId;
use tier_cache::{Clock, Event, Login, Scope, Tiers};
use tokio::task::unconstrained;

use crate::support::{Basket, Cold, Service, on_both};

on_both!(
    v16_3_what_becomes_of_sessions_is_told,
    v16_3_a_session_under_another_name_is_told_with_its_reason,
    v16_3_refusals_are_told_with_their_reasons,
    a_receiver_that_is_too_slow_is_told_what_it_missed,
);

/// All that was told so far, as JSON.
fn told(events: &mut (impl Stream<Item = Event> + Unpin)) -> Vec<Value> {
    let mut told = Vec::new();
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        told.push(serde_json::to_value(event).unwrap());
    }
    told
}

fn event(name: &str, fields: Value) -> Value {
    let mut event = fields;
    event["event"] = name.into();
    event
}

fn refused(session: Option<SessionId>, reason: &str) -> Value {
    let fields = serde_json::json!({ "session": session, "reason": reason });
    event("refused", fields)
}

async fn v16_3_what_becomes_of_sessions_is_told(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut config = service.quiet();
    config.session.max_per_user = Some(2);
    let node = service.node_with(config).await;
    let ada = service.cold.add_user("ada");
    let mut events = node.events();

    let guest = node.login(Login::guest()).await.unwrap();
    let upgraded = node
        .upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    let refreshed = node.refresh(&upgraded.refresh).await.unwrap();
    let second = node.login(Login::user(ada)).await.unwrap();
    let third = node.login(Login::user(ada)).await.unwrap();
    node.revoke(third.session.id()).await.unwrap();
    // What was over already is no news.
    node.revoke(third.session.id()).await.unwrap();
    node.revoke_all(Scope::user(ada)).await.unwrap();

    let (guest, user) = (guest.session.id(), upgraded.session.id());
    let (second, third) = (second.session.id(), third.session.id());
    assert_eq!(refreshed.session.id(), user);
    let revoked = |session: SessionId, reason: &str| {
        let fields = serde_json::json!({ "session": session, "user": ada, "reason": reason });
        event("revoked", fields)
    };
    let of = |session: SessionId, user: Option<i64>| serde_json::json!({ "session": session, "user": user });
    let expected = [
        event("created", of(guest, None)),
        event(
            "rotated",
            serde_json::json!({ "from": guest, "was": null, "to": user, "user": ada, "why": "login" }),
        ),
        event("refreshed", of(user, Some(ada))),
        event("created", of(second, Some(ada))),
        event("created", of(third, Some(ada))),
        revoked(user, "limit"),
        revoked(third, "asked"),
        revoked(second, "asked"),
    ];
    let told = told(&mut events);
    assert_eq!(told, expected, "{told:#?}");
}

async fn v16_3_a_session_under_another_name_is_told_with_its_reason(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let first = node.login(Login::user(ada)).await.unwrap();
    let mut events = node.events();
    let second = node.rotate(&first.session).await.unwrap();
    let third = node.reauthenticate(&second.session, 2).await.unwrap();
    let fourth = node
        .upgrade(&third.session, Login::user(bob))
        .await
        .unwrap();
    let [first, second, third, fourth] =
        [&first, &second, &third, &fourth].map(|issued| issued.session.id());
    let rotated = |from: SessionId, to: SessionId, user: i64, why: &str| {
        let fields = serde_json::json!({
            "from": from, "was": ada, "to": to, "user": user, "why": why
        });
        event("rotated", fields)
    };
    let expected = [
        rotated(first, second, ada, "rotation"),
        rotated(second, third, ada, "reauthentication"),
        rotated(third, fourth, bob, "login"),
    ];
    assert_eq!(told(&mut events), expected);
}

async fn v16_3_refusals_are_told_with_their_reasons(cold: Cold) {
    let service = Service::without_redis(cold);
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(service.quiet(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let minute = Duration::from_secs(60);
    let ends = node.login(Login::guest().ttl(minute)).await.unwrap();
    let idle = node.login(Login::guest().idle_ttl(minute)).await.unwrap();
    let old = node.login(Login::guest()).await.unwrap();
    node.refresh(&old.refresh).await.unwrap();
    let over = node.login(Login::guest()).await.unwrap();
    node.revoke(over.session.id()).await.unwrap();
    let nobody = SessionId::random();
    let kind = session_core::TokenKind::Access;
    let unknown = service.keys().mint(kind, nobody);
    let forged = session_core::TokenKeys::random().mint(kind, nobody);
    clock.advance(3 * minute);

    let mut events = node.events();
    // Each twice: from the database, and from what is remembered of it.
    for _ in 0..2 {
        for token in [&ends, &idle, &old, &over].map(|issued| &issued.access) {
            node.find(token.clone()).await.unwrap_err();
        }
        node.find(unknown.clone()).await.unwrap_err();
        node.find(forged.clone()).await.unwrap_err();
    }
    let once = [
        refused(Some(ends.session.id()), "expired"),
        refused(Some(idle.session.id()), "idle"),
        refused(Some(old.session.id()), "replaced"),
        refused(Some(over.session.id()), "revoked"),
        refused(Some(nobody), "unknown"),
        refused(Some(nobody), "forged"),
    ];
    let told = told(&mut events);
    assert_eq!(told, [once.clone(), once].concat(), "{told:#?}");
}

async fn a_receiver_that_is_too_slow_is_told_what_it_missed(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let mut events = node.events();
    let forged = session_core::TokenKeys::random()
        .mint(session_core::TokenKind::Access, SessionId::random());
    for _ in 0..5000 {
        node.find(forged.clone()).await.unwrap_err();
    }
    let told = told(&mut events);
    let missed = serde_json::json!({ "event": "missed", "count": 5000 - 4096 });
    assert_eq!(told[0], missed);
    assert_eq!(told.len(), 1 + 4096);
}
