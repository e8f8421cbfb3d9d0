//! A service that is told to make no tables: `cold.migrate = false`.

use std::process::Command;

use testbed::{Database, SqliteFile};

use crate::support::{App, folder, program, run};

const KEY: &str = "5rXo0PZk3c8vWq1yTnJdLh7sUaBgEfMi";
const TABLES: &str =
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";

/// What it says, in refusing to start.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn no_table_is_made_in_postgres_unless_it_may_be() {
    let (database, folder) = (Database::create(), folder());
    let url = database.url();
    let told = |migrate: &str| {
        let args = ["--listen", "127.0.0.1:0", "--no-redis", "--database", &url];
        let mut command = program(folder.path(), &args);
        command.env("SESSION_COLD__MIGRATE", migrate);
        command
    };
    let tables = || database.sql(TABLES).trim().to_owned();
    for key in [None, Some(KEY)] {
        let said = refused(told("false").envs(key.map(|key| ("SESSION_KEY", key))));
        assert!(said.contains("`sessions migrate`"), "{said}");
        assert_eq!(tables(), "0");
    }

    drop(App::spawn(told("true").env("SESSION_KEY", KEY)));
    let made = tables();
    assert_ne!(made, "0");
    let said = refused(&mut told("false"));
    assert!(said.contains("SESSION_KEY is not set"), "{said}");
    let app = App::spawn(told("false").env("SESSION_KEY", KEY));
    app.log_in("ada");
    assert_eq!(tables(), made);
}

#[test]
fn no_table_is_made_in_sqlite_unless_it_may_be() {
    let (file, folder) = (SqliteFile::create(), folder());
    let told = |migrate: &str| {
        let args = ["--listen", "127.0.0.1:0", "--no-redis", "--database"];
        let mut command = program(folder.path(), &args);
        command
            .arg(file.url())
            .env("SESSION_COLD__MIGRATE", migrate);
        command
    };
    let said = refused(&mut told("false"));
    assert!(said.contains("`sessions migrate`"), "{said}");
    let tables = file.sql("SELECT count(*) FROM sqlite_schema");
    assert_eq!(tables.trim(), "0");

    drop(App::spawn(&mut told("true")));
    App::spawn(&mut told("false")).log_in("ada");
}
