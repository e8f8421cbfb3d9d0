//! An outage degrades; it does not surprise.

use std::time::{Duration, Instant};

use session_core::{SessionId, TokenKind};
use testbed::Cluster;
use tier_cache::{
    CircuitState, Clock, Login, OnBlind, Refusal, Strictness, Tier, TierState, Tiers,
};

use crate::slow::Slow;
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
    // A server that was started again may lack what was committed last.
    for tier in [Tier::Cold, Tier::Hot] {
        let found = node.find(issued.access.clone()).await.unwrap();
        assert_eq!(found.tier(), tier);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_left_alone_but_for_a_try_now_and_then() {
    let cluster = Cluster::start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let store = Slow::on(&service.cold, usize::MAX >> 4).await;
    let node: Tiers<Basket> = Tiers::builder(service.config(), service.keys())
        .store(store.clone())
        .start()
        .await
        .unwrap();
    let issued = node.login(Login::guest()).await.unwrap();
    let unknown = async || node.find(SessionId::random()).await.unwrap_err();
    assert!(matches!(unknown().await, Refusal::Unknown));

    cluster.kill();
    eventually("its circuit opens", async || {
        unknown().await;
        node.health().cold_circuit == CircuitState::Open
    })
    .await;
    let (begun, read) = (Instant::now(), store.read());
    for _ in 0..1000 {
        assert!(unknown().await.is_unavailable());
    }
    let tries = (store.read() - read) as u128;
    // A pause between two tries is 50 ms at least.
    assert!(
        tries <= 1 + begun.elapsed().as_millis() / 50,
        "{tries} tries"
    );
    let error = loop {
        let error = node.login(Login::guest()).await.unwrap_err().to_string();
        // Unless it was the one that tries.
        if error.contains("asked again in a while") {
            break error;
        }
    };
    assert!(error.contains("did not answer"), "{error}");
    assert_eq!(
        node.find(issued.access.clone()).await.unwrap().tier(),
        Tier::Hot
    );

    cluster.restart();
    eventually("it is asked again", async || {
        node.health().cold_circuit == CircuitState::Closed
            && matches!(unknown().await, Refusal::Unknown)
    })
    .await;
    node.login(Login::guest()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_be_told_to_serve_what_is_hot_for_a_while_longer() {
    let second = Duration::from_secs(1);
    let cluster = Cluster::start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let clock = Clock::manual();
    let mut config = service.config();
    config.fence.on_blind = OnBlind::ServeFor(30 * second);
    let node: Tiers<Basket> = Tiers::builder(config, service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let issued = node.login(Login::guest()).await.unwrap();
    let over = node.login(Login::guest()).await.unwrap();
    // By so much the receipts are more careful.
    let receipt = node.revoke(over.session.id()).await.unwrap();
    assert_eq!(receipt.effective_within(), 90 * second);
    eventually("the node trusts its caches", async || {
        node.health().is_trusting()
    })
    .await;

    cluster.kill();
    eventually("the feed has failed", async || {
        node.health().cold == TierState::Down
    })
    .await;
    clock.advance(61 * second);
    assert!(!node.health().is_trusting());
    let found = node.find(issued.access.clone()).await.unwrap();
    assert_eq!(found.tier(), Tier::Hot);
    let refused = node.find(over.access.clone()).await.unwrap_err();
    assert!(!matches!(refused, Refusal::Unknown), "{refused}");
    // Who asks for the row is not served from a cache, and a token's secret is still compared.
    let strict = node
        .find_strict(issued.access.clone(), Strictness::Row)
        .await;
    assert!(strict.unwrap_err().is_unavailable());
    let other = service.keys().mint(TokenKind::Access, issued.session.id());
    node.find(other).await.unwrap_err();
    clock.advance(29 * second);
    node.find(issued.access.clone()).await.unwrap_err();

    cluster.restart();
    eventually("the node trusts its caches again", async || {
        node.health().is_trusting()
    })
    .await;
    node.find(issued.access).await.unwrap();
}
