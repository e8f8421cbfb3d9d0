//! An outage degrades; it does not surprise.

use std::time::Duration;

use testbed::Cluster;
use tier_cache::{Clock, Login, Refusal, Tier, TierState, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_redis_costs_speed_only_and_is_used_again_when_it_is_back() {
    let service = Service::new(Cold::postgres());
    let (here, there) = (service.node().await, service.node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    service.redis().kill();

    assert_eq!(
        here.find(issued.access.clone()).await.unwrap().tier(),
        Tier::Hot
    );
    assert_eq!(there.find(issued.access).await.unwrap().tier(), Tier::Cold);
    let issued = here.login(Login::guest()).await.unwrap();
    eventually("the outage is noticed", async || {
        here.health().warm == TierState::Down
    })
    .await;
    here.revoke(issued.session.id()).await.unwrap();
    here.find(issued.access.clone()).await.unwrap_err();
    // Without Redis by the feed.
    eventually("the other node refuses it", async || {
        there.find(issued.access.clone()).await.is_err()
    })
    .await;

    service.redis().restart();
    eventually("Redis is used again", async || {
        here.health().warm == TierState::Up && there.health().warm == TierState::Up
    })
    .await;
    let issued = here.login(Login::guest()).await.unwrap();
    assert_eq!(there.find(issued.access).await.unwrap().tier(), Tier::Warm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_a_redis_that_is_down() {
    let service = Service::new(Cold::postgres());
    service.redis().kill();
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    node.find(issued.access).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_node_serves_what_is_cached_until_the_bound_and_then_says_so() {
    let cluster = Cluster::start();
    let service = Service::new(Cold::Postgres(cluster.database()));
    let mut config = service.config();
    config.cold.connect_timeout = Duration::from_secs(2);
    config.cold.statement_timeout = Duration::from_secs(2);
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(config, service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let issued = node.login(Login::guest()).await.unwrap();
    let other = node.login(Login::guest()).await.unwrap();

    cluster.kill();
    // Within the bound, which the standing clock does not pass.
    assert_eq!(
        node.find(issued.access.clone()).await.unwrap().tier(),
        Tier::Hot
    );
    let error = node.revoke(other.session.id()).await.unwrap_err();
    assert!(error.to_string().contains("revoke failed"), "{error}");
    assert!(
        node.find(other.access.clone()).await.is_ok(),
        "it was not revoked"
    );

    clock.advance(Duration::from_secs(61));
    let refused = node.find(issued.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
    assert!(!node.health().is_trusting());

    cluster.restart();
    eventually("the node trusts its caches again", async || {
        node.health().is_trusting()
    })
    .await;
    let found = node.find(issued.access.clone()).await.unwrap();
    assert_eq!(found.tier(), Tier::Hot);
    node.revoke(issued.session.id()).await.unwrap();
    node.find(issued.access).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blind_node_whose_database_answers_again_asks_it() {
    let service = Service::new(Cold::postgres());
    let clock = Clock::manual();
    // It polls once, so that it stays blind.
    let node: Tiers<Basket> = Tiers::builder(service.quiet(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let issued = node
        .login(Login::guest().ttl(Duration::from_secs(1_000_000)))
        .await
        .unwrap();
    assert_eq!(
        node.find(issued.access.clone()).await.unwrap().tier(),
        Tier::Hot
    );
    clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    for _ in 0..2 {
        let found = node.find(issued.access.clone()).await.unwrap();
        assert_eq!(found.tier(), Tier::Cold, "nothing cached is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_the_background_tasks_and_refuses_writes() {
    let service = Service::new(Cold::postgres());
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    assert!(node.shutdown(Duration::from_secs(60)).await);
    node.find(issued.access)
        .await
        .expect("what is hot is served within the bound");
    let error = node.login(Login::guest()).await.unwrap_err();
    assert!(matches!(error, tier_cache::Error::ShuttingDown), "{error}");
}
