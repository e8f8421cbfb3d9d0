//! A user's sessions are listed.

use session_core::Device;
use tier_cache::Login;

use crate::support::{Service, contains, on_both};

on_both!(those_that_are_accepted_are_listed);

async fn those_that_are_accepted_are_listed(service: Service) {
    let node = service.node().await;
    let ada = service.add_user("ada");
    let user = ada.to_string();
    contains(service.run(&["list", &user]).done(), &["no session"]);
    let device = Device {
        label: Some("phone".into()),
        ip: Some([192, 0, 2, 7].into()),
        user_agent: Some("Browser/1".into()),
    };
    let phone = node.login(Login::user(ada).device(device)).await.unwrap();
    let other = node.login(Login::user(ada)).await.unwrap();
    let over = node.login(Login::user(ada)).await.unwrap();
    node.revoke(over.session.id()).await.unwrap();
    let told = service.run(&["list", &user]);
    assert_eq!(told.done().lines().count(), 3);
    contains(
        &told.out,
        &[
            "SESSION",
            "“phone” 192.0.2.7 Browser/1",
            &phone.session.id().to_string(),
            &other.session.id().to_string(),
        ],
    );
    let json = service.run(&["list", &user, "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 2);
    service.run(&["list", "ada"]).failed(2);
    // It needs no key, and no Redis.
    service.redis.kill();
    let mut command = service.command(&["list", &user]);
    crate::support::told(command.env_remove("SESSION_KEY"), "").done();
}
