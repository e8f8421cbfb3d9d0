//! What a database lost is served by nobody, although Redis still holds it.

use std::sync::Arc;

use testbed::Cluster;
use tier_cache::cold::{ColdStore as _, Lineage, Mark, SqliteStore};
use tier_cache::{Login, Refusal, Tier};

use crate::support::{Basket, Cold, Service, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_that_was_cached_before_is_believed() {
    let service = Service::new(Cold::sqlite());
    let Cold::Sqlite(file) = &service.cold else {
        unreachable!()
    };
    let backup = file.path().with_extension("backup");
    let (here, there) = (service.node().await, service.node().await);
    let kept = here.login(Login::guest()).await.unwrap();
    file.sql(&format!("VACUUM INTO '{}'", backup.display()));

    // Lost: changes of a session, and whole sessions. Redis has them, numbered far ahead.
    let lost = here.login(Login::guest()).await.unwrap();
    let mut session = kept.session.clone();
    for _ in 0..9 {
        let change = |basket: &mut Basket| basket.count += 1;
        session = here.update(&session, change).await.unwrap();
    }
    let id = kept.session.id();
    let before = service.cold.version(id);
    file.sql(&format!(".restore '{}'", backup.display()));
    file.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    assert!(service.cold.version(id) < before);

    let later = service.node().await;
    for node in [&here, &there, &later] {
        eventually("the lost session is refused", async || {
            matches!(node.find(lost.access.clone()).await, Err(Refusal::Unknown))
        })
        .await;
        eventually("the revoked session is refused", async || {
            matches!(node.find(kept.access.clone()).await, Err(Refusal::Revoked))
        })
        .await;
    }
    // And life goes on, in all tiers.
    let issued = here.login(Login::guest()).await.unwrap();
    eventually("a new session is warm for the others", async || {
        let found = later.find(issued.access.clone()).await;
        found.is_ok_and(|session| session.tier() == Tier::Warm || session.tier() == Tier::Hot)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_that_lost_commits_nothing_that_was_cached_before_is_believed() {
    let cluster = Cluster::start();
    let service = Service::new(Cold::Postgres(cluster.database()));
    let Cold::Postgres(database) = &service.cold else {
        unreachable!()
    };
    let standby = cluster.standby();
    let host = |url: &str| {
        let (_, host) = url.split_once("host=").expect("a host");
        host.split('&').next().unwrap_or_default().to_owned()
    };
    let (first, second) = (host(&database.url()), host(&standby.url(database)));
    let mut config = service.config();
    config.cold.url = database
        .url()
        .replace(&first, &format!("{first}&host={second}"));
    config.fence.staleness_bound = std::time::Duration::from_secs(600);
    let node = async || service.node_with(config.clone()).await;

    let here = node().await;
    let kept = here.login(Login::guest()).await.unwrap();
    standby.caught_up();
    standby.kill();
    let lost = here.login(Login::guest()).await.unwrap();
    let mut session = kept.session.clone();
    for _ in 0..9 {
        let change = |basket: &mut Basket| basket.count += 1;
        session = here.update(&session, change).await.unwrap();
    }
    cluster.kill();
    standby.restart();
    standby.promote();
    // By its marks it has overtaken what was lost before anybody looks.
    for _ in 0..40 {
        standby.sql(database, "UPDATE session_history SET tombstones_since = 0");
    }
    let id = kept.session.id();
    let revoke = format!("UPDATE sessions SET is_active = false WHERE id = '{id}'");
    standby.sql(database, &revoke);

    let later = node().await;
    for node in [&here, &later] {
        eventually("the lost session is refused", async || {
            matches!(node.find(lost.access.clone()).await, Err(Refusal::Unknown))
        })
        .await;
        eventually("the revoked session is refused", async || {
            matches!(node.find(kept.access.clone()).await, Err(Refusal::Revoked))
        })
        .await;
    }
    let issued = here.login(Login::guest()).await.unwrap();
    eventually("a new session is warm for the others", async || {
        let found = later.find(issued.access.clone()).await;
        found.is_ok_and(|session| session.tier() != Tier::Cold)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_is_renewed_once_however_many_nodes_notice() {
    let service = Service::without_redis(Cold::sqlite());
    let store = Arc::new(SqliteStore::open(&service.config().cold).unwrap());
    store.migrate().await.unwrap();
    let lineage = async || store.changes(Mark::ZERO, 9).await.unwrap().lineage;
    let first = lineage().await;
    store.renew_lineage(first).await.unwrap();
    let second = lineage().await;
    assert_ne!(first, second);
    store.renew_lineage(first).await.unwrap();
    assert_eq!(lineage().await, second);
    assert_ne!(second, Lineage::ONLY);
}
