//! What a database lost is served by nobody, although Redis still holds it.

use std::sync::Arc;
use std::time::Duration;

use testbed::{Cluster, SqliteFile};
use tier_cache::cold::{ColdStore as _, Lineage, Mark, SqliteStore};
use tier_cache::{Issued, Login, Refusal, Strictness, Tier, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// What is about to be lost, numbered far ahead, and held by Redis: a session, and changes of one
/// that is kept.
struct Lost {
    kept: Issued<Basket>,
    lost: Issued<Basket>,
}

impl Lost {
    async fn on(node: &Tiers<Basket>, kept: Issued<Basket>) -> Self {
        let lost = node.login(Login::guest()).await.unwrap();
        let mut session = kept.session.clone();
        for _ in 0..9 {
            let change = |basket: &mut Basket| basket.count += 1;
            session = node.update(&session, change).await.unwrap();
        }
        Self { kept, lost }
    }

    fn revoke_kept(&self) -> String {
        let id = self.kept.session.id();
        format!("UPDATE sessions SET is_active = false WHERE id = '{id}'")
    }

    /// None of it is believed; and life goes on, in all tiers.
    async fn must_be_refused_by<const N: usize>(self, nodes: [&Tiers<Basket>; N]) {
        for node in nodes {
            eventually("the lost session is refused", async || {
                let found = node.find(self.lost.access.clone()).await;
                matches!(found, Err(Refusal::Unknown))
            })
            .await;
            eventually("the revoked session is refused", async || {
                let found = node.find(self.kept.access.clone()).await;
                matches!(found, Err(Refusal::Revoked))
            })
            .await;
        }
        let issued = nodes[0].login(Login::guest()).await.unwrap();
        eventually("a new session is warm for the others", async || {
            let found = nodes[N - 1].find(issued.access.clone()).await;
            found.is_ok_and(|session| session.tier() != Tier::Cold)
        })
        .await;
    }
}

/// A SQLite file that is to be put back to what it is now.
struct Backup<'a> {
    file: &'a SqliteFile,
    path: std::path::PathBuf,
}

impl<'a> Backup<'a> {
    fn of(service: &'a Service) -> Self {
        let Cold::Sqlite(file) = &service.cold else {
            unreachable!()
        };
        let path = file.path().with_extension("backup");
        file.sql(&format!("VACUUM INTO '{}'", path.display()));
        Self { file, path }
    }

    fn change(&self, sql: &str) {
        self.file
            .sql(&format!(".open '{}'\n{sql};", self.path.display()));
    }

    fn put_back(&self) {
        self.file
            .sql(&format!(".restore '{}'", self.path.display()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_that_was_cached_before_is_believed() {
    let service = Service::new(Cold::sqlite());
    let (here, there) = (service.node().await, service.node().await);
    let kept = here.login(Login::guest()).await.unwrap();
    let backup = Backup::of(&service);
    let lost = Lost::on(&here, kept).await;
    backup.put_back();
    service.cold.sql(&lost.revoke_kept());
    let later = service.node().await;
    lost.must_be_refused_by([&here, &there, &later]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_begin_a_new_lineage_believes_nothing_until_it_can() {
    let service = Service::new(Cold::sqlite());
    let here = service.node().await;
    let kept = here.login(Login::guest()).await.unwrap();
    let backup = Backup::of(&service);
    backup.change(
        "CREATE TRIGGER not_now BEFORE UPDATE OF lineage ON session_history \
         BEGIN SELECT RAISE(ABORT, 'not now'); END",
    );
    let lost = Lost::on(&here, kept).await;
    backup.put_back();
    eventually("it trusts nothing", async || !here.health().is_trusting()).await;
    service.cold.sql(&lost.revoke_kept());
    for _ in 0..20 {
        // For some polls.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!here.health().is_trusting());
        let found = here.find(lost.kept.access.clone()).await;
        assert!(matches!(found, Err(Refusal::Revoked)), "{found:?}");
    }
    service.cold.sql("DROP TRIGGER not_now");
    eventually("it trusts again", async || here.health().is_trusting()).await;
    let later = service.node().await;
    lost.must_be_refused_by([&here, &later]).await;
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
    config.fence.staleness_bound = Duration::from_secs(600);
    let node = async || service.node_with(config.clone()).await;

    let here = node().await;
    let kept = here.login(Login::guest()).await.unwrap();
    standby.caught_up();
    standby.kill();
    let lost = Lost::on(&here, kept).await;
    cluster.kill();
    standby.restart();
    standby.promote();
    // By its marks it has overtaken what was lost before anybody looks.
    for _ in 0..40 {
        standby.sql(database, "UPDATE session_history SET tombstones_since = 0");
    }
    standby.sql(database, &lost.revoke_kept());
    let later = node().await;
    lost.must_be_refused_by([&here, &later]).await;
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

/// A cached *no* is of the lost history too. What made it one, a refresh, is what was lost.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_a_token_that_is_good_again_is_not_remembered_as_replaced() {
    let service = Service::without_redis(Cold::sqlite());
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    service
        .cold
        .sql("CREATE TABLE backup AS SELECT * FROM sessions");
    node.refresh(&issued.refresh).await.unwrap();
    let refused = node.find(issued.access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Replaced), "{refused}");
    service.cold.sql(
        "UPDATE sessions SET access_jti = backup.access_jti, \
            refresh_token_hash = backup.refresh_token_hash FROM backup; \
         UPDATE session_history SET lineage = random()",
    );
    // Many polls later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(node.health().is_trusting());
    let found = node.find(issued.access.clone()).await;
    let row = node.find_strict(issued.access, Strictness::Row).await;
    assert!(row.is_ok() && found.is_ok(), "{found:?}, and {row:?}");
}
