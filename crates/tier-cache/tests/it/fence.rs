//! What is revoked in the database is refused by every node, whatever Redis does.

use tier_cache::{Login, Refusal, Tier};

use crate::support::{Cold, Service, eventually, on_both, username};

on_both!(
    plain_sql_is_obeyed_by_a_node_that_hears_only_the_feed,
    a_changed_user_is_seen_by_a_node_that_hears_only_the_feed,
    a_push_is_heard_by_a_node_that_does_not_poll,
    an_old_warm_record_does_not_bring_a_revoked_session_back,
    a_node_that_starts_later_does_not_believe_an_old_warm_record,
    more_changes_than_floors_empty_the_caches_and_nothing_else,
    a_session_that_is_activated_again_is_known_again,
);

async fn plain_sql_is_obeyed_by_a_node_that_hears_only_the_feed(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let cold = &service.cold;
    let past = cold.seconds_from_now(-60);
    let ends = [
        "UPDATE sessions SET is_active = false WHERE id = ID".to_owned(),
        format!("UPDATE sessions SET revoked_at = {past} WHERE id = ID"),
        format!("UPDATE sessions SET expires_at = {past} WHERE id = ID"),
        "UPDATE sessions SET access_jti = NULL WHERE id = ID".to_owned(),
        "DELETE FROM sessions WHERE id = ID".to_owned(),
        format!(
            "UPDATE sessions SET expires_at = {past} WHERE id = ID; DELETE FROM sessions WHERE expires_at < {past}"
        ),
        "UPDATE users SET is_active = false WHERE id = USER".to_owned(),
        "DELETE FROM users WHERE id = USER".to_owned(),
    ];
    for (n, end) in ends.iter().enumerate() {
        let user = cold.add_user(&format!("user{n}"));
        let issued = node.login(Login::user(user)).await.unwrap();
        assert_eq!(
            node.find(issued.access.clone()).await.unwrap().tier(),
            Tier::Hot
        );
        let id = format!("'{}'", issued.session.id());
        cold.sql(&end.replace("ID", &id).replace("USER", &user.to_string()));
        eventually(end, async || {
            node.find(issued.access.clone()).await.is_err()
        })
        .await;
        let refused = node.find(issued.access).await.unwrap_err();
        assert!(!refused.is_unavailable(), "{end}: {refused}");
    }
}

async fn a_changed_user_is_seen_by_a_node_that_hears_only_the_feed(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let ada = service.cold.add_user("ada");
    let issued = node.login(Login::user(ada)).await.unwrap();
    service
        .cold
        .sql("UPDATE users SET username = 'countess' WHERE username = 'ada'");
    eventually("the new name is seen", async || {
        username(&node.find(issued.access.clone()).await.unwrap()) == "countess"
    })
    .await;
}

async fn a_push_is_heard_by_a_node_that_does_not_poll(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.quiet_node().await, service.quiet_node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    there.find(issued.access.clone()).await.unwrap();
    let hot = there.find(issued.access.clone()).await.unwrap();
    assert_eq!(hot.tier(), Tier::Hot);
    here.revoke(issued.session.id()).await.unwrap();
    eventually("the push is heard", async || {
        there.find(issued.access.clone()).await.is_err()
    })
    .await;
}

/// The one key that is in Redis.
fn only_key(service: &Service) -> String {
    let keys = service.redis().cli(&["KEYS", "*"]);
    let keys: Vec<&str> = keys.split_whitespace().collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].to_owned()
}

async fn an_old_warm_record_does_not_bring_a_revoked_session_back(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    let key = only_key(&service);
    service.redis().cli(&["COPY", &key, "older"]);
    here.revoke(issued.session.id()).await.unwrap();
    eventually("both refuse it", async || {
        here.find(issued.access.clone()).await.is_err()
            && there.find(issued.access.clone()).await.is_err()
    })
    .await;
    // What a late fill or a failover to an older copy would leave.
    service.redis().cli(&["COPY", "older", &key, "REPLACE"]);
    for node in [&here, &there] {
        let refused = node.find(issued.access.clone()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Revoked), "{refused}");
    }
}

async fn a_node_that_starts_later_does_not_believe_an_old_warm_record(cold: Cold) {
    let service = Service::new(cold);
    let here = service.node().await;
    let issued = here.login(Login::guest()).await.unwrap();
    let key = only_key(&service);
    // By plain SQL: nobody tells Redis.
    let id = issued.session.id();
    service
        .cold
        .sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    assert_eq!(only_key(&service), key, "the old record is still there");
    let later = service.node().await;
    let refused = later.find(issued.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unknown), "{refused}");
}

async fn more_changes_than_floors_empty_the_caches_and_nothing_else(cold: Cold) {
    let service = Service::new(cold);
    let mut config = service.config();
    config.fence.max_floors = 4;
    let node = service.node_with(config).await;
    let mut tokens = Vec::new();
    for _ in 0..12 {
        tokens.push(node.login(Login::guest()).await.unwrap().access);
    }
    let last = tokens.pop().unwrap();
    let id = last.id();
    // All but one, in one transaction: more than the node remembers.
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id <> '{id}'"
    ));
    for token in tokens {
        eventually("it is refused", async || {
            node.find(token.clone()).await.is_err()
        })
        .await;
    }
    assert!(node.find(last.clone()).await.is_ok());
    assert_eq!(node.find(last).await.unwrap().tier(), Tier::Hot);
    assert!(node.health().is_trusting());
    // As soon as all has ended that the whole server had under way.
    eventually("no more is remembered than may be", async || {
        node.health().floors <= 5
    })
    .await;
}

async fn a_session_that_is_activated_again_is_known_again(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    here.revoke(issued.session.id()).await.unwrap();
    eventually("both refuse it", async || {
        here.find(issued.access.clone()).await.is_err()
            && there.find(issued.access.clone()).await.is_err()
    })
    .await;
    service
        .cold
        .sql("UPDATE sessions SET is_active = true, revoked_at = NULL");
    eventually("both accept it again", async || {
        here.find(issued.access.clone()).await.is_ok()
            && there.find(issued.access.clone()).await.is_ok()
    })
    .await;
}

/// A report, a migration: a write transaction anywhere on the server, which need not touch
/// sessions. Meanwhile people log in.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_blinds_nobody() {
    const FLOORS: usize = 20;
    let service = Service::without_redis(Cold::postgres());
    let mut config = service.config();
    config.fence.max_floors = FLOORS;
    config.fence.staleness_bound = std::time::Duration::from_secs(2);
    let node = service.node_with(config).await;
    let issued = node.login(Login::guest()).await.unwrap();
    let elsewhere = Cold::postgres();
    let (other, connection) = tokio_postgres::connect(&elsewhere.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    other
        .batch_execute("BEGIN; CREATE TABLE report (line text)")
        .await
        .unwrap();
    // Many logins, and more changes than it remembers otherwise.
    for _ in 0..3 * FLOORS {
        let other = node.login(Login::guest()).await.unwrap();
        other
            .session
            .update(|basket| basket.count += 1)
            .await
            .unwrap();
    }
    let polled = std::time::Instant::now();
    eventually("it has asked since", async || {
        let lag = node.health().feed_lag_ms;
        lag.is_some_and(|lag| u128::from(lag) < polled.elapsed().as_millis())
    })
    .await;
    let health = node.health();
    let tiers = [
        node.find(issued.access.clone()).await.unwrap().tier(),
        node.find(issued.access).await.unwrap().tier(),
    ];
    drop(connection);
    assert!(health.is_trusting(), "{health:?}");
    assert_eq!(tiers[1], Tier::Hot);
}

/// As many as `fence.max_floors` allows, with every default that there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_changed_sessions_blind_neither_old_nodes_nor_new_ones() {
    let service = Service::without_redis(Cold::postgres());
    let mut config = tier_cache::TierConfig::default();
    config.cold.url = service.cold.url();
    let here = service.node_with(config.clone()).await;
    service.cold.sql(
        "INSERT INTO sessions (id, expires_at) \
         SELECT gen_random_uuid(), now() + interval '1 hour' FROM generate_series(1, 100000); \
         ANALYZE",
    );
    let there = service.node_with(config).await;
    eventually(
        "both trust their caches, and have heard of it",
        async || {
            [&here, &there].iter().all(|node| {
                let health = node.health();
                health.is_trusting() && health.feed_lag_ms.is_some_and(|lag| lag < 2000)
            })
        },
    )
    .await;
}
