//! Cold reads from a streaming standby, whose replay is paused at the worst moments.

use testbed::{Cluster, Database, Standby};
use tier_cache::{Login, Refusal, Strictness, Tier, TierConfig, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// A service whose nodes may read from a standby.
struct Replicated {
    service: Service,
    standby: Standby,
    _cluster: Cluster,
}

impl Replicated {
    fn start() -> Self {
        let cluster = Cluster::start();
        let service = Service::without_redis(Cold::Postgres(cluster.database()));
        Self {
            service,
            standby: cluster.standby(),
            _cluster: cluster,
        }
    }

    fn database(&self) -> &Database {
        match &self.service.cold {
            Cold::Postgres(database) => database,
            Cold::Sqlite(_) => unreachable!(),
        }
    }

    fn config(&self) -> TierConfig {
        let mut config = self.service.config();
        config.cold.replica_url = Some(self.standby.url(self.database()));
        config.cold.replica_timeout = std::time::Duration::from_secs(30);
        config
    }

    /// One that reads from the standby, and knows of no session yet.
    async fn reader(&self) -> Tiers<Basket> {
        self.service.node_with(self.config()).await
    }

    /// How often the primary was asked for a session.
    fn reads(&self) -> u64 {
        let statements = self.database().statements().into_iter();
        statements
            .filter(|statement| statement.query.contains("\"sessions\".\"user_agent\""))
            .map(|statement| statement.calls)
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_reads_go_to_the_standby_and_only_what_it_lacks_to_the_primary() {
    let world = Replicated::start();
    let writer = world.service.node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let reader = world.reader().await;
    // The fence of the reader may know of the login; the standby soon does too.
    world.standby.caught_up();

    world.database().reset_statements();
    let session = reader.find(issued.access.clone()).await.unwrap();
    assert_eq!(session.tier(), Tier::Cold);
    session.body().await.unwrap();
    assert_eq!(world.reads(), 0, "{:?}", world.database().statements());
    let session = reader.find(issued.access.clone()).await.unwrap();
    assert_eq!(session.tier(), Tier::Hot);

    world.standby.pause_replay();
    let unknown_there = writer.login(Login::guest()).await.unwrap();
    world.database().reset_statements();
    let session = reader.find(unknown_there.access.clone()).await.unwrap();
    assert_eq!((session.tier(), world.reads()), (Tier::Cold, 1));
    // Who asks for certainty is not sent to a copy.
    reader
        .find_strict(issued.access, Strictness::Row)
        .await
        .unwrap();
    assert_eq!(world.reads(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lags_brings_no_revoked_session_back_and_no_old_data() {
    let world = Replicated::start();
    let writer = world.service.node().await;
    let revoked = writer.login(Login::guest()).await.unwrap();
    let updated = writer.login(Login::guest()).await.unwrap();
    world.standby.caught_up();
    world.standby.pause_replay();

    writer.revoke(revoked.session.id()).await.unwrap();
    let change = |basket: &mut Basket| basket.count = 7;
    writer.update(&updated.session, change).await.unwrap();
    let active = "SELECT is_active FROM sessions WHERE id = ";
    let active = format!("{active}'{}'", revoked.session.id());
    assert_eq!(world.standby.sql(world.database(), &active), "t");

    // It starts after both, so its first poll has told it of both.
    let reader = world.reader().await;
    let refused = reader.find(revoked.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Revoked), "{refused}");
    let session = reader.find(updated.access).await.unwrap();
    let body = session.body().await.unwrap();
    assert_eq!(body.data().unwrap().count, 7);

    // Nor does one that had it hot, and hears of it later.
    let hot = writer.login(Login::guest()).await.unwrap();
    world.standby.resume_replay();
    world.standby.caught_up();
    world.standby.pause_replay();
    reader.find(hot.access.clone()).await.unwrap();
    world.database().sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{}'",
        hot.session.id()
    ));
    eventually("the reader refuses it", async || {
        let refused = reader.find(hot.access.clone()).await;
        matches!(refused, Err(Refusal::Revoked))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_down_or_silent_costs_no_request() {
    let world = Replicated::start();
    let writer = world.service.node().await;
    let mut config = world.config();
    config.cold.replica_timeout = std::time::Duration::from_millis(50);
    let reader = world.service.node_with(config).await;
    for outage in [Standby::kill, Standby::pause] {
        outage(&world.standby);
        for _ in 0..5 {
            let issued = writer.login(Login::guest()).await.unwrap();
            let session = reader.find(issued.access).await.unwrap();
            assert_eq!(session.tier(), Tier::Cold);
        }
        world.standby.resume();
        world.standby.restart();
        world.standby.caught_up();
        eventually("the standby is asked again", async || {
            let issued = writer.login(Login::guest()).await.unwrap();
            world.standby.caught_up();
            world.database().reset_statements();
            reader.find(issued.access).await.unwrap();
            world.reads() == 0
        })
        .await;
    }
}
