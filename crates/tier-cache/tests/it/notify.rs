//! PostgreSQL tells of changes by itself: nodes that as good as never poll hear of plain SQL.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use testbed::{Cluster, Database};
use tier_cache::{Login, Tier, TierConfig, Tiers};
use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::{Basket, Cold, Service, eventually, username};

fn database(service: &Service) -> &Database {
    match &service.cold {
        Cold::Postgres(database) => database,
        Cold::Sqlite(_) => unreachable!("SQLite tells nothing"),
    }
}

/// A feed that polls once at the start, and then when it is told to.
fn told(service: &Service) -> TierConfig {
    let mut config = service.quiet();
    config.cold.notify = true;
    config
}

/// A node that hears the database, and has asked after it began to.
async fn hearing(service: &Service) -> Tiers<Basket> {
    let before = polls(service);
    let node = service.node_with(told(service)).await;
    eventually("the node has asked since it listens", async || {
        polls(service) == before + 2
    })
    .await;
    node
}

/// How often the feeds have asked.
fn polls(service: &Service) -> u64 {
    let statements = database(service).statements();
    let feed = statements
        .iter()
        .filter(|it| it.query.contains("AS kept_since"));
    feed.map(|it| it.calls).sum()
}

/// The connections that listen.
fn listeners(service: &Service) -> String {
    service.cold.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND query LIKE 'LISTEN%' AND state = 'idle'",
    )
}

async fn tier(node: &Tiers<Basket>, issued: &tier_cache::Issued<Basket>) -> Option<Tier> {
    let found = node.find(issued.access.clone()).await;
    found.ok().map(|session| session.tier())
}

async fn until_refused(node: &Tiers<Basket>, issued: &tier_cache::Issued<Basket>) {
    eventually("it is refused", async || tier(node, issued).await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_is_obeyed_by_a_node_that_hears_and_not_by_one_that_does_not() {
    let service = Service::without_redis(Cold::postgres());
    let deaf = service.quiet_node().await;
    let node = hearing(&service).await;
    let cold = &service.cold;
    let past = cold.seconds_from_now(-60);
    let ends = [
        "UPDATE sessions SET is_active = false WHERE id = ID".to_owned(),
        format!("UPDATE sessions SET expires_at = {past} WHERE id = ID"),
        "DELETE FROM sessions WHERE id = ID".to_owned(),
        "UPDATE users SET is_active = false WHERE id = USER".to_owned(),
        "DELETE FROM users WHERE id = USER".to_owned(),
        "SET session_replication_role = replica; DELETE FROM sessions WHERE id = ID".to_owned(),
        "TRUNCATE sessions".to_owned(),
    ];
    for (n, end) in ends.iter().enumerate() {
        let user = cold.add_user(&format!("user{n}"));
        let issued = deaf.login(Login::user(user)).await.unwrap();
        for (node, first) in [(&deaf, Tier::Hot), (&node, Tier::Cold)] {
            assert_eq!(tier(node, &issued).await, Some(first), "{end}");
            assert_eq!(tier(node, &issued).await, Some(Tier::Hot), "{end}");
        }
        let before = polls(&service);
        let id = format!("'{}'", issued.session.id());
        cold.sql(&end.replace("ID", &id).replace("USER", &user.to_string()));
        until_refused(&node, &issued).await;
        // Emptied tables begin a new lineage, for which the node asks once more.
        let polled = if end.starts_with("TRUNCATE") { 2 } else { 1 };
        assert_eq!(polls(&service), before + polled, "{end}");
        assert_eq!(tier(&deaf, &issued).await, Some(Tier::Hot), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_user_is_seen_by_a_node_that_hears() {
    let service = Service::without_redis(Cold::postgres());
    let node = hearing(&service).await;
    let ada = service.cold.add_user("ada");
    let issued = node.login(Login::user(ada)).await.unwrap();
    let sql = "UPDATE users SET email = 'c@example.com', username = 'countess'";
    service.cold.sql(sql);
    eventually("the new name is seen", async || {
        username(&node.find(issued.access.clone()).await.unwrap()) == "countess"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_is_one_poll_however_many_sessions_it_changes() {
    let service = Service::without_redis(Cold::postgres());
    let node = hearing(&service).await;
    let issued = node.login(Login::guest()).await.unwrap();
    service.cold.sql(
        "INSERT INTO sessions (id, expires_at) \
         SELECT gen_random_uuid(), now() + interval '1 day' FROM generate_series(1, 10000)",
    );
    let before = polls(&service);
    service.cold.sql("UPDATE sessions SET is_active = false");
    until_refused(&node, &issued).await;
    // The poll may still be telling of the others.
    eventually("all floors are raised", async || {
        node.health().floors == 10_001
    })
    .await;
    assert_eq!(polls(&service), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_transactions_is_not_a_storm_of_polls() {
    let service = Service::without_redis(Cold::postgres());
    let node = hearing(&service).await;
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let before = polls(&service);
    let began = Instant::now();
    let change =
        format!("UPDATE sessions SET label = clock_timestamp()::text WHERE id = '{id}';\n");
    service.cold.sql(&change.repeat(1000));
    service.cold.sql("UPDATE sessions SET is_active = false");
    until_refused(&node, &issued).await;
    // One at once, and then one in 20 ms at most; the last may have been caused by any of them.
    let most = 2 + began.elapsed().as_millis() as u64 / 20;
    let polled = polls(&service) - before;
    assert!((1..=most).contains(&polled), "{polled} polls, not {most}");
}

/// What the database tells of `work`, counted by its transactions.
async fn notifications(service: &Service, work: impl AsyncFnOnce()) -> usize {
    let url = database(service).url();
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let heard = tokio::spawn(async move {
        let mut count = 0;
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                AsyncMessage::Notification(told) if told.payload() == "enough" => break,
                AsyncMessage::Notification(_) => count += 1,
                _ => {}
            }
        }
        count
    });
    client
        .batch_execute("LISTEN session_changes")
        .await
        .unwrap();
    work().await;
    // They come in the order of the commits.
    service.cold.sql("NOTIFY session_changes, 'enough'");
    heard.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_matters_to_a_cache_is_told_and_only_if_it_is_wanted() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let told = notifications(&service, async || {
        for _ in 0..3 {
            node.login(Login::user(ada)).await.unwrap();
        }
        cold.sql("UPDATE sessions SET last_seen_at = now()");
        cold.sql("UPDATE users SET password_hash = 'x'");
        cold.sql("DELETE FROM sessions WHERE false");
        // Pruned: over for long, and older than what nodes still ask for.
        cold.sql(
            "INSERT INTO sessions (id, expires_at) VALUES (gen_random_uuid(), '2000-01-01'); \
             UPDATE session_history SET tombstones_since = 4000000000; \
             DELETE FROM sessions WHERE expires_at < '2001-01-01'; \
             UPDATE session_history SET tombstones_since = 0",
        );
    });
    assert_eq!(told.await, 0);

    let change = "UPDATE sessions SET label = gen_random_uuid()::text;";
    let told = notifications(&service, async || {
        cold.sql(change);
        cold.sql(&format!(
            "BEGIN; {change} {change} DELETE FROM sessions; ROLLBACK"
        ));
        cold.sql(&format!(
            "BEGIN; {change} UPDATE users SET email = 'a'; COMMIT"
        ));
        cold.sql("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions LIMIT 2)");
    });
    assert_eq!(told.await, 3);

    let name = database(&service).name();
    let told = notifications(&service, async || {
        for off in ["off", "false"] {
            cold.sql(&format!("SET sessions.notify = {off}; {change}"));
        }
        // For one transaction, after which it is as before.
        cold.sql(&format!(
            "BEGIN; SET LOCAL sessions.notify = off; {change} COMMIT; {change}"
        ));
        cold.sql(&format!("ALTER DATABASE {name} SET sessions.notify = off"));
        cold.sql(&format!("{change} DELETE FROM sessions"));
    });
    assert_eq!(told.await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_connection_is_killed_listens_again_and_asks_what_it_missed() {
    let service = Service::without_redis(Cold::postgres());
    let node = hearing(&service).await;
    let issued = node.login(Login::guest()).await.unwrap();
    let killed = listeners(&service);
    let before = polls(&service);
    // Nobody is told of this change; the lock has the feed wait for it however fast it is.
    service.cold.sql(&format!(
        "BEGIN; SET LOCAL sessions.notify = off; UPDATE sessions SET is_active = false; \
         LOCK TABLE sessions; SELECT pg_terminate_backend({killed}); COMMIT"
    ));
    until_refused(&node, &issued).await;
    assert_eq!(polls(&service), before + 1);

    let issued = node.login(Login::guest()).await.unwrap();
    service.cold.sql("DELETE FROM sessions");
    until_refused(&node, &issued).await;
    assert_ne!(listeners(&service), killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_outlives_its_server() {
    let cluster = Cluster::start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let node = hearing(&service).await;
    cluster.restart();
    eventually("the node listens again", async || {
        !listeners(&service).is_empty()
    })
    .await;
    let issued = node.login(Login::guest()).await.unwrap();
    service.cold.sql("UPDATE sessions SET is_active = false");
    until_refused(&node, &issued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_is_noticed_by_the_listener() {
    let cluster = Cluster::start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let mut config = told(&service);
    config.cold.statement_timeout = Duration::from_millis(500);
    config.cold.connect_timeout = Duration::from_millis(500);
    let node = service.node_with(config).await;
    eventually("the node listens", async || !listeners(&service).is_empty()).await;
    let silent = listeners(&service);
    cluster.pause();
    // More than a heartbeat and its deadline.
    tokio::time::sleep(Duration::from_secs(7)).await;
    cluster.resume();
    eventually("the node listens on another connection", async || {
        let now = listeners(&service);
        !now.is_empty() && now != silent
    })
    .await;
    assert!(node.shutdown(Duration::from_secs(60)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_who_was_told_not_to_or_who_has_ended() {
    let service = Service::without_redis(Cold::postgres());
    let _deaf = service.quiet_node().await;
    assert_eq!(listeners(&service), "");
    let (one, other) = (hearing(&service).await, hearing(&service).await);
    assert_eq!(listeners(&service).lines().count(), 2);
    assert!(one.shutdown(Duration::from_secs(60)).await);
    eventually("its connection is closed", async || {
        listeners(&service).lines().count() == 1
    })
    .await;
    drop(other);
    eventually("so is that of one that was dropped", async || {
        listeners(&service).is_empty()
    })
    .await;
}
