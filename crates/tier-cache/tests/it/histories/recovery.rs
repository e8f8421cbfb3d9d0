//! Servers that recover to a point in time, and former primaries that come back.

use std::time::Duration;

use testbed::{Cluster, DataCopy, Database};
use tier_cache::{Login, Refusal};

use super::{Known, Lost, World, must_refuse, must_serve};
use crate::support::{Basket, Cold, Service, eventually};

/// The archive is beside the data folder.
fn archiving() -> Cluster {
    Cluster::builder()
        .config("archive_mode", "on")
        .config(
            "archive_command",
            "mkdir -p ../archive && cp %p ../archive/%f",
        )
        .start()
}

/// What was committed after the backup and before the point is kept, and what came after that is lost.
async fn prepared(cluster: &Cluster, world: &World) -> (DataCopy, Lost) {
    let backup = cluster.base_backup();
    let kept = world.kept().await;
    world.sql("SELECT pg_create_restore_point('here')");
    let lost = world.lose(kept).await;
    let log = world.sql("SELECT pg_walfile_name(pg_switch_wal())");
    eventually("it is archived", async || {
        world.sql(&format!(
            "SELECT last_archived_wal >= '{log}' FROM pg_stat_archiver"
        )) == "t"
    })
    .await;
    (backup, lost)
}

async fn recover(cluster: &Cluster, database: &Database, backup: &DataCopy) {
    cluster.stop();
    cluster.put_back(backup);
    cluster.recover(&[
        ("restore_command", "cp ../archive/%f %p"),
        ("recovery_target_name", "here"),
        ("recovery_target_action", "promote"),
    ]);
    cluster.restart();
    eventually("it takes writes", async || {
        database.sql("SELECT pg_is_in_recovery()") == "f"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_recovers_to_a_point_in_time_under_running_nodes() {
    let cluster = archiving();
    let world = World::in_cluster(&cluster).await;
    let (backup, lost) = prepared(&cluster, &world).await;
    recover(&cluster, world.database(), &backup).await;
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// The nodes have no memory of what was before, but Redis has.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_recovers_to_a_point_in_time_while_all_nodes_are_down() {
    let cluster = archiving();
    let world = World::in_cluster(&cluster).await;
    let (backup, lost) = prepared(&cluster, &world).await;
    let World {
        service,
        here,
        there,
    } = world;
    for node in [here, there] {
        assert!(node.shutdown(Duration::from_secs(10)).await);
    }
    let Cold::Postgres(database) = &service.cold else {
        unreachable!()
    };
    recover(&cluster, database, &backup).await;
    database.sql(&lost.revoke());
    let (here, there) = (service.node().await, service.node().await);
    lost.believed_by(&[&here, &there]).await;
}

/// A standby takes over from a primary, which becomes its standby by `pg_rewind`, and then takes over again; each
/// time commits are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_follows_the_new_one_and_takes_over_again() {
    let cluster = Cluster::builder().config("wal_log_hints", "on").start();
    let service = Service::new(Cold::Postgres(cluster.database()));
    let Cold::Postgres(database) = &service.cold else {
        unreachable!()
    };
    // For the recovery from the crash too, which `pg_rewind` sees to.
    database.sql("ALTER SYSTEM SET wal_log_hints = on; ALTER SYSTEM SET wal_keep_size = '64MB'");
    let standby = cluster.standby();
    let host = |url: &str| {
        let (_, host) = url.split_once("host=").expect("a host");
        host.split('&').next().unwrap_or_default().to_owned()
    };
    let (first, second) = (host(&database.url()), host(&standby.url(database)));
    let mut config = service.config();
    config.cold.url = database
        .url()
        .replace(&first, &format!("{first}&host={second}"));
    let node = async || service.node_with(config.clone()).await;
    let (here, there) = (node().await, node().await);
    let login = async || {
        let known = Known::of(here.login(Login::guest()).await.unwrap());
        must_serve(&there, &known).await;
        known
    };
    let revoke = |known: &Known| {
        let id = known.id;
        format!("UPDATE sessions SET is_active = false WHERE id = '{id}'")
    };
    let changed = async |known: &Known| {
        let mut session = here.find(known.access.clone()).await.unwrap();
        for _ in 0..9 {
            let change = |basket: &mut Basket| basket.count += 1;
            session = here.update(&session, change).await.unwrap();
        }
        there.find(known.access.clone()).await.unwrap();
    };
    let all_say = async |valid: &[&Known], revoked: &[&Known], unknown: &[&Known]| {
        let later = node().await;
        for node in [&here, &there, &later] {
            for known in unknown {
                must_refuse(node, known, &Refusal::Unknown).await;
            }
            for known in revoked {
                must_refuse(node, known, &Refusal::Revoked).await;
            }
            for known in valid {
                must_serve(node, known).await;
            }
        }
    };

    let (valid, first_revoked) = (login().await, login().await);
    standby.caught_up();
    standby.kill();
    changed(&first_revoked).await;
    let first_lost = login().await;
    cluster.kill();
    standby.restart();
    standby.promote();
    standby.sql(database, &revoke(&first_revoked));
    all_say(&[&valid], &[&first_revoked], &[&first_lost]).await;

    // The timeline that `pg_rewind` looks for is in the files after the next checkpoint.
    standby.sql(database, "CHECKPOINT");
    cluster.rewind(&standby);
    cluster.restart();
    let (second_valid, second_revoked) = (login().await, login().await);
    let now = standby.sql(database, "SELECT pg_current_wal_lsn()");
    eventually("the former primary has caught up", async || {
        let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{now}'");
        database.sql(&caught_up) == "t"
    })
    .await;
    cluster.kill();
    changed(&second_revoked).await;
    let second_lost = login().await;
    standby.kill();
    cluster.restart();
    assert_eq!(database.sql("SELECT pg_promote()"), "t");
    database.sql(&revoke(&second_revoked));
    all_say(
        &[&valid, &second_valid],
        &[&first_revoked, &second_revoked],
        &[&first_lost, &second_lost],
    )
    .await;
}
