//! Logins over a guest's session that are sent twice.

use std::time::Duration;

use session_core::{Token, TokenKeys, TokenKind};
use tier_cache::{Error, Issued, Login, Refusal, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both, username};

on_both!(
    doubled_upgrades_lead_to_the_same_data_on_two_nodes,
    a_login_with_the_dead_token_of_its_guest_finds_the_data_within_the_grace,
    another_users_login_with_the_dead_token_of_a_guest_finds_nothing,
    after_the_grace_an_upgrade_is_not_repeated,
    what_has_ended_since_is_not_brought_back,
    a_session_that_plain_sql_brings_back_is_upgraded_again,
);

async fn basket(issued: &Issued<Basket>) -> Basket {
    let body = issued.session.body().await.unwrap();
    body.data().unwrap().clone()
}

fn is_revoked(error: &Error) -> bool {
    matches!(error, Error::Refused(Refusal::Revoked))
}

/// A node with a grace that lasts as long as a test on a slow machine.
async fn node(service: &Service) -> Tiers<Basket> {
    let mut config = service.config();
    config.session.refresh_grace = Duration::from_secs(600);
    service.node_with(config).await
}

/// A session of a guest with a basket.
async fn guest(node: &Tiers<Basket>) -> Issued<Basket> {
    let login = Login::guest().data(Basket::of("tea"));
    node.login(login).await.unwrap()
}

async fn doubled_upgrades_lead_to_the_same_data_on_two_nodes(cold: Cold) {
    let service = Service::new(cold);
    let nodes = [node(&service).await, node(&service).await];
    let ada = service.cold.add_user("ada");
    for round in 0..5 {
        let guest = guest(&nodes[0]).await;
        let mut upgrades = tokio::task::JoinSet::new();
        let mut seen = Vec::new();
        for node in &nodes {
            seen.push(node.find(guest.access.clone()).await.unwrap());
        }
        for at in 0..8 {
            let (node, session) = (nodes[at % 2].clone(), seen[at % 2].clone());
            upgrades.spawn(async move { node.upgrade(&session, Login::user(ada)).await });
        }
        let mut ids = Vec::new();
        for issued in upgrades.join_all().await {
            let issued = issued.unwrap();
            assert_eq!(basket(&issued).await, Basket::of("tea"), "{round}");
            // Each answer is good, whichever comes last, and everywhere.
            for node in &nodes {
                let found = node.find(issued.access.clone()).await.unwrap();
                assert_eq!(username(&found), "ada");
            }
            ids.push(issued.session.id());
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8, "each has tokens of its own");
        eventually("the guest's token is dead", async || {
            nodes[1].find(guest.access.clone()).await.is_err()
        })
        .await;
    }
}

async fn a_login_with_the_dead_token_of_its_guest_finds_the_data_within_the_grace(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (node(&service).await, node(&service).await);
    let ada = service.cold.add_user("ada");
    let guest = guest(&here).await;
    let seen = there.find(guest.access.clone()).await.unwrap();
    assert!(there.upgraded(&guest.access, ada).await.unwrap().is_none());
    let first = here
        .upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    let add = first.session.update(|basket| basket.count = 7);
    add.await.unwrap();

    // By its token, as a request shows it.
    let found = there.upgraded(&guest.access, ada).await.unwrap().unwrap();
    assert_eq!(found.id(), first.session.id());
    // By the session, which another node had in hand.
    let second = there.upgrade(&seen, Login::user(ada)).await.unwrap();
    assert_ne!(second.session.id(), first.session.id());
    assert_eq!(basket(&second).await.count, 7, "as it is by now");
    let own = Login::user(ada).data(Basket::of("coffee"));
    let third = there.upgrade(&seen, own).await.unwrap();
    assert_eq!(basket(&third).await, Basket::of("coffee"));

    // Nothing but the guest's own token leads there.
    let stolen_name = TokenKeys::random().mint(TokenKind::Access, guest.session.id());
    let another = service.keys().mint(TokenKind::Access, guest.session.id());
    let read = |token: &Token| Token::parse(token.expose().as_bytes()).unwrap();
    for token in [&guest.refresh, &stolen_name, &another] {
        let found = there.upgraded(&read(token), ada).await.unwrap();
        assert!(found.is_none(), "{token:?}");
    }
}

/// Against session fixation: whoever planted the guest's cookie gets nothing of the user's session.
async fn another_users_login_with_the_dead_token_of_a_guest_finds_nothing(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (node(&service).await, node(&service).await);
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let planted = guest(&here).await;
    let seen = there.find(planted.access.clone()).await.unwrap();
    let victims = here.upgrade(&planted.session, Login::user(ada)).await;
    let victims = victims.unwrap();
    for node in [&here, &there] {
        eventually("the token is dead", async || {
            node.find(planted.access.clone()).await.is_err()
        })
        .await;
        node.refresh(&planted.refresh).await.unwrap_err();
        let found = node.upgraded(&planted.access, bob).await.unwrap();
        assert!(found.is_none());
        for login in [Login::user(bob), Login::guest()] {
            let again = node.upgrade(&seen, login).await.unwrap_err();
            assert!(is_revoked(&again), "{again}");
        }
    }
    let alive = service
        .cold
        .sql("SELECT count(*) FROM sessions WHERE revoked_at IS NULL");
    assert_eq!(alive.trim(), "1");
    here.find(victims.access).await.unwrap();
}

async fn after_the_grace_an_upgrade_is_not_repeated(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut config = service.config();
    config.session.refresh_grace = Duration::from_millis(1);
    let strict = service.node_with(config).await;
    let node = self::node(&service).await;
    let ada = service.cold.add_user("ada");
    let guest = guest(&node).await;
    node.upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    // The grace is counted in the database's time, which has moved on.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let again = strict.upgrade(&guest.session, Login::user(ada)).await;
    assert!(is_revoked(&again.unwrap_err()));
    assert!(strict.upgraded(&guest.access, ada).await.unwrap().is_none());
    // It is the grace alone that it fails by.
    node.upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
}

async fn what_has_ended_since_is_not_brought_back(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = self::node(&service).await;
    let ada = service.cold.add_user("ada");
    let guest = guest(&node).await;
    let first = node
        .upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    first.session.revoke().await.unwrap();
    let again = node.upgrade(&guest.session, Login::user(ada)).await;
    assert!(is_revoked(&again.unwrap_err()), "after a logout");
    assert!(node.upgraded(&guest.access, ada).await.unwrap().is_none());

    // A guest that was logged out, and not upgraded.
    let out = self::guest(&node).await;
    node.revoke(out.session.id()).await.unwrap();
    let again = node.upgrade(&out.session, Login::user(ada)).await;
    assert!(is_revoked(&again.unwrap_err()));
}

async fn a_session_that_plain_sql_brings_back_is_upgraded_again(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = self::node(&service).await;
    let ada = service.cold.add_user("ada");
    let guest = guest(&node).await;
    let first = node
        .upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    let back = "UPDATE sessions SET is_active = true, revoked_at = NULL WHERE id = ";
    service.cold.sql(&format!("{back}'{}'", guest.session.id()));
    let second = node
        .upgrade(&guest.session, Login::user(ada))
        .await
        .unwrap();
    assert_ne!(first.session.id(), second.session.id());
    assert_eq!(basket(&second).await, Basket::of("tea"));
}
