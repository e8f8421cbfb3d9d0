//! What the database and Redis hold is counted.

use tier_cache::Login;

use crate::support::{Service, contains, on_both};

on_both!(what_there_is_is_counted);

async fn what_there_is_is_counted(service: Service) {
    let node = service.node().await;
    let ada = service.add_user("ada");
    node.login(Login::user(ada)).await.unwrap();
    node.login(Login::guest()).await.unwrap();
    let over = node.login(Login::guest()).await.unwrap();
    node.revoke(over.session.id()).await.unwrap();
    let json = service.run(&["stats", "--json"]).json();
    let (database, redis) = (&json["database"], &json["redis"]);
    assert_eq!(
        [
            &database["live"],
            &database["guests"],
            &database["users"],
            &database["revoked"]
        ],
        [2, 1, 1, 1]
    );
    assert_eq!(redis["records"], 3);
    assert_eq!(redis["listeners"], 1);
    assert_eq!(json["health"]["redis"], "up");
    let told = service.run(&["stats"]);
    contains(
        told.done(),
        &["database", "lineage", "records", "memory", "up"],
    );

    service.redis.kill();
    let told = service.run(&["stats"]);
    contains(told.done(), &["live           2", "down"]);
    assert!(service.run(&["stats", "--json"]).json()["redis"].is_null());
}
