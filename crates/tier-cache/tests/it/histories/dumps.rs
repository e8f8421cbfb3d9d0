//! Dumps that are restored into the tables of running nodes, each in the words of an operator.

use session_core::SessionId;
use testbed::Database;
use tier_cache::{Login, Refusal};

use super::{World, must_be_unavailable, must_refuse, must_serve};
use crate::support::{Cold, Service, eventually};

/// A backup of a database, in a file.
struct Dump<'a> {
    database: &'a Database,
    file: tempfile::NamedTempFile,
}

impl<'a> Dump<'a> {
    fn of(world: &'a World, args: &[&str]) -> Self {
        Self::of_database(world.database(), args)
    }

    fn of_database(database: &'a Database, args: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        database.run(
            "pg_dump",
            &[&["--format=custom", "--file", path], args].concat(),
        );
        Self { database, file }
    }

    fn restore(&self, args: &[&str]) {
        self.restore_into(self.database, args);
    }

    fn restore_into(&self, database: &Database, args: &[&str]) {
        let path = self.file.path().to_str().unwrap();
        database.run("pg_restore", &[args, &[path]].concat());
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
async fn a_dump_is_restored_by_several_jobs_at_once() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    dump.restore(&["--clean", "--if-exists", "--jobs=2"]);
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// No node has another's memory to lean on.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_under_three_nodes_without_redis() {
    let world = World::with(Service::without_redis(Cold::postgres())).await;
    let third = world.service.node().await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    for known in [&lost.begun, &lost.kept.revoked] {
        must_serve(&third, known).await;
    }
    dump.restore(&["--clean", "--if-exists", "--single-transaction"]);
    world.sql(&lost.revoke());
    lost.believed_by(&[&world.here, &world.there, &third]).await;
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

/// Tables that are there and have no triggers yet have no rows yet either, so nobody is told that a session
/// does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_row_is_not_restored_yet_is_unavailable_and_not_unknown() {
    let world = World::on(Cold::postgres()).await;
    let known = world.login().await;
    let dump = Dump::of(&world, &[]);
    world.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    dump.restore(&["--section=pre-data"]);
    must_be_unavailable(&world.here, &known).await;
    must_be_unavailable(&world.there, &known).await;
    dump.restore(&["--section=data", "--section=post-data"]);
    for node in [&world.here, &world.there] {
        must_serve(node, &known).await;
    }
}

/// The next node that starts brings the tables to the newest version, over what the dump left there.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_former_release_is_restored_over_the_tables() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.login().await;
    let rows = world.sql(
        "SELECT format('INSERT INTO sessions (id, expires_at, access_jti, refresh_token_hash) \
            VALUES (%L, %L, %L, %L);', id, expires_at, access_jti, refresh_token_hash) FROM sessions",
    );
    let former = Database::create();
    former.sql(include_str!(
        "../../../migrations/postgres/2026-11-24-000000_tiered_sessions/up.sql"
    ));
    former.sql(&format!(
        "CREATE TABLE __diesel_schema_migrations (\
            version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now()); \
         INSERT INTO __diesel_schema_migrations (version) VALUES ('20261124000000'); {rows}"
    ));
    let dump = Dump::of_database(&former, &[]);
    let begun = world.login().await;
    dump.restore_into(world.database(), &["--clean", "--if-exists"]);
    let later = world.service.node().await;
    let nodes = [&world.here, &world.there, &later];
    for node in nodes {
        must_refuse(node, &begun, &Refusal::Unknown).await;
        must_serve(node, &kept).await;
    }
    let id = kept.id;
    world.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    for node in nodes {
        must_refuse(node, &kept, &Refusal::Revoked).await;
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_data_alone_is_restored_in_one_transaction_with_triggers_switched_off() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let dump = Dump::of(&world, &[]);
    let lost = world.lose(kept).await;
    world.sql("TRUNCATE users, sessions, session_users, session_tombstones");
    let (_, but_history) = DATA_OF_SESSIONS.split_last().unwrap();
    let alone = ["--disable-triggers", "--single-transaction"];
    dump.restore(&[but_history, &alone].concat());
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
}

/// Frozen rows are seen by transactions that began before they were there.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_rows_are_copied_into_tables_that_the_same_transaction_emptied() {
    let world = World::on(Cold::postgres()).await;
    let kept = world.kept().await;
    let rows = world.sql("COPY sessions TO stdout");
    let lost = world.lose(kept).await;
    world.sql(&format!(
        "BEGIN; TRUNCATE sessions;\nCOPY sessions FROM stdin WITH (FREEZE);\n{rows}\n\\.\nCOMMIT"
    ));
    world.sql(&lost.revoke());
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
    node.login(Login::guest()).await.unwrap();
    let id = service.cold.sql(
        "CREATE TABLE other AS SELECT * FROM sessions; UPDATE other SET id = gen_random_uuid() RETURNING id",
    );
    let id: SessionId = id.trim().parse().unwrap();
    let swap = "ALTER TABLE sessions RENAME TO away; ALTER TABLE other RENAME TO sessions; \
        ALTER TABLE away RENAME TO other";
    service.cold.sql(swap);
    // The database says so; but for how long?
    node.find(id).await.unwrap();
    service.cold.sql(swap);
    eventually("it says no more what the other tables said", async || {
        node.find(id).await.is_err()
    })
    .await;
}
