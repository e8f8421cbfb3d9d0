//! The database is out of order in one way or another. What is cached is served until the bound; then
//! requests are refused with 503, and when it is back all goes on.
//!
//! The nodes' clock stands still until it is moved, so that the bound passes when the row says so.

use std::time::Duration;

use testbed::{Cluster, Database, Redis, Relay};
use tier_cache::{Clock, OnBlind, TierConfig};

use crate::bed::{Bed, config, eventually};
use crate::row::Row;

#[tokio::test(flavor = "multi_thread")]
async fn database_refuses_connections() {
    let (cluster, redis) = (Cluster::start(), Redis::start());
    let database = cluster.database();
    let config = impatient(&database, &redis);
    let mut row = begin("database: refused", database, config).await;
    cluster.kill();
    row.caches_serve_until_the_bound().await;
    cluster.restart();
    row.recovers_from_blindness().await;
    row.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_refuses_connections_and_hot_sessions_may_be_served_longer() {
    let longer = Duration::from_secs(30);
    let (cluster, redis) = (Cluster::start(), Redis::start());
    let database = cluster.database();
    let mut config = impatient(&database, &redis);
    config.fence.on_blind = OnBlind::ServeFor(longer);
    let mut row = begin("database: refused, with `serve_for`", database, config).await;
    cluster.kill();
    row.caches_serve_until_the_bound().await;
    cluster.restart();
    row.recovers_from_blindness().await;
    row.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_is_silent() {
    let (cluster, redis) = (Cluster::start(), Redis::start());
    let database = cluster.database();
    let config = impatient(&database, &redis);
    let mut row = begin("database: silent", database, config).await;
    cluster.pause();
    row.caches_serve_until_the_bound().await;
    cluster.resume();
    row.recovers_from_blindness().await;
    row.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_fails_over_to_its_standby() {
    let (cluster, redis) = (Cluster::start(), Redis::start());
    let database = cluster.database();
    let standby = cluster.standby();
    // What is acknowledged has arrived there.
    database.sql("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf();");
    eventually("commits wait for the standby", async || {
        database.sql("SELECT sync_state FROM pg_stat_replication") == "sync"
    })
    .await;
    let way = Relay::to(cluster.socket());
    let mut config = impatient(&database, &redis);
    config.cold.url = format!(
        "postgres://postgres@{}/{}?sslmode=disable",
        way.address(),
        database.name()
    );
    let mut row = begin("database: failed over", database, config).await;
    cluster.kill();
    row.caches_serve_until_the_bound().await;
    standby.promote();
    way.redirect(standby.socket());
    row.recovers_from_blindness().await;
    row.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_has_no_connections_left() {
    let (cluster, redis) = (Cluster::start(), Redis::start());
    let database = cluster.database();
    let name = database.name();
    // No superuser, whom no limit binds.
    database.sql(&format!(
        "CREATE ROLE app LOGIN; ALTER DATABASE {name} OWNER TO app; ALTER SCHEMA public OWNER TO app"
    ));
    let mut config = impatient(&database, &redis);
    config.cold.url = database.url().replacen("postgres@", "app@", 1);
    let mut row = begin("database: out of connections", database, config).await;
    row.bed.database.sql(
        "ALTER ROLE app CONNECTION LIMIT 0; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
    );
    row.caches_serve_until_the_bound().await;
    row.bed.database.sql("ALTER ROLE app CONNECTION LIMIT -1");
    row.recovers_from_blindness().await;
    row.end().await;
}

/// Deadlines that an outage is told by.
pub(crate) fn impatient(database: &Database, redis: &Redis) -> TierConfig {
    let mut config = config(database, redis.url());
    // It is well, however slow the machine.
    config.warm.command_timeout = Duration::from_secs(10);
    config.cold.connect_timeout = Duration::from_secs(3);
    config.cold.statement_timeout = Duration::from_secs(3);
    config.cold.load_timeout = Duration::from_secs(5);
    config
}

pub(crate) async fn begin(fault: &'static str, database: Database, config: TierConfig) -> Row {
    let bed = Bed::start(database, config, Clock::manual()).await;
    Row::begin_undecidable(fault, bed).await
}
