//! The commands of `docs/backups.md`, as they stand there, under running nodes that cache what is lost.

use std::time::Duration;

use session_core::Token;
use tier_cache::{Login, Refusal, Tier};

use crate::support::{Node, Service};

const PAGE: &str = include_str!("../../../../docs/backups.md");

/// The script after `<!-- run: NAME -->`.
fn script(name: &str) -> &'static str {
    let (_, after) = PAGE
        .split_once(&format!("<!-- run: {name} -->\n```sh\n"))
        .unwrap_or_else(|| panic!("the page has no script {name}"));
    let (script, _) = after.split_once("```").expect("the script ends");
    script
}

/// Every script of the page is run below.
#[test]
fn the_page_has_no_other_scripts() {
    const RUN: [&str; 6] = [
        "pg_restore_clean",
        "pg_restore_data",
        "sqlite_restore",
        "sqlite_move",
        "sqlite_stopped",
        "invalidate_caches",
    ];
    assert_eq!(PAGE.matches("<!-- run: ").count(), RUN.len());
    assert_eq!(PAGE.matches("```sh").count(), RUN.len());
    for name in RUN {
        assert!(!script(name).is_empty());
    }
}

/// Whether nodes run while the backup is put back.
#[derive(Clone, Copy, PartialEq)]
enum Nodes {
    Running,
    Stopped,
}

async fn put_back(service: Service, name: &str, nodes: Nodes) {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let (mut here, mut there) = (service.polling_node().await, service.polling_node().await);
    let (valid, revoked) = (login(&here, &there).await, login(&here, &there).await);
    service.back_up(&backup);
    let lost = login(&here, &there).await;
    let session = here.find(revoked.clone()).await.unwrap();
    let id = session.id();
    // Its version is far above that of the backup.
    let mut renamed = session;
    for n in 0..9 {
        renamed = here.name_device(id, &format!("device {n}")).await.unwrap();
    }
    drop(renamed);
    there.find(revoked.clone()).await.unwrap();

    if nodes == Nodes::Stopped {
        for node in [here, there] {
            assert!(node.shutdown(Duration::from_secs(60)).await);
        }
        service.script(script(name), &backup);
        (here, there) = (service.polling_node().await, service.polling_node().await);
    } else {
        service.script(script(name), &backup);
        // By a node, since another program may meet what SQLite left of the old file.
        must(&here, &lost, |found| matches!(found, Err(Refusal::Unknown))).await;
    }
    service.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    let later = service.polling_node().await;
    for node in [&here, &there, &later] {
        must(node, &lost, |found| matches!(found, Err(Refusal::Unknown))).await;
        must(node, &revoked, |found| {
            matches!(found, Err(Refusal::Revoked))
        })
        .await;
        must(node, &valid, |found| matches!(found, Ok(Tier::Hot))).await;
    }
}

/// A session that both nodes have hot.
async fn login(here: &Node, there: &Node) -> Token {
    let access = here.login(Login::guest()).await.unwrap().access;
    there.find(access.clone()).await.unwrap();
    access
}

async fn must(node: &Node, access: &Token, hold: impl Fn(&Result<Tier, Refusal>) -> bool) {
    for _ in 0..6000 {
        let found = node.find(access.clone()).await;
        if hold(&found.map(|session| session.tier())) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_over_the_tables() {
    put_back(Service::on_postgres(), "pg_restore_clean", Nodes::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_dump_are_restored() {
    put_back(Service::on_postgres(), "pg_restore_data", Nodes::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_into_the_file() {
    put_back(Service::on_sqlite(), "sqlite_restore", Nodes::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_moved_to_the_place_of_the_file() {
    put_back(Service::on_sqlite(), "sqlite_move", Nodes::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_copied_while_the_service_is_stopped() {
    put_back(Service::on_sqlite(), "sqlite_stopped", Nodes::Stopped).await;
}

/// What it does is shown in `invalidate_caches.rs`; here it is run as the page has it.
#[tokio::test(flavor = "multi_thread")]
async fn caches_are_invalidated() {
    let service = Service::on_postgres();
    let node = service.polling_node().await;
    let lineage = || service.sql("SELECT lineage FROM session_history");
    let before = lineage();
    service.script(script("invalidate_caches"), "".as_ref());
    assert_ne!(lineage(), before);
    drop(node);
}
