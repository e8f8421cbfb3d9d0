//! A user's sessions in lists, however many there are.

use std::collections::BTreeSet;

use session_core::{SessionId, UserId};
use tier_cache::{Error, Listed, Login};

use crate::support::{Cold, Service, on_both};

on_both!(
    the_callers_own_session_is_always_listed,
    pages_show_each_session_once,
    a_user_who_does_not_exist_is_told_of,
);

/// Adds sessions as another program would, each seen this many seconds after the one before.
fn add(cold: &Cold, user: i64, count: i64, apart: i64) {
    let (id, now, later) = match cold {
        Cold::Postgres(_) => (
            "gen_random_uuid()",
            format!("now() + i * {apart} * interval '1 second' - interval '1 day'"),
            "now() + interval '1 day'",
        ),
        Cold::Sqlite(_) => (
            "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' \
             || hex(randomblob(2)) || '-' || hex(randomblob(6)))",
            format!("(unixepoch() + i * {apart} - 86400) * 1000"),
            "(unixepoch() + 86400) * 1000",
        ),
    };
    cold.sql(&format!(
        "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count}) \
         INSERT INTO sessions (id, user_id, expires_at, last_seen_at) \
         SELECT {id}, {user}, {later}, {now} FROM numbers"
    ));
}

fn own(listed: &[Listed]) -> Vec<SessionId> {
    let own = listed.iter().filter(|listed| listed.current);
    own.map(|listed| listed.id).collect()
}

async fn the_callers_own_session_is_always_listed(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let user = service.cold.add_user("ada");
    let session = node.login(Login::user(user)).await.unwrap().session;
    // All were seen later.
    let before = service.cold.seconds_from_now(-2 * 24 * 60 * 60);
    service
        .cold
        .sql(&format!("UPDATE sessions SET last_seen_at = {before}"));
    add(&service.cold, user, 1100, 100);
    let listed = session.siblings().await.unwrap();
    assert_eq!(own(&listed), [session.id()]);
    assert_eq!(listed.len(), 1001);
    // Elsewhere a list names as many as a page holds.
    assert_eq!(node.list(UserId::Int(user)).await.unwrap().len(), 1000);

    // Turning pages, it is on the first one only, also where it would be on another.
    let (mut after, mut pages, mut shown) = (None, Vec::new(), BTreeSet::new());
    loop {
        let page = session.siblings_page(after, 400).await.unwrap();
        pages.push(own(&page.sessions));
        for listed in page.sessions {
            assert!(shown.insert(listed.id), "{} is shown twice", listed.id);
        }
        match page.next {
            None => break,
            // As it comes back in a request.
            Some(next) => after = Some(next.to_string().parse().unwrap()),
        }
    }
    assert_eq!(pages, [vec![session.id()], vec![], vec![]]);
    assert_eq!(shown.len(), 1101);
}

async fn pages_show_each_session_once(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let (user, other) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    // Many within one moment, in PostgreSQL with microseconds.
    add(&service.cold, user, 25, 0);
    add(&service.cold, user, 25, 1);
    add(&service.cold, other, 5, 1);
    if let Cold::Postgres(_) = &service.cold {
        service.cold.sql(
            "UPDATE sessions SET last_seen_at = last_seen_at + random() * interval '900 microseconds'",
        );
    }
    for size in [1, 7, 50, 51, 0] {
        let (mut after, mut shown) = (None, Vec::new());
        loop {
            let page = node
                .list_page(UserId::Int(user), after, size)
                .await
                .unwrap();
            assert!(page.sessions.len() <= size.max(1) as usize);
            shown.extend(page.sessions);
            match page.next {
                None => break,
                next => after = next,
            }
        }
        let ids: BTreeSet<SessionId> = shown.iter().map(|listed| listed.id).collect();
        assert_eq!((ids.len(), shown.len()), (50, 50), "{size}");
        assert!(shown.is_sorted_by(|one, next| one.last_seen_at >= next.last_seen_at));
    }
}

async fn a_user_who_does_not_exist_is_told_of(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut limited = service.config();
    limited.session.max_per_user = Some(3);
    for config in [service.config(), limited] {
        let node = service.node_with(config).await;
        let error = node.login(Login::user(4711)).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::NoSuchUser {
                    user: UserId::Int(4711)
                }
            ),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "user 4711 does not exist in the table users: add the row before the login"
        );
        let guest = node.login(Login::guest()).await.unwrap();
        let error = node
            .upgrade(&guest.session, Login::user(4711))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NoSuchUser { .. }), "{error}");
        // The guest goes on.
        node.find(guest.access).await.unwrap();
    }
}
