//! Changes that go round the triggers, and triggers that stop to fire.

use std::time::Duration;

use tier_cache::{Login, Refusal, Scope, Tier, Tiers};

use super::{Known, World, must_be_unavailable, must_refuse, must_serve};
use crate::support::{Basket, Cold, eventually, on_both};

/// As logical replication of the users alone does it, and bulk loaders.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_deleted_or_renumbered_by_a_role_for_whom_no_foreign_key_acts() {
    for (n, end) in [
        "DELETE FROM users WHERE id = USER",
        "UPDATE users SET id = 1000000 WHERE id = USER",
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::on(Cold::postgres()).await;
        let user = world.service.cold.add_user(&format!("user{n}"));
        let issued = Known::of(world.here.login(Login::user(user)).await.unwrap());
        world.there.find(issued.access.clone()).await.unwrap();
        world.sql(&format!(
            "SET session_replication_role = replica; {}",
            end.replace("USER", &user.to_string())
        ));
        let later = world.service.node().await;
        for node in [&world.here, &world.there, &later] {
            must_be_refused(node, &issued).await;
        }
    }
}

/// As the worker of a subscription applies changes: with the numbers of the database that they come from.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_inserted_changed_and_deleted_by_a_role_for_whom_triggers_do_not_fire() {
    let source = World::on(Cold::postgres()).await;
    let mut world = World::on(Cold::postgres()).await;
    // One application, whose sessions are copied from one database to the other.
    world.service.secret = source.service.secret.clone();
    (world.here, world.there) = (world.service.node().await, world.service.node().await);
    let (ended, gone) = (source.login().await, source.login().await);
    source.sql("UPDATE sessions SET label = 'x'");
    let rows = source.sql("COPY sessions TO stdout");
    let apply = |sql: &str| world.sql(&format!("SET session_replication_role = replica;\n{sql}"));
    apply(&format!("COPY sessions FROM stdin;\n{rows}\n\\.\n"));
    for node in [&world.here, &world.there] {
        must_serve(node, &ended).await;
        must_serve(node, &gone).await;
    }
    apply(&format!(
        "BEGIN; UPDATE sessions SET is_active = false, version = 3, changed_at_mark = 1 WHERE id = '{}'; \
         DELETE FROM sessions WHERE id = '{}'; COMMIT",
        ended.id, gone.id
    ));
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &ended, &Refusal::Revoked).await;
        must_refuse(node, &gone, &Refusal::Unknown).await;
    }
}

/// `TRUNCATE` removes rows that its transaction does not see.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_emptied_by_a_transaction_that_does_not_see_all_of_them() {
    let world = World::on(Cold::postgres()).await;
    let (other, connection) =
        tokio_postgres::connect(&world.service.cold.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
    let _connection = tokio::spawn(connection);
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users")
        .await
        .unwrap();
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.there.find(issued.access.clone()).await.unwrap();
    other
        .batch_execute("TRUNCATE sessions; COMMIT")
        .await
        .unwrap();
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &issued, &Refusal::Unknown).await;
    }
    let issued = Known::of(later.login(Login::guest()).await.unwrap());
    for node in [&world.here, &world.there, &later] {
        must_serve(node, &issued).await;
    }
}

/// A plain `TRUNCATE` gets its number as it begins to wait for its lock, before what it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_emptied_by_a_transaction_that_is_older_than_a_deletion() {
    let world = World::on(Cold::postgres()).await;
    let (known, other) = (world.login().await, world.login().await);
    let connect = async || {
        let url = world.service.cold.url();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    };
    let (deleting, emptying) = (connect().await, connect().await);
    deleting
        .batch_execute("BEGIN; SELECT count(*) FROM sessions")
        .await
        .unwrap();
    let emptied = tokio::spawn(async move { emptying.batch_execute("TRUNCATE sessions").await });
    eventually("it waits for its lock", async || {
        let waits = "SELECT count(*) FROM pg_locks \
            WHERE relation = 'sessions'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted";
        world.sql(waits) == "1"
    })
    .await;
    let id = known.id;
    deleting
        .batch_execute(&format!("DELETE FROM sessions WHERE id = '{id}'; COMMIT"))
        .await
        .unwrap();
    emptied.await.unwrap().unwrap();
    let later = world.service.node().await;
    for node in [&world.here, &world.there, &later] {
        must_refuse(node, &known, &Refusal::Unknown).await;
        must_refuse(node, &other, &Refusal::Unknown).await;
    }
}

/// Dumps of data with `--disable-triggers` run it at their end.
#[tokio::test(flavor = "multi_thread")]
async fn enable_trigger_all_leaves_triggers_that_still_fire_for_replication() {
    let world = World::on(Cold::postgres()).await;
    let user = world.service.cold.add_user("ada");
    let issued = Known::of(world.here.login(Login::user(user)).await.unwrap());
    let other = Known::of(world.here.login(Login::guest()).await.unwrap());
    for table in ["users", "sessions", "session_tombstones"] {
        world.sql(&format!("ALTER TABLE {table} ENABLE TRIGGER ALL"));
    }
    eventually("the triggers are mended", async || {
        world.sql(
            "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'A' \
             AND tgrelid IN ('users'::regclass, 'sessions'::regclass, 'session_tombstones'::regclass)",
        ) == "0"
    })
    .await;
    let id = other.id;
    world.sql(&format!(
        "SET session_replication_role = replica; UPDATE users SET is_active = false WHERE id = {user}; \
         DELETE FROM sessions WHERE id = '{id}'"
    ));
    for node in [&world.here, &world.there] {
        must_refuse(node, &issued, &Refusal::Revoked).await;
        must_refuse(node, &other, &Refusal::Unknown).await;
    }
}

/// What the feed cannot vouch for is not cached: each request asks the database, and gets the truth.
async fn must_be_blind_until(world: &World, cure: &str, what: &str) {
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    eventually(&format!("{what}: nothing cached is trusted"), async || {
        !world.here.health().is_trusting() && !world.there.health().is_trusting()
    })
    .await;
    for node in [&world.here, &world.there] {
        // Ready, and right, by asking each time.
        assert!(node.health().is_ready(), "{what}");
        let found = node.find(issued.access.clone()).await.unwrap();
        assert_eq!(found.tier(), Tier::Cold, "{what}");
    }
    world.sql(cure);
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_are_switched_off_or_gone_blind_the_nodes_until_they_are_back() {
    for (harm, cure) in [
        (
            "ALTER TABLE sessions DISABLE TRIGGER sessions_number_change",
            "ALTER TABLE sessions ENABLE ALWAYS TRIGGER sessions_number_change",
        ),
        (
            "DROP TRIGGER users_touch_sessions ON users",
            "SELECT sessions_install_triggers()",
        ),
        (
            "CREATE TABLE copy (LIKE sessions INCLUDING ALL); INSERT INTO copy SELECT * FROM sessions; \
             ALTER TABLE sessions RENAME TO former; ALTER TABLE copy RENAME TO sessions",
            "SELECT sessions_install_triggers()",
        ),
        (
            // The rewritten table has a new lineage begin, which needs the trigger.
            "DROP TRIGGER session_history_begin ON session_history; VACUUM FULL sessions",
            "SELECT sessions_install_triggers()",
        ),
        (
            // No crash would empty it.
            "ALTER TABLE session_crash_marker SET LOGGED",
            "ALTER TABLE session_crash_marker SET UNLOGGED",
        ),
    ] {
        let world = World::on(Cold::postgres()).await;
        world.sql(harm);
        must_be_blind_until(&world, cure, harm).await;
    }
}

/// A session of a node that hears nothing of a change is served until then, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_a_trigger_was_off_is_heard_when_it_is_on_again() {
    let world = World::on(Cold::postgres()).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.there.find(issued.access.clone()).await.unwrap();
    let id = issued.id;
    world.sql(&format!(
        "ALTER TABLE sessions DISABLE TRIGGER USER; \
         UPDATE sessions SET is_active = false WHERE id = '{id}'; \
         SELECT sessions_install_triggers()"
    ));
    for node in [&world.here, &world.there] {
        must_refuse(node, &issued, &Refusal::Revoked).await;
    }
}

/// A role that is not the tables' owner, and a node that is this role.
async fn node_of_a_role(world: &World) -> (String, Tiers<Basket>) {
    let role = format!("role_{}", world.database().name());
    // Those of the page on configuration, which are enough for all that follows.
    let page = include_str!("../../../../../docs/configuration.md");
    let (_, grants) = page.split_once("<!-- run: grants -->\n```sql\n").unwrap();
    let (grants, _) = grants.split_once("```").unwrap();
    let grants = grants.replace("TO app;", &format!("TO {role};"));
    world.sql(&format!("CREATE ROLE {role} LOGIN; {grants}"));
    let mut config = world.service.config();
    config.cold.url = config
        .cold
        .url
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    let store = tier_cache::cold::existing(&config.cold).await.unwrap();
    let node = Tiers::builder(config, world.service.keys())
        .store(store)
        .start()
        .await
        .unwrap();
    (role, node)
}

/// A policy hides what was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn row_security_that_hides_rows_blinds_the_nodes() {
    let mut world = World::on(Cold::postgres()).await;
    let (role, node) = node_of_a_role(&world).await;
    (world.here, world.there) = (node.clone(), node);
    let user = world.service.cold.add_user("ada");
    let ended = world.here.login(Login::user(user)).await.unwrap();
    world.here.rotate(&ended.session).await.unwrap();
    world.here.revoke_all(Scope::everyone()).await.unwrap();
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    must_serve(&world.here, &issued).await;
    world.sql(
        "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY living ON sessions USING (is_active)",
    );
    must_be_blind_until(
        &world,
        "ALTER TABLE sessions DISABLE ROW LEVEL SECURITY",
        "row security",
    )
    .await;
    world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Without a policy it hides all of them, and nobody is told that a session does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_row_security_hides_is_unavailable_and_not_unknown() {
    let world = World::on(Cold::postgres()).await;
    let (role, node) = node_of_a_role(&world).await;
    let issued = world.login().await;
    must_serve(&node, &issued).await;
    world.sql("ALTER TABLE sessions ENABLE ROW LEVEL SECURITY");
    must_be_unavailable(&node, &issued).await;
    world.sql("ALTER TABLE sessions DISABLE ROW LEVEL SECURITY");
    must_serve(&node, &issued).await;
    drop(node);
    world.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

on_both!(a_tombstone_stays_until_nobody_needs_it);

async fn a_tombstone_stays_until_nobody_needs_it(cold: Cold) {
    let world = World::on(cold).await;
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    let id = issued.id;
    let begin = "BEGIN";
    let deleting = format!(
        "{begin}; DELETE FROM sessions WHERE id = '{id}'; DELETE FROM session_tombstones WHERE id = '{id}'; COMMIT"
    );
    let refused = match &world.service.cold {
        Cold::Postgres(database) => database.try_sql(&deleting).unwrap_err().to_string(),
        Cold::Sqlite(file) => file.try_sql(&deleting).unwrap_err().to_string(),
    };
    assert!(
        refused.contains("leave its row in session_tombstones to pruning"),
        "{refused}"
    );
    // Nothing of it was done.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.here.find(issued.access.clone()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_replaced_by_a_change_of_the_rowid() {
    let world = World::on(Cold::sqlite()).await;
    let first = Known::of(world.here.login(Login::guest()).await.unwrap());
    world.here.login(Login::guest()).await.unwrap();
    let Cold::Sqlite(file) = &world.service.cold else {
        unreachable!()
    };
    let replace = "UPDATE OR REPLACE sessions SET rowid = 1 WHERE rowid = 2";
    let refused = file.try_sql(replace).unwrap_err().to_string();
    assert!(refused.contains("rowid"), "{refused}");
    must_serve(&world.here, &first).await;
}

async fn must_be_refused(node: &Tiers<Basket>, issued: &Known) {
    eventually("a node refuses it", async || {
        let found = node.find(issued.access.clone()).await;
        found.is_err_and(|refusal| !refusal.is_unavailable())
    })
    .await;
}

/// Also one that no node began: by `TRUNCATE`, by a dump, by hand.
#[tokio::test(flavor = "multi_thread")]
async fn no_lineage_rests_on_a_trigger_that_is_switched_off() {
    let world = World::on(Cold::postgres()).await;
    world.sql("ALTER TABLE sessions DISABLE TRIGGER sessions_number_change");
    for begins in [
        "TRUNCATE sessions",
        "INSERT INTO session_history (lineage, tombstones_since) VALUES (1, 1)",
        "UPDATE session_history SET lineage = 0",
    ] {
        world.sql(begins);
        let moved = world.sql("SELECT session_moved() IS NOT NULL");
        assert_eq!(moved.trim(), "t", "{begins}");
    }
    let issued = Known::of(world.here.login(Login::guest()).await.unwrap());
    let id = issued.id;
    world.there.find(issued.access.clone()).await.unwrap();
    world.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    for node in [&world.here, &world.there] {
        must_refuse(node, &issued, &Refusal::Revoked).await;
        assert!(!node.health().is_trusting());
    }
}

/// A row lock has a node stand still between looking at the triggers and writing down what it saw.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_switched_off_while_a_lineage_begins() {
    let world = World::on(Cold::postgres()).await;
    let url = world.service.cold.url();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; SELECT FROM session_history FOR UPDATE";
    client.batch_execute(lock).await.unwrap();
    world.sql("VACUUM FULL session_tombstones");
    eventually("a node waits for the row", async || {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() \
            AND query LIKE '%sessions_begin_lineage($1)%' AND wait_event IN ('transactionid', 'tuple')";
        world.sql(waits).trim() == "t"
    })
    .await;
    world.sql("ALTER TABLE sessions DISABLE TRIGGER sessions_number_change");
    client.batch_execute("COMMIT").await.unwrap();
    eventually("the lineage has begun", async || {
        let waits = "SELECT count(*) = 0 FROM pg_locks WHERE relation = 'session_history'::regclass AND NOT granted";
        world.sql(waits).trim() == "t"
    })
    .await;
    let moved = world.sql("SELECT session_moved() IS NOT NULL");
    assert_eq!(moved.trim(), "t");
}

/// The nodes begin a lineage, for which they wait for somebody who drops a trigger.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_dropped_while_a_lineage_begins_in_sqlite() {
    let world = World::on(Cold::sqlite()).await;
    world.sql(
        "CREATE TABLE other (a);\nBEGIN IMMEDIATE;\n.shell sleep 1\nDROP TRIGGER sessions_number_update;\nCOMMIT;",
    );
    for node in [&world.here, &world.there] {
        eventually("it is blind", async || !node.health().is_trusting()).await;
    }
    // And stays so, whatever else would have a lineage begin.
    let later = world.service.node().await;
    world.sql("DROP TABLE other");
    for node in [&world.here, &world.there, &later] {
        node.login(Login::guest()).await.unwrap();
        assert!(!node.health().is_trusting());
    }
}
