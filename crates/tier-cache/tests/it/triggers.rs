//! The database numbers changes, whoever makes them.

use session_core::SessionId;
use tier_cache::Login;

use crate::support::{Basket, Cold, Service, on_both};

on_both!(
    plain_sql_that_matters_raises_the_version,
    what_does_not_matter_leaves_the_version,
    a_change_of_the_user_touches_that_users_sessions_alone,
    the_id_of_a_session_never_changes,
    a_version_cannot_be_set_back_by_hand,
    a_deleted_session_leaves_a_trace,
);

async fn session(service: &Service, user: i64) -> SessionId {
    let node = service.quiet_node().await;
    let login = Login::user(user).data(Basket::of("tea"));
    node.login(login).await.unwrap().session.id()
}

async fn plain_sql_that_matters_raises_the_version(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let bob = cold.add_user("bob");
    let id = session(&service, ada).await;
    let later = cold.seconds_from_now(60);
    let changes = [
        "is_active = false".to_owned(),
        format!("revoked_at = {later}"),
        format!("expires_at = {later}"),
        "access_jti = NULL".to_owned(),
        "refresh_token_hash = NULL".to_owned(),
        "label = 'phone'".to_owned(),
        "ip = '203.0.113.7'".to_owned(),
        "user_agent = 'x'".to_owned(),
        "data = '{\"count\": 2}'".to_owned(),
        format!("user_id = {bob}"),
    ];
    for change in changes {
        let (version, mark) = (cold.version(id), mark_of(cold, id));
        cold.sql(&format!("UPDATE sessions SET {change} WHERE id = '{id}'"));
        assert_eq!(cold.version(id), version + 1, "{change}");
        assert!(mark_of(cold, id) > mark, "{change}");
        // The same again changes nothing.
        let version = cold.version(id);
        if !change.contains(&later) {
            cold.sql(&format!("UPDATE sessions SET {change} WHERE id = '{id}'"));
            assert_eq!(cold.version(id), version, "{change}, again");
        }
    }
}

fn mark_of(cold: &Cold, id: SessionId) -> i64 {
    let mark = cold.sql(&format!(
        "SELECT changed_at_mark FROM sessions WHERE id = '{id}'"
    ));
    mark.trim().parse().unwrap()
}

async fn what_does_not_matter_leaves_the_version(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    let (version, mark) = (cold.version(id), mark_of(cold, id));
    let later = cold.seconds_from_now(60);
    cold.sql(&format!("UPDATE sessions SET last_seen_at = {later}"));
    cold.sql("UPDATE users SET password_hash = 'x'");
    assert_eq!((cold.version(id), mark_of(cold, id)), (version, mark));
}

async fn a_change_of_the_user_touches_that_users_sessions_alone(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let bob = cold.add_user("bob");
    let (hers, his) = (session(&service, ada).await, session(&service, bob).await);
    for change in [
        "email = 'a@b.c'",
        "username = 'countess'",
        "is_active = false",
    ] {
        let (version, other) = (cold.version(hers), cold.version(his));
        cold.sql(&format!("UPDATE users SET {change} WHERE id = {ada}"));
        assert_eq!(cold.version(hers), version + 1, "{change}");
        assert_eq!(cold.version(his), other, "{change}");
    }
}

async fn the_id_of_a_session_never_changes(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let ada = service.cold.add_user("ada");
    let id = session(&service, ada).await;
    let other = SessionId::random();
    let change = format!("UPDATE sessions SET id = '{other}' WHERE id = '{id}'");
    let refused =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.cold.sql(&change)));
    assert!(refused.is_err());
    assert_eq!(service.cold.version(id), 1);
}

async fn a_version_cannot_be_set_back_by_hand(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    cold.sql(&format!(
        "UPDATE sessions SET label = 'a' WHERE id = '{id}'"
    ));
    cold.sql(&format!(
        "UPDATE sessions SET version = 1, label = 'b' WHERE id = '{id}'"
    ));
    assert_eq!(cold.version(id), 3);
}

async fn a_deleted_session_leaves_a_trace(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let (ada, bob) = (cold.add_user("ada"), cold.add_user("bob"));
    let one = session(&service, ada).await;
    let others = [session(&service, bob).await, session(&service, bob).await];
    let traced = |id: SessionId| {
        let count = format!("SELECT count(*) FROM session_tombstones WHERE id = '{id}'");
        cold.sql(&count).trim() == "1"
    };
    cold.sql(&format!("DELETE FROM sessions WHERE id = '{one}'"));
    assert!(traced(one) && !traced(others[0]));
    // By way of the user too.
    cold.sql(&format!("DELETE FROM users WHERE id = {bob}"));
    assert!(others.into_iter().all(traced));
}
