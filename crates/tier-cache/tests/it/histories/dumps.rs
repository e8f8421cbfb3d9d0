//! Dumps that are restored into the tables of running nodes, each in the words of an operator.

use testbed::Database;
use tier_cache::{Login, Refusal};

use super::World;
use crate::support::{Cold, Service, eventually};

/// A backup of a database, in a file.
struct Dump<'a> {
    database: &'a Database,
    file: tempfile::NamedTempFile,
}

impl<'a> Dump<'a> {
    fn of(world: &'a World, args: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let database = world.database();
        database.run(
            "pg_dump",
            &[&["--format=custom", "--file", path], args].concat(),
        );
        Self { database, file }
    }

    fn restore(&self, args: &[&str]) {
        let path = self.file.path().to_str().unwrap();
        self.database.run("pg_restore", &[args, &[path]].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_over_the_tables_by_pg_restore_clean() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    dump.restore(&["--clean", "--if-exists"]);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_in_one_transaction() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    dump.restore(&["--clean", "--if-exists", "--single-transaction"]);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_after_the_schema_was_dropped() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = world.database().run("pg_dump", &[]);
    let lost = world.lose(kept).await;
    // With a dump of its own the schema is no part of it.
    world.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    world.sql(&dump);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// Our own triggers see what comes in.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_data_alone_is_restored_into_emptied_tables() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    world.sql("TRUNCATE users, sessions, session_users, session_tombstones, session_history");
    dump.restore(&DATA_OF_SESSIONS);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// The tables that name the lineage stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_two_tables_is_restored_into_them_alone() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    // Its row in the dump is not deleted at the time of the dump.
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    world.sql(&format!(
        "DELETE FROM sessions WHERE id = '{}'",
        lost.kept.valid.id
    ));
    world.sql("TRUNCATE users, sessions CASCADE");
    dump.restore(&["--data-only", "--table=users", "--table=sessions"]);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// Our triggers see nothing of it, and are plain ones afterwards, which replication does not fire.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_data_alone_is_restored_with_triggers_switched_off() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    world.sql("TRUNCATE users, sessions, session_users, session_tombstones");
    // A row that names the lineage is there again as soon as a node looks.
    let (_, but_history) = DATA_OF_SESSIONS.split_last().unwrap();
    dump.restore(&[but_history, &["--disable-triggers"]].concat());
    world.sql(&format!(
        "SET session_replication_role = replica; {}",
        lost.revoke()
    ));
    world.goes_on(lost).await;
}

/// By a program that deletes in place of emptying, and switches the triggers back on as they were.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_put_back_while_the_triggers_are_switched_off_for_a_moment() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    world.sql("CREATE TABLE backup AS SELECT * FROM sessions");
    let lost = world.lose(kept).await;
    let triggers = world.sql(
        "SELECT string_agg(format('ALTER TABLE sessions ENABLE ALWAYS TRIGGER %I;', tgname), ' ') \
         FROM pg_trigger WHERE tgrelid = 'sessions'::regclass AND NOT tgisinternal",
    );
    world.sql(&format!(
        "BEGIN; ALTER TABLE sessions DISABLE TRIGGER USER; DELETE FROM sessions; \
         INSERT INTO sessions SELECT * FROM backup; {triggers} COMMIT"
    ));
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// Without the migrations' own table, which the target has, and the marker of crashes.
const DATA_OF_SESSIONS: [&str; 6] = [
    "--data-only",
    "--table=users",
    "--table=sessions",
    "--table=session_users",
    "--table=session_tombstones",
    "--table=session_history",
];

/// The feed misses it; each load compares.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_swapped_between_two_polls_are_not_believed() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let (id, old) = (
        issued.session.id(),
        "CREATE TABLE other AS SELECT * FROM sessions",
    );
    service.cold.sql(old);
    node.revoke(id).await.unwrap();
    let later = service.quiet_node().await;
    service
        .cold
        .sql("ALTER TABLE sessions RENAME TO away; ALTER TABLE other RENAME TO sessions");
    for node in [&node, &later] {
        // The database says so; but for how long?
        node.find(id).await.unwrap();
    }
    service
        .cold
        .sql("ALTER TABLE sessions RENAME TO other; ALTER TABLE away RENAME TO sessions");
    for node in [&node, &later] {
        eventually("it says what the tables say that are back", async || {
            matches!(node.find(id).await, Err(Refusal::Revoked))
        })
        .await;
    }
}
