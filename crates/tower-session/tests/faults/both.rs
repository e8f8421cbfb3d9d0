//! Redis and the database are out of order together: in either order, and back in either order.

use testbed::{Cluster, Database, Redis};

use crate::database::{begin, impatient};
use crate::row::Row;

#[tokio::test(flavor = "multi_thread")]
async fn redis_then_database_fail_and_either_is_back_first() {
    let servers = Servers::start();
    let mut row = servers.row("both: Redis, then the database").await;
    servers.redis_then_database_fail(&row).await;
    servers.redis_is_back_first(&mut row).await;
    servers.redis_then_database_fail(&row).await;
    servers.database_is_back_first(&mut row).await;
    row.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_then_redis_fail_and_either_is_back_first() {
    let servers = Servers::start();
    let mut row = servers.row("both: the database, then Redis").await;
    servers.database_then_redis_fail(&row).await;
    servers.database_is_back_first(&mut row).await;
    servers.database_then_redis_fail(&row).await;
    servers.redis_is_back_first(&mut row).await;
    row.end().await;
}

struct Servers {
    redis: Redis,
    cluster: Cluster,
}

impl Servers {
    fn start() -> Self {
        Self {
            redis: Redis::start(),
            cluster: Cluster::start(),
        }
    }

    async fn row(&self, fault: &'static str) -> Row {
        let database: Database = self.cluster.database();
        let config = impatient(&database, &self.redis);
        begin(fault, database, config).await
    }

    async fn redis_then_database_fail(&self, row: &Row) {
        self.redis.kill();
        row.given_up().await;
        row.rounds().await;
        self.cluster.kill();
        row.database_is_missed().await;
        row.hot_is_served().await;
        row.writes_fail_and_change_nothing().await;
        row.the_bound_passes().await;
    }

    async fn database_then_redis_fail(&self, row: &Row) {
        self.cluster.kill();
        row.database_is_missed().await;
        row.hot_is_served().await;
        self.redis.kill();
        row.given_up().await;
        row.hot_is_served().await;
        row.writes_fail_and_change_nothing().await;
        row.the_bound_passes().await;
    }

    async fn redis_is_back_first(&self, row: &mut Row) {
        self.redis.restart();
        row.connected().await;
        row.nobody_is_served().await;
        self.cluster.restart();
        row.recovers_from_blindness().await;
        row.misses_are_warm_again().await;
    }

    async fn database_is_back_first(&self, row: &mut Row) {
        self.cluster.restart();
        row.recovers_from_blindness().await;
        self.redis.restart();
        row.recovers_without_a_storm().await;
    }
}
