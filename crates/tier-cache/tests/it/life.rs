use std::time::Duration;

use session_core::{Device, ForeignToken, Key, TokenKind};
use tier_cache::{Error, Login, Refusal, Tier};

use crate::support::{Basket, Cold, Service, eventually, on_both, username};

on_both!(
    a_login_is_hot_here_and_warm_on_the_other_nodes,
    without_redis_the_other_nodes_ask_the_database,
    a_body_is_fetched_when_it_is_asked_for_and_is_hot_afterwards,
    a_full_warm_tier_brings_the_body_along,
    a_revoked_session_is_refused_by_every_node,
    concurrent_updates_lose_nothing,
    data_that_does_not_read_is_an_error_and_no_logout,
    data_that_is_too_large_is_refused_with_its_size,
    foreign_keys_find_the_session,
    a_provider_that_knows_a_jti_of_another_gets_nothing,
    a_foreign_key_of_a_session_that_is_gone_can_be_adopted_again,
    a_session_of_an_unknown_user_is_refused,
    an_expired_session_is_refused_and_its_refusal_is_hot,
    a_guest_has_no_user,
    what_a_client_says_of_its_device_is_bounded,
);

async fn a_login_is_hot_here_and_warm_on_the_other_nodes(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let ada = service.cold.add_user("ada");
    let issued = here.login(Login::user(ada)).await.unwrap();

    let found = here.find(issued.access.clone()).await.unwrap();
    assert_eq!((found.tier(), username(&found)), (Tier::Hot, "ada"));
    let found = there.find(issued.access.clone()).await.unwrap();
    assert_eq!((found.tier(), username(&found)), (Tier::Warm, "ada"));
    let found = there.find(issued.access).await.unwrap();
    assert_eq!((found.tier(), username(&found)), (Tier::Hot, "ada"));
}

async fn without_redis_the_other_nodes_ask_the_database(cold: Cold) {
    let service = Service::without_redis(cold);
    let (here, there) = (service.node().await, service.node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    assert_eq!(here.health().warm, tier_cache::TierState::Off);
    let tier = async || there.find(issued.access.clone()).await.unwrap().tier();
    assert_eq!(tier().await, Tier::Cold);
    assert_eq!(tier().await, Tier::Hot);
}

async fn a_body_is_fetched_when_it_is_asked_for_and_is_hot_afterwards(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let device = Device {
        ip: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some("a browser".into()),
        label: Some("ada's phone".into()),
    };
    let login = Login::guest()
        .data(Basket::of("tea"))
        .device(device.clone());
    let issued = here.login(login).await.unwrap();

    let found = there.find(issued.access.clone()).await.unwrap();
    assert_eq!(found.tier(), Tier::Warm);
    assert!(found.body_if_here().is_none());
    let body = found.body().await.unwrap();
    assert_eq!(body.data().unwrap(), &Basket::of("tea"));
    assert_eq!(body.device(), &device);

    let found = there.find(issued.access).await.unwrap();
    assert_eq!(found.tier(), Tier::Hot);
    assert!(found.body_if_here().is_some());
}

async fn a_full_warm_tier_brings_the_body_along(cold: Cold) {
    let service = Service::new(cold);
    let mut config = service.config();
    config.warm.holds = tier_cache::Holds::Full;
    let (here, there) = (
        service.node_with(config.clone()).await,
        service.node_with(config).await,
    );
    let login = Login::guest().data(Basket::of("tea"));
    let issued = here.login(login).await.unwrap();
    let found = there.find(issued.access).await.unwrap();
    assert_eq!(found.tier(), Tier::Warm);
    let body = found.body_if_here().expect("it came with the head");
    assert_eq!(body.data().unwrap(), &Basket::of("tea"));
}

async fn a_revoked_session_is_refused_by_every_node(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    there.find(issued.access.clone()).await.unwrap();

    let receipt = here.revoke(issued.session.id()).await.unwrap();
    assert!(receipt.effective_within() <= Duration::from_secs(60));
    let refused = here.find(issued.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Revoked), "{refused}");
    eventually("the other node refuses it", async || {
        there.find(issued.access.clone()).await.is_err()
    })
    .await;
    // A second time is no error.
    here.revoke(issued.session.id()).await.unwrap();
}

async fn concurrent_updates_lose_nothing(cold: Cold) {
    const WRITERS: u64 = 100;
    let service = Service::new(cold);
    let nodes = [service.node().await, service.node().await];
    let issued = nodes[0].login(Login::guest()).await.unwrap();

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let node = nodes[(writer % 2) as usize].clone();
        let access = issued.access.clone();
        writers.spawn(async move {
            let session = node.find(access).await.unwrap();
            session.update(|basket| basket.count += 1).await.unwrap();
        });
    }
    writers.join_all().await;
    let found = nodes[0]
        .find_strict(issued.access, tier_cache::Strictness::Row)
        .await
        .unwrap();
    assert_eq!(found.body().await.unwrap().data().unwrap().count, WRITERS);
}

async fn data_that_does_not_read_is_an_error_and_no_logout(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let issued = node
        .login(Login::guest().data(Basket::of("tea")))
        .await
        .unwrap();
    let id = issued.session.id();
    service.cold.sql(&format!(
        "UPDATE sessions SET data = '{{\"count\": \"s3cret\"}}' WHERE id = '{id}'"
    ));
    eventually("the node knows of the change", async || {
        node.find(issued.access.clone())
            .await
            .unwrap()
            .version()
            .get()
            > 1
    })
    .await;
    let found = node.find(issued.access).await.expect("still logged in");
    let error = found.body().await.unwrap().data().unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let error = found.update(|basket| basket.count = 0).await.unwrap_err();
    assert!(matches!(error, Error::Data(_)), "{error}");
}

async fn data_that_is_too_large_is_refused_with_its_size(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut config = service.config();
    config.session.max_data = tier_cache::ByteSize::b(100);
    let node = service.node_with(config).await;
    let large = Basket::of(&"x".repeat(100));
    let error = node
        .login(Login::guest().data(large.clone()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::DataTooLarge {
                size: 124,
                allowed: 100
            }
        ),
        "{error:?}"
    );
    let issued = node.login(Login::guest()).await.unwrap();
    let error = issued
        .session
        .update(|data| *data = large.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DataTooLarge { .. }), "{error}");
}

async fn foreign_keys_find_the_session(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let session = here
        .adopt(
            Login::guest(),
            Some(crate::support::foreign("jti-1")),
            Some(crate::support::foreign("refresh-1")),
        )
        .await
        .unwrap();
    let keys = service.keys();
    let jti =
        Key::AccessJti(keys.hash_foreign(TokenKind::Access, &crate::support::foreign("jti-1")));
    let refresh =
        Key::Refresh(keys.hash_foreign(TokenKind::Refresh, &crate::support::foreign("refresh-1")));
    for node in [&here, &there] {
        for key in [jti, refresh, Key::Id(session.id())] {
            assert_eq!(node.find(key).await.unwrap().id(), session.id());
        }
    }
    let other =
        Key::AccessJti(keys.hash_foreign(TokenKind::Access, &crate::support::foreign("jti-2")));
    let refused = here.find(other).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unknown), "{refused}");
    // The same key for another session is a clear error.
    let taken = here
        .adopt(Login::guest(), Some(crate::support::foreign("jti-1")), None)
        .await
        .unwrap_err();
    assert!(
        matches!(&taken, Error::Store(error) if !error.transient),
        "{taken}"
    );

    here.revoke(session.id()).await.unwrap();
    eventually("no key finds it any more", async || {
        there.find(jti).await.is_err() && there.find(refresh).await.is_err()
    })
    .await;
}

async fn a_foreign_key_of_a_session_that_is_gone_can_be_adopted_again(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let old = here
        .adopt(Login::guest(), Some(crate::support::foreign("jti")), None)
        .await
        .unwrap();
    here.revoke(old.id()).await.unwrap();
    let id = old.id();
    service
        .cold
        .sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    let new = here
        .adopt(Login::guest(), Some(crate::support::foreign("jti")), None)
        .await
        .unwrap();
    let jti = service
        .keys()
        .hash_foreign(TokenKind::Access, &crate::support::foreign("jti"));
    // Redis holds the trace of the old one under the key.
    let found = there.find(Key::AccessJti(jti)).await.unwrap();
    assert_eq!(found.id(), new.id());
}

/// A `jti` is unique for its issuer alone.
async fn a_provider_that_knows_a_jti_of_another_gets_nothing(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let (one, other) = ("https://one.example", "https://other.example");
    let token = |issuer, subject: Option<&'static str>| {
        let token = ForeignToken::new(issuer, "jti").unwrap();
        subject.map_or(token, |subject| token.subject(subject))
    };
    let names = [
        token(one, None),
        token(other, None),
        token(one, Some("ada")),
        token(one, Some("bob")),
    ];
    let keys = service.keys();
    let key = |token| Key::AccessJti(keys.hash_foreign(TokenKind::Access, token));
    let refresh = |token| Key::Refresh(keys.hash_foreign(TokenKind::Refresh, token));
    let mut ids = Vec::new();
    for (at, name) in names.iter().enumerate() {
        // Those that come later are not found by what is known so far.
        for later in &names[at..] {
            for node in [&here, &there] {
                assert!(node.find(key(later)).await.is_err(), "{later:?}");
                assert!(node.find(refresh(later)).await.is_err(), "{later:?}");
            }
        }
        let adopted = here.adopt(Login::guest(), Some(*name), Some(*name)).await;
        ids.push(adopted.unwrap().id());
    }
    for (name, id) in names.iter().zip(ids) {
        for node in [&here, &there, &service.node().await] {
            assert_eq!(node.find(key(name)).await.unwrap().id(), id, "{name:?}");
            assert_eq!(node.find(refresh(name)).await.unwrap().id(), id, "{name:?}");
        }
    }
}

async fn a_session_of_an_unknown_user_is_refused(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let error = node.login(Login::user(4711)).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoSuchUser { user } if *user == 4711.into()),
        "{error}"
    );
}

async fn an_expired_session_is_refused_and_its_refusal_is_hot(cold: Cold) {
    let service = Service::new(cold);
    let clock = tier_cache::Clock::manual();
    let node: tier_cache::Tiers<Basket> =
        tier_cache::Tiers::builder(service.quiet(), service.keys())
            .clock(clock.clone())
            .start()
            .await
            .unwrap();
    let login = Login::guest().ttl(Duration::from_secs(10));
    let issued = node.login(login).await.unwrap();
    node.find(issued.access.clone()).await.unwrap();
    clock.advance(Duration::from_secs(11));
    let refused = node.find(issued.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Expired), "{refused}");
    let again = node
        .try_hot(&issued.access.into())
        .expect("no I/O is needed");
    assert!(matches!(again, Err(Refusal::Expired)), "{again:?}");
}

async fn what_a_client_says_of_its_device_is_bounded(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let device = Device {
        ip: None,
        user_agent: Some("☃".repeat(10_000).into()),
        label: Some("a\0b".into()),
    };
    let login = Login::guest().device(device).data(Basket::of("tea"));
    let issued = node.login(login).await.unwrap();
    let body = issued.session.body().await.unwrap();
    assert_eq!(body.device().user_agent.as_deref(), Some(&*"☃".repeat(170)));
    assert_eq!(body.device().label.as_deref(), Some("ab"));
    let error = issued
        .session
        .update(|basket| basket.items.push("\0".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unwritable(_)), "{error}");
}

async fn a_guest_has_no_user(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    assert!(node.find(issued.access).await.unwrap().user().is_none());
}
