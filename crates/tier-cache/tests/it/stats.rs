//! How much each tier holds is counted.

use tier_cache::Login;

use crate::storms::sessions;
use crate::support::{Cold, Service, on_both};

on_both!(
    each_session_counts_once,
    redis_is_counted_by_our_prefix_alone,
);

async fn each_session_counts_once(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let count = async || node.stats().await.unwrap().store.unwrap();
    assert_eq!(count().await.live, 0);
    let (ada, grace) = (service.cold.add_user("ada"), service.cold.add_user("grace"));
    let ids = sessions(&service.cold, 11);
    let ago = service.cold.seconds_from_now(-60);
    let set = |which: usize, what: &str| {
        let id = ids[which];
        service
            .cold
            .sql(&format!("UPDATE sessions SET {what} WHERE id = '{id}'"));
    };
    set(0, &format!("user_id = {ada}"));
    set(1, &format!("user_id = {ada}"));
    set(2, "is_active = false");
    set(3, &format!("revoked_at = {ago}, expires_at = {ago}"));
    set(4, &format!("expires_at = {ago}"));
    set(5, &format!("idle_seconds = 30, last_seen_at = {ago}"));
    set(6, &format!("idle_seconds = 3600, last_seen_at = {ago}"));
    set(7, &format!("user_id = {grace}"));
    service.cold.sql(&format!(
        "UPDATE users SET is_active = false WHERE id = {grace}"
    ));
    service
        .cold
        .sql(&format!("DELETE FROM sessions WHERE id = '{}'", ids[8]));
    let counted = count().await;
    // 0, 1, 6, 9 and 10 live.
    assert_eq!((counted.live, counted.guests, counted.users), (5, 3, 1));
    assert_eq!((counted.revoked, counted.expired, counted.idle), (3, 1, 1));
    assert_eq!(counted.tombstones, 1);
    assert!(counted.mark > counted.tombstones_since);
}

async fn redis_is_counted_by_our_prefix_alone(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    for n in 0..3 {
        let jti = format!("jti-{n}");
        node.adopt(Login::guest(), Some(crate::support::foreign(&jti)), None)
            .await
            .unwrap();
    }
    for key in [
        "session:shop:AAAAAAAAAAAAAAAAAAAAAA",
        "session:l:AAAAAAAAAAAAAAAAAAAAAA",
        "other",
    ] {
        service.redis().cli(&["SET", key, ""]);
    }
    let warm = node.stats().await.unwrap().warm.unwrap();
    assert_eq!((warm.sessions, warm.copies), (Some(3), Some(3)));
    assert_eq!(warm.keys, Some(9));
    assert!(warm.complete && warm.memory > Some(0));
    assert_eq!(warm.listeners, Some(1));
    service.redis().kill();
    assert!(service.node().await.stats().await.unwrap().warm.is_none());
}
