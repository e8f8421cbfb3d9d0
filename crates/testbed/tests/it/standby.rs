use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use testbed::{Cluster, Database};

use crate::panic_of;

/// Never dropped: its keeper ends it with this process.
static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::builder().config("lock_timeout", "7s").start());

#[test]
fn a_standby_shows_what_was_committed_before_it_and_after_it_but_takes_no_writes() {
    let before = CLUSTER.database();
    write(&before, 1);
    let standby = CLUSTER.standby();
    let after = CLUSTER.database();
    write(&after, 2);

    standby.caught_up();
    assert_eq!(standby.sql(&before, COUNT), "1");
    assert_eq!(standby.sql(&after, COUNT), "2");
    assert_eq!(standby.sql(&after, "SHOW lock_timeout"), "7s");
    assert_ne!(standby.url(&after), after.url());
    let refused = panic_of(AssertUnwindSafe(|| {
        drop(standby.sql(&after, "DELETE FROM t"))
    }));
    assert!(refused.contains("read-only"), "{refused}");
}

#[test]
fn a_paused_replay_shows_the_past_until_it_is_resumed() {
    let database = CLUSTER.database();
    let standby = CLUSTER.standby();
    write(&database, 1);
    standby.caught_up();

    standby.pause_replay();
    write(&database, 2);
    assert_eq!(standby.sql(&database, COUNT), "1");
    standby.resume_replay();
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "3");
}

#[test]
fn a_standby_that_lags_shows_a_commit_when_it_is_so_old() {
    const LAG: Duration = Duration::from_millis(1500);
    let database = CLUSTER.database();
    write(&database, 1);
    let standby = CLUSTER.standby();
    standby.lag(LAG);

    let start = Instant::now();
    write(&database, 1);
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "2");
    assert!(start.elapsed() >= LAG, "{:?}", start.elapsed());

    standby.lag(Duration::from_secs(3600));
    write(&database, 1);
    assert_eq!(standby.sql(&database, COUNT), "2");
    standby.lag(Duration::ZERO);
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "3");
}

#[test]
fn a_promoted_standby_lacks_what_had_not_arrived_and_takes_writes() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let standby = cluster.standby();
    write(&database, 1);
    standby.caught_up();

    // While it is away it receives nothing; and the cluster does not come back.
    standby.kill();
    write(&database, 1);
    cluster.kill();
    standby.restart();
    standby.promote();
    assert_eq!(standby.sql(&database, COUNT), "1");
    standby.sql(&database, "INSERT INTO t VALUES (1), (2)");
    assert_eq!(standby.sql(&database, COUNT), "3");
}

#[test]
fn a_standby_that_was_away_or_stood_still_finds_what_it_missed() {
    let database = CLUSTER.database();
    let standby = CLUSTER.standby();
    standby.kill();
    write(&database, 1);
    standby.restart();
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "1");

    standby.pause();
    write(&database, 1);
    standby.resume();
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "2");
    standby.pause();
    drop(standby);
}

#[test]
fn a_cluster_with_tls_and_a_password_has_a_standby_with_neither() {
    let cluster = Cluster::builder().tls().password("secret").start();
    let database = cluster.database();
    let standby = cluster.standby();
    write(&database, 1);
    standby.caught_up();
    assert_eq!(standby.sql(&database, COUNT), "1");
    assert!(!standby.url(&database).contains("secret"));
}

const COUNT: &str = "SELECT count(*) FROM t";

fn write(database: &Database, rows: usize) {
    database.sql(&format!(
        "CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t SELECT generate_series(1, {rows})"
    ));
}
