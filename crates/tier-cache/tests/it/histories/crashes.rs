//! Commits that a crash loses, and data folders that are put back, on servers of their own.

use testbed::Cluster;
use tier_cache::{Login, Refusal};

use super::{Known, World, must_refuse, must_serve, signal};

/// How the server goes down.
enum Crash {
    /// All of it; it is started again.
    Server,
    /// One backend: the server recovers by itself, with the same start time and timeline.
    Backend,
}

/// A revocation is acknowledged, told to nodes, and lost, while a transaction of another database is
/// open, which holds all marks back. What was logged in just before is lost with it.
async fn loses_commits(crash: Crash) {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    let valid = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.sql("CREATE TABLE hits (n int)");
    let elsewhere = cluster.database();
    elsewhere.sql("CREATE TABLE t (a int)");
    let (other, connection) = tokio_postgres::connect(&elsewhere.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let _connection = tokio::spawn(connection);
    other
        .batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();

    // What is committed asynchronously stays in memory as long as these three write nothing.
    let writers = "SELECT pid FROM pg_stat_activity \
        WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')";
    let writers = world.sql(writers);
    writers.lines().for_each(|pid| signal("-STOP", pid));
    world.sql(&format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        world.database().name()
    ));
    // Nodes have connections from before.
    world.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'tier-cache' AND datname = current_database()",
    );
    let lost = async || {
        let issued = Known::of(world.here.login(Login::guest()).await.ok()?);
        world.there.find(issued.access.clone()).await.ok()?;
        Some(issued)
    };
    let begun = loop {
        // Until the pools have noticed that their connections are gone.
        if let Some(begun) = lost().await {
            break begun;
        }
    };
    must_serve(&world.here, &begun).await;

    match crash {
        Crash::Server => {
            // Not stopped any more they would write what is to be lost.
            writers.lines().for_each(|pid| signal("-KILL", pid));
            cluster.kill();
            cluster.restart();
        }
        Crash::Backend => {
            let started = world.sql("SELECT pg_postmaster_start_time()");
            let pid = world.sql(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'tier-cache' LIMIT 1",
            );
            signal("-KILL", &pid);
            while world.database().try_sql("SELECT 1").is_err() {}
            assert_eq!(world.sql("SELECT pg_postmaster_start_time()"), started);
        }
    }
    let id = begun.id;
    let there = world.sql(&format!("SELECT count(*) FROM sessions WHERE id = '{id}'"));
    assert_eq!(there, "0", "the commit was lost");
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &begun, &Refusal::Unknown).await;
        must_serve(node, &valid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_loses_commits_while_a_write_transaction_is_open() {
    loses_commits(Crash::Server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_recovers_from_the_death_of_one_backend_loses_commits() {
    loses_commits(Crash::Backend).await;
}

/// An unlogged table is empty after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn unlogged_sessions_are_gone_after_a_crash() {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    world.sql("ALTER TABLE sessions SET UNLOGGED");
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.there.find(issued.access.clone()).await.unwrap();
    cluster.kill();
    cluster.restart();
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &issued, &Refusal::Unknown).await;
    }
    let issued = Known::of(later.login(Login::guest()).await.unwrap());
    for node in [&world.here, &world.there, &later] {
        must_serve(node, &issued).await;
    }
}

/// What names the lineage may be lost, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_that_names_the_lineage_is_emptied_by_a_crash() {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    world.sql("ALTER TABLE session_history SET UNLOGGED");
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    cluster.kill();
    cluster.restart();
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_data_folder_is_put_back_under_running_nodes() {
    let cluster = Cluster::start();
    let world = World::in_cluster(&cluster).await;
    let kept = world.kept().await;
    cluster.stop();
    let copy = cluster.copy_data();
    cluster.restart();
    for node in [&world.here, &world.there] {
        must_serve(node, &kept.valid).await;
    }
    let lost = world.lose(kept).await;
    cluster.stop();
    cluster.put_back(&copy);
    cluster.restart();
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// The nodes have no memory of what was before, but Redis has; server, timeline and tables are the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_data_folder_is_put_back_while_all_nodes_are_down() {
    let cluster = Cluster::start();
    let World {
        service,
        here,
        there,
    } = World::in_cluster(&cluster).await;
    let world = World {
        service,
        here,
        there,
    };
    let kept = world.kept().await;
    cluster.stop();
    let copy = cluster.copy_data();
    cluster.restart();
    for node in [&world.here, &world.there] {
        must_serve(node, &kept.valid).await;
    }
    let lost = world.lose(kept).await;
    let World { service, .. } = world;
    cluster.stop();
    cluster.put_back(&copy);
    cluster.restart();
    service.cold.sql(&lost.revoke());
    let (here, there) = (service.node().await, service.node().await);
    lost.believed_by(&[&here, &there]).await;
}
