//! Rows of a SQLite backup that are put back by SQL: they bring the numbers of an earlier time along.

use tier_cache::{Login, Refusal};

use super::{World, must_refuse, must_serve};
use crate::support::{Cold, Service};

/// As `sqldiff database backup | sqlite3 database` does it, which writes only what differs, table by table.
/// `history` puts the row that names the lineage back, from the database `b`.
async fn rows_are_put_back(history: &str) {
    let world = World::on(Cold::sqlite()).await;
    let Cold::Sqlite(file) = &world.service.cold else {
        unreachable!()
    };
    let backup = file.path().with_extension("backup");
    let kept = world.kept().await;
    world.sql(&format!("VACUUM INTO '{}'", backup.display()));
    let begun = world.login().await;
    // What nodes have heard of is numbered far beyond what the changes below are.
    let id = kept.revoked.id;
    world.sql(
        &format!("UPDATE sessions SET label = coalesce(label, '') || 'x' WHERE id = '{id}'; ")
            .repeat(20),
    );
    world.here.revoke(kept.revoked.id).await.unwrap();
    for node in [&world.here, &world.there] {
        must_refuse(node, &kept.revoked, &Refusal::Revoked).await;
    }
    // By its marks it has overtaken what was lost before anybody looks.
    let overtake = "UPDATE main.sessions SET label = label || 'x'; ".repeat(20);
    world.sql(&format!(
        "ATTACH '{}' AS b; BEGIN IMMEDIATE; {history}; \
         DELETE FROM main.sessions WHERE id NOT IN (SELECT id FROM b.sessions); \
         UPDATE main.sessions SET is_active = 1, revoked_at = NULL, version = 1, label = '', \
            changed_at_mark = (SELECT changed_at_mark FROM b.sessions AS former WHERE former.id = main.sessions.id) \
            WHERE id IN (SELECT id FROM b.sessions); {overtake} COMMIT",
        backup.display()
    ));
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &begun, &Refusal::Unknown).await;
        must_serve(node, &kept.revoked).await;
        must_serve(node, &kept.valid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_differences_to_a_backup_are_written() {
    rows_are_put_back(
        "UPDATE main.session_history SET mark = (SELECT mark FROM b.session_history)",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_by_those_of_an_attached_backup() {
    rows_are_put_back(
        "INSERT OR REPLACE INTO main.session_history SELECT * FROM b.session_history",
    )
    .await;
}

/// Without it no node would know whose marks it sees.
#[tokio::test(flavor = "multi_thread")]
async fn the_row_that_names_the_lineage_cannot_be_deleted() {
    let service = Service::without_redis(Cold::sqlite());
    let node = service.node().await;
    node.login(Login::guest()).await.unwrap();
    let Cold::Sqlite(file) = &service.cold else {
        unreachable!()
    };
    let before = file.sql("SELECT * FROM session_history");
    let refused = file.try_sql("BEGIN; DELETE FROM sessions; DELETE FROM session_history; COMMIT");
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("leave it"), "{refused}");
    assert_eq!(file.sql("SELECT * FROM session_history"), before);
}
