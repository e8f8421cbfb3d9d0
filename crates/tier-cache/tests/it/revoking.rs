//! Revoking many: others, all of a user, all before an instant, all there are; and what is listed.

use session_core::{Device, UserId};
use tier_cache::{Error, Issued, Login, Refusal, Scope, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    v7_4_3_all_other_sessions_of_a_user_end,
    v7_4_5_all_sessions_of_a_user_or_of_all_users_end,
    sessions_that_began_before_an_instant_end,
    a_user_ends_no_session_of_another,
    a_user_names_no_device_of_another,
    v7_5_2_a_user_sees_the_devices_that_are_logged_in_and_names_one,
    a_thousand_sessions_end_on_every_node,
);

async fn login(node: &Tiers<Basket>, user: i64, device: &str) -> Issued<Basket> {
    let device = Device {
        ip: Some("203.0.113.7".parse().unwrap()),
        user_agent: None,
        label: Some(device.into()),
    };
    node.login(Login::user(user).device(device)).await.unwrap()
}

async fn lives(node: &Tiers<Basket>, issued: &Issued<Basket>) -> bool {
    node.find(issued.access.clone()).await.is_ok()
}

async fn end(nodes: [&Tiers<Basket>; 2], over: &[&Issued<Basket>]) {
    for node in nodes {
        for issued in over {
            eventually("it is refused", async || !lives(node, issued).await).await;
        }
    }
}

async fn v7_4_3_all_other_sessions_of_a_user_end(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let this = login(&here, ada, "phone").await;
    let others = [
        login(&here, ada, "laptop").await,
        login(&there, ada, "tv").await,
    ];
    let bobs = login(&here, bob, "phone").await;
    for issued in &others {
        assert!(lives(&here, issued).await && lives(&there, issued).await);
    }

    let receipt = this.session.revoke_others().await.unwrap();
    assert_eq!(receipt.revoked(), 2);
    // Here at once, hot or not.
    for issued in &others {
        assert!(!lives(&here, issued).await);
    }
    end([&here, &there], &[&others[0], &others[1]]).await;
    for node in [&here, &there] {
        assert!(lives(node, &this).await && lives(node, &bobs).await);
    }
    let guest = here.login(Login::guest()).await.unwrap();
    assert_eq!(guest.session.revoke_others().await.unwrap().revoked(), 0);
}

async fn v7_4_5_all_sessions_of_a_user_or_of_all_users_end(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let (adas, bobs) = (login(&here, ada, "a").await, login(&there, bob, "b").await);
    let guests = here.login(Login::guest()).await.unwrap();
    here.revoke_all(Scope::user(ada)).await.unwrap();
    end([&here, &there], &[&adas]).await;
    assert!(lives(&here, &bobs).await && lives(&there, &guests).await);
    let receipt = there.revoke_all(Scope::everyone()).await.unwrap();
    assert_eq!(receipt.revoked(), 2);
    end([&here, &there], &[&bobs, &guests]).await;
    // And a new one begins as ever.
    assert!(lives(&there, &login(&here, ada, "a").await).await);
}

async fn sessions_that_began_before_an_instant_end(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let ada = service.cold.add_user("ada");
    let early = login(&node, ada, "early").await;
    let created = early.session.body().await.unwrap().created_at;
    let instant = created + std::time::Duration::from_millis(1);
    while node.now().wall < instant {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let late = login(&node, ada, "late").await;
    // Under another name it is as old as before.
    let early = node.rotate(&early.session).await.unwrap();
    let scope = Scope::everyone().begun_before(instant);
    assert_eq!(node.revoke_all(scope).await.unwrap().revoked(), 1);
    assert!(!lives(&node, &early).await && lives(&node, &late).await);
}

async fn a_user_ends_no_session_of_another(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let (adas, bobs) = (login(&node, ada, "a").await, login(&node, bob, "b").await);
    let bobs_by_ada = Scope::user(ada).only(bobs.session.id());
    assert_eq!(node.revoke_all(bobs_by_ada).await.unwrap().revoked(), 0);
    assert!(lives(&node, &bobs).await);
    let adas_by_ada = Scope::user(ada).only(adas.session.id());
    assert_eq!(node.revoke_all(adas_by_ada).await.unwrap().revoked(), 1);
    assert!(!lives(&node, &adas).await);
}

async fn a_user_names_no_device_of_another(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let (phone, laptop) = (login(&node, ada, "a").await, login(&node, ada, "b").await);
    let bobs = login(&node, bob, "c").await;
    let guests = [
        node.login(Login::guest()).await.unwrap(),
        node.login(Login::guest()).await.unwrap(),
    ];
    let names = async |who: &Issued<Basket>, whose: &Issued<Basket>| match who
        .session
        .name_device(whose.session.id(), "mine")
        .await
    {
        Ok(named) => named.body().await.unwrap().device().label.as_deref() == Some("mine"),
        Err(Error::Refused(Refusal::Unknown)) => false,
        Err(error) => panic!("{error}"),
    };
    assert!(names(&phone, &laptop).await && names(&phone, &phone).await);
    assert!(!names(&phone, &bobs).await && !names(&bobs, &laptop).await);
    assert!(names(&guests[0], &guests[0]).await);
    assert!(!names(&guests[0], &guests[1]).await && !names(&phone, &guests[0]).await);
    assert!(!names(&guests[0], &bobs).await);
}

async fn v7_5_2_a_user_sees_the_devices_that_are_logged_in_and_names_one(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    let phone = login(&node, ada, "phone").await;
    let laptop = login(&node, ada, "laptop").await;
    let gone = login(&node, ada, "gone").await;
    login(&node, bob, "bob's").await;
    gone.session.revoke().await.unwrap();
    let named = node.name_device(laptop.session.id(), "work").await.unwrap();
    assert_eq!(
        named.body().await.unwrap().device().label.as_deref(),
        Some("work")
    );

    let mut listed = phone.session.siblings().await.unwrap();
    listed.sort_by_key(|session| session.device.label.clone());
    let shown: Vec<_> = listed
        .iter()
        .map(|session| (session.device.label.as_deref().unwrap(), session.current))
        .collect();
    assert_eq!(shown, [("phone", true), ("work", false)]);
    assert!(listed.iter().all(|session| session.device.ip.is_some()));
    let json = serde_json::to_value(&listed).unwrap();
    assert_eq!(json[0]["id"], phone.session.id().to_string());
    assert!(json[0]["last_seen_at"].is_string());
    let unmarked = node.list(UserId::Int(ada)).await.unwrap();
    assert!(unmarked.iter().all(|session| !session.current));
}

async fn a_thousand_sessions_end_on_every_node(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let ada = service.cold.add_user("ada");
    let mut sessions = Vec::new();
    for _ in 0..1100 {
        sessions.push(here.login(Login::user(ada)).await.unwrap());
    }
    let last = sessions.last().unwrap();
    assert!(lives(&there, last).await);
    let receipt = here.revoke_all(Scope::user(ada)).await.unwrap();
    assert_eq!(receipt.revoked(), 1100);
    for issued in sessions.iter().step_by(50).chain([last]) {
        assert!(!lives(&here, issued).await);
    }
    end([&here, &there], &[last]).await;
}
