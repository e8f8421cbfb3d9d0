//! What looks like going back and is not costs one refill of the caches at most; and what was refused
//! without need is not.

use std::time::{Duration, Instant};

use session_core::Mark;
use testbed::Cluster;
use tier_cache::{Login, Refusal};

use super::{Known, World, has_polled, must_refuse, must_serve};
use crate::support::{Cold, Service, eventually, on_both};

/// Nobody gets a wrong answer while these run.
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_of_the_tables_refuses_nobody() {
    for upkeep in [
        "VACUUM FULL sessions",
        "VACUUM FULL; REINDEX DATABASE CONCURRENTLY NAME",
        "CLUSTER sessions USING sessions_pkey",
        "REINDEX TABLE sessions",
        "ALTER TABLE sessions SET UNLOGGED",
        "ALTER TABLE sessions SET UNLOGGED; ALTER TABLE sessions SET LOGGED",
        "ANALYZE; VACUUM FREEZE",
        "SELECT sessions_renumber()",
    ] {
        let world = World::on(Cold::postgres()).await;
        let user = world.service.cold.add_user("ada");
        let issued = Known::of(world.here.login(Login::user(user)).await.unwrap());
        let revoked = Known::of(world.here.login(Login::user(user)).await.unwrap());
        world.here.revoke(revoked.id).await.unwrap();
        let asking = {
            let (node, access) = (world.there.clone(), issued.access.clone());
            tokio::spawn(async move {
                for _ in 0..300 {
                    node.find(access.clone()).await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<(), Refusal>(())
            })
        };
        world.sql(&upkeep.replace("NAME", world.database().name()));
        asking
            .await
            .unwrap()
            .unwrap_or_else(|refusal| panic!("{upkeep}: {refusal}"));
        for node in [&world.here, &world.there] {
            must_serve(node, &issued).await;
            must_refuse(node, &revoked, &Refusal::Revoked).await;
        }
    }
}

/// For the database to move no client may be connected to it.
#[tokio::test(flavor = "multi_thread")]
async fn tables_and_the_database_move_to_another_tablespace() {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    let admin = cluster.database();
    admin.sql("SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''");
    let (issued, revoked) = (world.login().await, world.login().await);
    world.sql("ALTER TABLE sessions SET TABLESPACE elsewhere");
    world.sql("ALTER TABLE session_history SET TABLESPACE elsewhere");
    world.sql("ALTER TABLE session_crash_marker SET TABLESPACE elsewhere");
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
    }
    world.sql(
        "ALTER TABLE sessions SET TABLESPACE pg_default; \
         ALTER TABLE session_history SET TABLESPACE pg_default; \
         ALTER TABLE session_crash_marker SET TABLESPACE pg_default",
    );
    let name = world.database().name();
    admin.sql(&format!(
        "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
    ));
    admin.sql(&format!("ALTER DATABASE {name} SET TABLESPACE elsewhere"));
    admin.sql(&format!(
        "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"
    ));
    let id = revoked.id;
    world.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &revoked, &Refusal::Revoked).await;
        must_serve(node, &issued).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_restart_of_the_server_costs_one_refill() {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    let revoked = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.here.revoke(revoked.id).await.unwrap();
    cluster.stop();
    cluster.restart();
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_serve(node, &issued).await;
        must_refuse(node, &revoked, &Refusal::Revoked).await;
    }
}

/// In the middle of requests, and of a transaction that has been open for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_begun_by_hand_refuses_nobody_although_transactions_are_open() {
    let cluster = Cluster::builder()
        .config("max_prepared_transactions", "2")
        .start();
    let world = World::in_cluster(&cluster).await;
    world.sql("CREATE TABLE t (a int)");
    world.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'open'");
    let mut issued = Vec::new();
    for _ in 0..20 {
        issued.push(world.login().await);
    }
    let asking = {
        let node = world.there.clone();
        let tokens: Vec<_> = issued.iter().map(|issued| issued.access.clone()).collect();
        tokio::spawn(async move {
            for _ in 0..100 {
                for token in &tokens {
                    node.find(token.clone()).await?;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok::<(), Refusal>(())
        })
    };
    for _ in 0..5 {
        world.sql("SELECT sessions_begin_lineage()");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    asking.await.unwrap().unwrap();
    for node in [&world.here, &world.there] {
        for issued in &issued {
            must_serve(node, issued).await;
        }
    }
    world.sql("ROLLBACK PREPARED 'open'");
}

/// Marks of another server lie in the future of this one.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_from_another_server_need_nothing_done() {
    let service = Service::without_redis(Cold::postgres());
    let here = service.node().await;
    let issued = Known::of(here.login(Login::guest()).await.unwrap());
    let id = issued.id;
    service.cold.sql(&format!(
        "SET session_replication_role = replica; ALTER TABLE sessions DISABLE TRIGGER USER; \
         UPDATE sessions SET version = 7, changed_at_mark = 1000000000000 WHERE id = '{id}'; \
         INSERT INTO session_tombstones (id, mark) VALUES (gen_random_uuid(), 1000000000000), ('{id}', 1); \
         UPDATE session_history SET tombstones_since = 1000000000000; \
         SELECT sessions_install_triggers()"
    ));
    let later = service.node().await;
    for node in [&here, &later] {
        must_serve(node, &issued).await;
        assert!(node.health().is_trusting());
    }
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    for node in [&here, &later] {
        must_refuse(node, &issued, &Refusal::Revoked).await;
    }
}

/// A node remembers for half a minute that there is no such session, but no longer than for the bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_asked_for_while_it_was_gone_is_served_within_the_bound() {
    let service = Service::without_redis(Cold::postgres());
    let mut config = service.config();
    config.fence.staleness_bound = Duration::from_secs(2);
    let bound = config.fence.staleness_bound;
    let node = service.node_with(config).await;
    let issued = Known::of(node.login(Login::guest()).await.unwrap());
    service
        .cold
        .sql("CREATE TABLE kept AS SELECT * FROM sessions; TRUNCATE sessions");
    must_refuse(&node, &issued, &Refusal::Unknown).await;
    let asked = Instant::now();
    service
        .cold
        .sql("INSERT INTO sessions SELECT * FROM kept; DROP TABLE kept");
    has_polled(&node).await;
    tokio::time::sleep_until((asked + bound).into()).await;
    node.find(issued.access.clone()).await.unwrap();
}

on_both!(
    a_deleted_session_that_is_put_back_after_pruning_is_served,
    a_backup_is_put_back_over_sessions_that_were_deleted_one_by_one,
    a_token_that_is_taken_away_and_given_back_is_good_at_once,
    traces_that_are_said_to_be_kept_from_the_future_on_do_no_harm,
);

async fn a_token_that_is_taken_away_and_given_back_is_good_at_once(cold: Cold) {
    let world = World::on(cold).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    let id = issued.id;
    world.sql("CREATE TABLE kept AS SELECT id, access_jti FROM sessions");
    world.sql(&format!(
        "UPDATE sessions SET access_jti = NULL WHERE id = '{id}'"
    ));
    for node in [&world.here, &world.there] {
        must_refuse(node, &issued, &Refusal::Replaced).await;
    }
    world.sql(&format!(
        "UPDATE sessions SET access_jti = (SELECT access_jti FROM kept) WHERE id = '{id}'"
    ));
    for node in [&world.here, &world.there] {
        has_polled(node).await;
        // Not only after the half minute for which nodes remember refused tokens.
        node.find(issued.access.clone()).await.unwrap();
    }
}

async fn traces_that_are_said_to_be_kept_from_the_future_on_do_no_harm(cold: Cold) {
    let world = World::on(cold).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.sql("UPDATE session_history SET tombstones_since = 1000000000000");
    eventually("it is mended", async || {
        let since = world.sql("SELECT tombstones_since FROM session_history");
        since.trim().parse::<i64>().unwrap() < 1_000_000_000_000
    })
    .await;
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
        eventually("it trusts its caches", async || node.health().is_trusting()).await;
    }
}

/// Nodes know it as deleted for as long as they run. The row that they read from the database is a later one.
async fn a_deleted_session_that_is_put_back_after_pruning_is_served(cold: Cold) {
    let world = World::on(cold).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.sql("CREATE TABLE kept AS SELECT * FROM sessions");
    for node in [&world.here, &world.there] {
        // In SQLite that is another version of the schema, and begins a lineage.
        has_polled(node).await;
        has_polled(node).await;
    }
    world.sql("DELETE FROM sessions");
    for node in [&world.here, &world.there] {
        must_refuse(node, &issued, &Refusal::Unknown).await;
    }
    world.sql(
        "UPDATE session_history SET tombstones_since = (SELECT max(mark) + 1 FROM session_tombstones); \
         DELETE FROM session_tombstones; INSERT INTO sessions SELECT * FROM kept",
    );
    for node in [&world.here, &world.there] {
        // By its id, as one whose token nobody remembers as refused.
        let found = node.find(issued.id).await.unwrap();
        assert_eq!(found.id(), issued.id);
    }
    world.here.revoke(issued.id).await.unwrap();
    assert!(world.here.find(issued.id).await.is_err());
    must_refuse(&world.there, &issued, &Refusal::Revoked).await;
}

async fn a_backup_is_put_back_over_sessions_that_were_deleted_one_by_one(cold: Cold) {
    let world = World::on(cold).await;
    let issued = world.login().await;
    world.sql("CREATE TABLE kept AS SELECT * FROM sessions");
    for node in [&world.here, &world.there] {
        // In SQLite that is another version of the schema, and begins a lineage.
        has_polled(node).await;
        has_polled(node).await;
    }
    world.sql("DELETE FROM sessions");
    let again = "INSERT INTO sessions SELECT * FROM kept";
    let error = world.service.cold.try_sql(again).unwrap_err().to_string();
    assert!(error.contains("was deleted"), "{error}");
    // What the page on backups says of it.
    match &world.service.cold {
        Cold::Postgres(_) => drop(world.sql("TRUNCATE sessions")),
        Cold::Sqlite(_) => {
            assert!(error.contains("sessions invalidate-caches"), "{error}");
            let store = crate::cold::open(&world.service.cold).await.unwrap();
            let before = store.changes(Mark::ZERO, 1).await.unwrap().lineage;
            store.renew_lineage(before).await.unwrap();
        }
    }
    world.sql(again);
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
    }
}
