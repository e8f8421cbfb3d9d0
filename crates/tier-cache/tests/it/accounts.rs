//! An account that is switched off has no sessions any more, also after it is switched on again.

use tier_cache::{Error, Login, Refusal, Scope, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    switching_off_ends_sessions_for_good,
    sessions_that_are_added_while_it_is_off_have_ended,
    a_session_that_is_given_to_one_who_is_off_ends,
    switching_off_writes_each_row_once,
    those_who_were_off_before_the_migration_have_no_sessions,
);

/// Each way to switch a user off, by a program that knows nothing of sessions.
fn ways(cold: &Cold, user: i64) -> Vec<String> {
    let mut ways = vec![format!(
        "UPDATE users SET is_active = false WHERE id = {user}"
    )];
    match cold {
        Cold::Postgres(_) => {
            ways.push(format!(
                "SET session_replication_role = replica; UPDATE users SET is_active = false WHERE id = {user}"
            ));
            ways.push(format!(
                "INSERT INTO users (id, email, username) SELECT id, email, username FROM users WHERE id = {user} \
                 ON CONFLICT (id) DO UPDATE SET is_active = false"
            ));
        }
        Cold::Sqlite(_) => {
            ways.push(format!(
                "INSERT OR REPLACE INTO users (id, email, username, is_active) \
                 SELECT id, email, username, 0 FROM users WHERE id = {user}"
            ));
            ways.push(format!(
                "UPDATE OR REPLACE users SET is_active = 0, email = 'other@example.com' WHERE id = {user}"
            ));
        }
    }
    ways
}

fn refused<T>(result: Result<T, Error>) -> Option<Refusal> {
    match result {
        Err(Error::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

async fn switching_off_ends_sessions_for_good(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    for (n, _) in ways(&service.cold, 0).iter().enumerate() {
        let user = service.cold.add_user(&format!("user{n}"));
        let other = service.cold.add_user(&format!("other{n}"));
        let way = &ways(&service.cold, user)[n];
        let issued = here.login(Login::user(user)).await.unwrap();
        let bystander = here.login(Login::user(other)).await.unwrap();
        // Hot there too, and warm.
        there.find(issued.access.clone()).await.unwrap();
        service.cold.sql(way);
        for node in [&here, &there] {
            eventually(way, async || {
                matches!(
                    node.find(issued.access.clone()).await,
                    Err(Refusal::Revoked)
                )
            })
            .await;
        }
        service.cold.sql(&format!(
            "UPDATE users SET is_active = true WHERE id = {user}"
        ));
        for node in [&here, &there] {
            let found = node
                .find_strict(issued.access.clone(), tier_cache::Strictness::Row)
                .await;
            assert!(matches!(found, Err(Refusal::Revoked)), "{way}: {found:?}");
            let refreshed = refused(node.refresh(&issued.refresh).await);
            assert!(
                matches!(refreshed, Some(Refusal::Revoked)),
                "{way}: {refreshed:?}"
            );
            node.find(bystander.access.clone()).await.unwrap();
        }
        let again = there.login(Login::user(user)).await.unwrap();
        here.find(again.access.clone()).await.unwrap();
        assert_eq!(here.list(user.into()).await.unwrap().len(), 1, "{way}");
    }
}

/// A token of somebody else's, which its client has in any case.
async fn sessions_that_are_added_while_it_is_off_have_ended(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let user = service.cold.add_user("ada");
    service.cold.sql(&format!(
        "UPDATE users SET is_active = false WHERE id = {user}"
    ));
    let adopted = node
        .adopt(
            Login::user(user),
            Some(crate::support::foreign("jti")),
            None,
        )
        .await;
    let refusal = refused(adopted).expect("it is refused");
    assert!(matches!(refusal, Refusal::Revoked), "{refusal}");
    let login = refused(node.login(Login::user(user)).await).expect("it is refused");
    assert!(matches!(login, Refusal::Revoked), "{login}");
    service.cold.sql(&format!(
        "UPDATE users SET is_active = true WHERE id = {user}"
    ));
    assert_eq!(
        service.cold.sql("SELECT count(*) FROM sessions").trim(),
        "2"
    );
    let live = "SELECT count(*) FROM sessions WHERE is_active OR revoked_at IS NULL";
    assert_eq!(service.cold.sql(live).trim(), "0");
    assert!(node.list(user.into()).await.unwrap().is_empty());
    node.login(Login::user(user)).await.unwrap();
}

async fn a_session_that_is_given_to_one_who_is_off_ends(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let issued = node.login(Login::user(ada)).await.unwrap();
    service.cold.sql(&format!(
        "UPDATE users SET is_active = false WHERE id = {bob}; \
         UPDATE sessions SET user_id = {bob} WHERE user_id = {ada}; \
         UPDATE users SET is_active = true WHERE id = {bob}"
    ));
    eventually("it is refused", async || {
        matches!(
            node.find(issued.access.clone()).await,
            Err(Refusal::Revoked)
        )
    })
    .await;
}

/// A user may have ten thousand. What it costs is counted, beside a plain revocation of the same rows.
async fn switching_off_writes_each_row_once(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let mut users = Vec::new();
    for name in ["ada", "bob"] {
        let user = service.cold.add_user(name);
        for _ in 0..50 {
            node.login(Login::user(user)).await.unwrap();
        }
        users.push(user);
    }
    let plainly = format!(
        "UPDATE sessions SET is_active = false WHERE user_id = {}",
        users[0]
    );
    let off = format!("UPDATE users SET is_active = false WHERE id = {}", users[1]);
    let versions = |user: i64| {
        let versions = format!("SELECT sum(version) FROM sessions WHERE user_id = {user}");
        service.cold.sql(&versions).trim().to_owned()
    };
    service.cold.sql(&plainly);
    service.cold.sql(&off);
    // Each write of a row raises its version.
    assert_eq!(versions(users[0]), "100");
    assert_eq!(versions(users[1]), "100");
    let revoked = format!(
        "SELECT count(revoked_at) FROM sessions WHERE user_id = {}",
        users[1]
    );
    assert_eq!(service.cold.sql(&revoked).trim(), "50");
    if let Cold::Postgres(database) = &service.cold {
        let written = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'sessions'";
        eventually("the statistics are told", async || {
            database.sql(written).trim() == "100"
        })
        .await;
    }
}

/// As a release before left them.
async fn those_who_were_off_before_the_migration_have_no_sessions(cold: Cold) {
    let service = Service::without_redis(cold);
    let down = match &service.cold {
        Cold::Postgres(_) => {
            include_str!("../../migrations/postgres/2026-11-30-000001_accounts/down.sql")
        }
        Cold::Sqlite(_) => {
            include_str!("../../migrations/sqlite/2026-11-30-000001_accounts/down.sql")
        }
    };
    let node = service.node().await;
    let user = service.cold.add_user("ada");
    let issued = node.login(Login::user(user)).await.unwrap();
    let other = node.login(Login::guest()).await.unwrap();
    assert!(node.shutdown(std::time::Duration::from_secs(60)).await);
    service.cold.sql(down);
    service.cold.sql(&format!(
        "DELETE FROM __diesel_schema_migrations WHERE version = '20261130000001'; \
         UPDATE users SET is_active = false WHERE id = {user}"
    ));
    let node: Tiers<Basket> = service.node().await;
    service.cold.sql(&format!(
        "UPDATE users SET is_active = true WHERE id = {user}"
    ));
    let found = node.find(issued.access).await;
    assert!(matches!(found, Err(Refusal::Revoked)), "{found:?}");
    node.find(other.access).await.unwrap();
    node.revoke_all(Scope::everyone()).await.unwrap();
}
