//! What the command is told, and what it makes of wrong words.

use std::fs;

use testbed::{Database, SqliteFile};
use tier_cache::Login;

use crate::support::{KEY, Service, command, contains, on_both, told};

on_both!(
    tables_that_are_not_there_are_not_made,
    older_tables_are_told_of,
    flags_and_a_file_say_where_the_sessions_are,
    a_namespace_is_another_place,
    nobody_need_read_the_answer,
    any_instant_and_any_number_is_taken_or_refused_in_words,
);

#[test]
fn help_is_help() {
    let told = told(&mut command(&["--help"]), "");
    contains(
        told.done(),
        &[
            "inspect",
            "revoke",
            "list",
            "stats",
            "warm-up",
            "SESSION_KEY",
        ],
    );
    for subcommand in ["inspect", "revoke", "list", "stats", "warm-up"] {
        let told = crate::support::told(&mut command(&[subcommand, "--help"]), "");
        contains(told.done(), &["Usage: sessions", "--database"]);
    }
}

#[test]
fn wrong_words_are_one_line() {
    for args in [&["dance"][..], &[], &["stats", "--fast"], &["list"]] {
        let told = told(&mut command(args), "");
        contains(told.failed(2), &["--help"]);
    }
    for (args, ways) in [
        (["revoke"], &["say which", "--user", "--everyone"][..]),
        (["inspect"], &["say which", "--jti", "--refresh"]),
    ] {
        contains(told(&mut command(&args), "").failed(2), ways);
    }
    // A URL in the wrong place is no reason to show its password.
    const URL: &str = "redis://ada:pa55word@host/0";
    for args in [
        &["stats", URL][..],
        &[URL],
        &["warm-up", "--most", URL],
        &["warm-up", "--most=redis://ada:pa55word@host/0"],
    ] {
        let told = told(&mut command(args), "");
        let line = told.failed(2);
        contains(line, &["redis://…@host/0"]);
        assert!(!line.contains("pa55word"), "{line}");
    }
    let told = told(
        command(&["stats"]).env("SESSION_FENCE__POLL_INTERVAL", "soon"),
        "",
    );
    contains(told.failed(2), &["POLL_INTERVAL", "soon"]);
}

#[test]
fn a_database_that_is_not_there_is_told_of_without_its_password() {
    let nowhere = SqliteFile::create();
    for url in [
        "postgres://ada:pa55word@127.0.0.1:1/nowhere",
        "postgres://ada:pa55word@/nowhere?host=/nonexistent",
        &nowhere.url(),
        "mysql://ada:pa55word@host/db",
    ] {
        for args in [&["stats"][..], &["list", "7"]] {
            let mut command = command(args);
            let told = told(command.args(["--database", url]), "");
            let line = told.failed(1);
            assert!(!line.contains("pa55word"), "{line}");
            contains(line, &["the database "]);
        }
    }
    assert!(!nowhere.path().exists());
}

async fn tables_that_are_not_there_are_not_made(service: Service) {
    service.sql("CREATE TABLE others (id integer)");
    for args in [
        &["stats"][..],
        &["warm-up"],
        &["revoke", "--everyone", "--yes"],
    ] {
        contains(service.run(args).failed(1), &["no tables of sessions"]);
    }
}

async fn older_tables_are_told_of(service: Service) {
    service.node().await;
    service.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('1')");
    service.sql("DELETE FROM __diesel_schema_migrations WHERE version <> '1'");
    contains(
        service.run(&["stats"]).failed(1),
        &["older than this release"],
    );
}

async fn flags_and_a_file_say_where_the_sessions_are(service: Service) {
    let id = {
        let node = service.node().await;
        node.login(Login::guest()).await.unwrap().session.id()
    };
    let folder = std::env::temp_dir().join(format!("sessions-cli-{id}"));
    fs::create_dir(&folder).unwrap();
    let (key, file) = (folder.join("key"), folder.join("sessions.toml"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    let toml = format!(
        "[cold]\nurl = '{}'\n[warm]\nurl = '{}'\n",
        service.url(),
        service.redis.url()
    );
    fs::write(&file, toml).unwrap();
    let (key, file) = (key.to_str().unwrap(), file.to_str().unwrap());

    let id = id.to_string();
    let by_file = ["inspect", &id, "--config", file, "--key-file", key];
    contains(told(&mut command(&by_file), "").done(), &["believes it"]);
    let (database, redis) = (service.url(), service.redis.url());
    let by_flags = [
        "--database",
        &database,
        "--redis",
        &redis,
        "--key-file",
        key,
        "inspect",
        &id,
    ];
    let mut elsewhere = command(&by_flags);
    elsewhere.env("SESSION_COLD__URL", "sqlite:///nonexistent/elsewhere.db");
    contains(told(&mut elsewhere, "").done(), &["believes it"]);

    fs::write(key, "short").unwrap();
    contains(told(&mut command(&by_file), "").failed(1), &["32"]);
    fs::remove_dir_all(&folder).unwrap();
    contains(told(&mut command(&by_file), "").failed(2), &["cannot read"]);
}

async fn a_namespace_is_another_place(service: Service) {
    service.node().await;
    let told = service.run(&["stats", "--namespace", "shop"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    let shop = service.node_within(Some("shop")).await;
    let id = shop.login(Login::guest()).await.unwrap().session.id();
    let args = ["inspect", &id.to_string(), "--namespace", "shop"];
    contains(
        service.run(&args).done(),
        &["database: active", "believes it"],
    );
    contains(service.run(&args[..2]).failed(1), &["no tier knows"]);
    service.run(&["stats", "--namespace", "Shop!"]).failed(2);
}

async fn nobody_need_read_the_answer(service: Service) {
    service.node().await;
    let mut child = service.command(&["stats"]).spawn().unwrap();
    drop(child.stdout.take());
    let told = crate::support::Told::of(child.wait_with_output().unwrap());
    assert_eq!((told.done(), told.err.as_str()), ("", ""));
}

async fn any_instant_and_any_number_is_taken_or_refused_in_words(service: Service) {
    service.node().await;
    for before in [
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ] {
        let told = service.run(&["revoke", "--before", before, "--yes"]);
        assert!(matches!(told.code, Some(0 | 2)), "{before}: {told:?}");
    }
    let most = u32::MAX.to_string();
    for args in [
        ["--per-second", "1"],
        ["--per-second", &most],
        ["--most", &most],
    ] {
        service.run(&["warm-up", args[0], args[1]]).done();
    }
    for time in ["0s", "584942417355years", "99999999999999999999s"] {
        let mut command = service.command(&["stats"]);
        let told = told(command.env("SESSION_WARM__COMMAND_TIMEOUT", time), "");
        contains(told.failed(2), &["warm.command_timeout"]);
    }
}

#[test]
fn a_database_of_another_name_is_told_of() {
    let database = Database::create();
    let url = database.url().replace(database.name(), "no_such_database");
    let told = told(command(&["stats"]).args(["--database", &url]), "");
    contains(told.failed(1), &["no_such_database"]);
}
