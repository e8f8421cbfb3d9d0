//! What brings a whole session into the hot tier is configuration; so is how strict it is.

use std::time::Duration;

use session_core::Token;
use tier_cache::{Login, Promotion, Strictness, Tier, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// A node that has never seen the session of this token, which is warm.
async fn stranger(service: &Service, promotion: Promotion) -> (Tiers<Basket>, Token) {
    let login = Login::guest().data(Basket::of("tea"));
    let issued = service.node().await.login(login).await.unwrap();
    let mut config = service.config();
    config.session.promotion = promotion;
    (service.node_with(config).await, issued.access)
}

/// Uses the session once; says whether its body is here.
async fn used(node: &Tiers<Basket>, token: &Token) -> bool {
    let session = node.find(token.clone()).await.unwrap();
    session.body_if_here().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_body_alone_a_head_stays_a_head_however_often_it_is_used() {
    let service = Service::new(Cold::postgres());
    let (node, token) = stranger(&service, Promotion::Body).await;
    for _ in 0..100 {
        assert!(!used(&node, &token).await);
    }
    node.find(token.clone())
        .await
        .unwrap()
        .body()
        .await
        .unwrap();
    assert!(used(&node, &token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_first_use_the_body_follows_behind_the_requests_back() {
    let service = Service::new(Cold::postgres());
    let (node, token) = stranger(&service, Promotion::FirstUse).await;
    let first = node.find(token.clone()).await.unwrap();
    assert_eq!(
        (first.tier(), first.body_if_here().is_some()),
        (Tier::Warm, false)
    );
    // Not by a use: by the first one.
    let credential = token.into();
    eventually("the body is here", async || {
        let session = node.try_hot(&credential).expect("its head is hot").unwrap();
        session.body_if_here().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_uses_the_body_follows_the_last_of_them() {
    let service = Service::new(Cold::postgres());
    let window = Duration::from_secs(60 * 60);
    // So many that those which a node notes, one a second, are not enough.
    let count = 200;
    let (node, token) = stranger(&service, Promotion::Uses { count, window }).await;
    for _ in 1..count {
        assert!(!used(&node, &token).await);
    }
    used(&node, &token).await;
    eventually("the body is here", async || used(&node, &token).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strictness_by_configuration_holds_for_each_lookup() {
    let service = Service::new(Cold::postgres());
    for strictness in [Strictness::Version, Strictness::Row] {
        let mut config = service.quiet();
        config.session.strictness = strictness;
        let node = service.node_with(config).await;
        let issued = node.login(Login::guest()).await.unwrap();
        node.find(issued.access.clone()).await.unwrap();
        // By another program; this node does not poll.
        let id = issued.session.id();
        service.cold.sql(&format!(
            "UPDATE sessions SET is_active = false WHERE id = '{id}'"
        ));
        node.find(issued.access).await.unwrap_err();
    }
}
