//! Sessions that go on under another name: after a login, a change of privileges, a step-up.

use std::time::Duration;

use session_core::Device;
use tier_cache::{Clock, Error, Issued, Login, Refusal, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both, username};

on_both!(
    v7_2_4_a_guest_who_logs_in_has_a_new_name_new_tokens_and_the_old_basket,
    v7_2_4_a_rotated_session_is_the_same_under_another_name,
    v7_2_4_who_proves_again_who_they_are_is_trusted_anew,
    a_change_that_comes_between_is_not_lost,
    a_session_that_is_over_is_put_in_no_other_place,
);

async fn is_dead_everywhere(old: Issued<Basket>, nodes: [&Tiers<Basket>; 2]) {
    for node in nodes {
        eventually("the old session is refused", async || {
            let found = node.find(old.access.clone()).await;
            matches!(found, Err(Refusal::Revoked))
        })
        .await;
    }
    assert!(nodes[0].refresh(&old.refresh).await.is_err());
}

async fn v7_2_4_a_guest_who_logs_in_has_a_new_name_new_tokens_and_the_old_basket(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let ada = service.cold.add_user("ada");
    let device = Device {
        user_agent: Some("a browser".into()),
        ..Device::default()
    };
    let guest = Login::guest()
        .data(Basket::of("tea"))
        .device(device.clone());
    let guest = here.login(guest).await.unwrap();
    there.find(guest.access.clone()).await.unwrap();

    let issued = here
        .upgrade(&guest.session, Login::user(ada).assurance(1))
        .await
        .unwrap();
    assert_ne!(issued.session.id(), guest.session.id());
    let found = there.find(issued.access).await.unwrap();
    assert_eq!((username(&found), found.assurance()), ("ada", 1));
    let body = found.body().await.unwrap();
    assert_eq!(body.data().unwrap(), &Basket::of("tea"));
    assert_eq!(body.device(), &device);
    is_dead_everywhere(guest, [&here, &there]).await;
}

async fn v7_2_4_a_rotated_session_is_the_same_under_another_name(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let ada = service.cold.add_user("ada");
    let login = Login::user(ada).data(Basket::of("tea")).assurance(2);
    let old = here.login(login).await.unwrap();
    there.find(old.access.clone()).await.unwrap();

    let new = there.rotate(&old.session).await.unwrap();
    let (was, is) = (old.session.head(), new.session.head());
    assert_ne!(was.id, is.id);
    assert_eq!(
        (
            &was.user,
            was.expires_at,
            was.authenticated_at,
            was.assurance
        ),
        (&is.user, is.expires_at, is.authenticated_at, is.assurance)
    );
    let body = here.find(new.access).await.unwrap().body().await.unwrap();
    assert_eq!(body.data().unwrap(), &Basket::of("tea"));
    is_dead_everywhere(old, [&here, &there]).await;
}

async fn v7_2_4_who_proves_again_who_they_are_is_trusted_anew(cold: Cold) {
    let service = Service::without_redis(cold);
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(service.quiet(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let ada = service.cold.add_user("ada");
    let old = node.login(Login::user(ada).assurance(1)).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    let new = node.reauthenticate(&old.session, 2).await.unwrap();
    assert_eq!(new.session.assurance(), 2);
    assert_eq!(new.session.authenticated_at(), clock.now().wall);
    assert_eq!(
        new.session.expires_at(),
        old.session.expires_at() + Duration::from_secs(3600)
    );
    assert!(node.find(old.access).await.is_err());
}

async fn a_change_that_comes_between_is_not_lost(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let old = node.login(Login::guest()).await.unwrap();
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let session = old.session.clone();
        work.spawn(async move { session.update(|basket| basket.count += 1).await.is_ok() });
    }
    let rotated = {
        let (node, session) = (node.clone(), old.session.clone());
        tokio::spawn(async move { node.rotate(&session).await })
    };
    let made = work
        .join_all()
        .await
        .into_iter()
        .filter(|made| *made)
        .count();
    let new = rotated.await.unwrap().unwrap();
    // What was changed before is in the session that goes on, and nothing went to the old one after. Each
    // change, and the end of the old one, gave it a version.
    let changes = service.cold.version(old.session.id()) as u64 - 2;
    let body = new.session.body().await.unwrap();
    assert_eq!(body.data().unwrap().count, changes);
    // One that came just before is made although it is refused: it reads the session back when that is over.
    assert!(
        made as u64 <= changes,
        "{made} were said to be made, of {changes}"
    );
}

async fn a_session_that_is_over_is_put_in_no_other_place(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let old = node.login(Login::guest()).await.unwrap();
    node.revoke(old.session.id()).await.unwrap();
    for again in [
        node.rotate(&old.session).await,
        node.reauthenticate(&old.session, 1).await,
        node.upgrade(&old.session, Login::guest()).await,
    ] {
        let error = again.unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Revoked)), "{error}");
    }
    assert_eq!(
        service.cold.sql("SELECT count(*) FROM sessions").trim(),
        "1"
    );
}
