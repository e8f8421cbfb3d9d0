//! Redis is filled for all nodes.

use tier_cache::{Login, Tier};

use crate::support::{Service, contains, on_both, told};

on_both!(
    an_empty_redis_is_filled,
    the_named_ones_are_loaded,
    another_root_key_writes_over_nothing,
    without_redis_there_is_nothing_to_do,
);

async fn an_empty_redis_is_filled(service: Service) {
    let issued = {
        let node = service.node().await;
        let first = node.login(Login::guest()).await.unwrap();
        node.login(Login::guest()).await.unwrap();
        let over = node.login(Login::guest()).await.unwrap();
        node.revoke(over.session.id()).await.unwrap();
        first
    };
    service.redis.cli(&["FLUSHALL"]);
    let told = service.run(&["warm-up", "--most", "10"]);
    contains(told.done(), &["loaded 2 of 2 sessions into"]);
    assert_eq!(told.err, "0 of 2 sessions\n2 of 2 sessions\n");
    let node = service.node().await;
    let found = node.find(issued.access).await.unwrap();
    assert_eq!(found.tier(), Tier::Warm);
}

async fn the_named_ones_are_loaded(service: Service) {
    let node = service.node().await;
    let one = node.login(Login::guest()).await.unwrap().session.id();
    let over = node.login(Login::guest()).await.unwrap().session.id();
    node.revoke(over).await.unwrap();
    let (one, over) = (one.to_string(), over.to_string());
    let told = service.run(&["warm-up", "--per-second", "1000", &one, &over]);
    contains(
        told.done(),
        &["loaded 1 of 2", "the other 1 not being accepted"],
    );
    let told = service.run(&["warm-up", &one, "garbage"]);
    assert!(!told.failed(2).contains("garbage"));
    service.run(&["warm-up", "--per-second", "0"]).failed(2);
    service.run(&["warm-up", "--most", "2", &one]).failed(2);
}

async fn without_redis_there_is_nothing_to_do(service: Service) {
    service.node().await;
    let mut command = service.command(&["warm-up"]);
    let none = told(command.env_remove("SESSION_WARM__URL"), "");
    contains(none.failed(1), &["no warm tier", "--redis"]);
    service.redis.kill();
    contains(service.run(&["warm-up"]).failed(1), &["is not reached"]);
}

async fn another_root_key_writes_over_nothing(service: Service) {
    let node = service.node().await;
    let id = node
        .login(Login::guest())
        .await
        .unwrap()
        .session
        .id()
        .to_string();
    let others = "the root key of somebody else, long enough";
    for args in [&["warm-up"][..], &["warm-up", &id]] {
        let mut command = service.command(args);
        let told = told(command.env("SESSION_KEY", others), "");
        contains(told.failed(1), &["another root key"]);
    }
    assert_eq!(
        service.run(&["inspect", &id, "--json"]).json()["redis"][0]["found"],
        "record"
    );
}
