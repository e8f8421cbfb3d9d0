//! Two instances on one database are one service.

use std::thread;

use serde_json::json;
use testbed::{Database, Redis};

use crate::support::{App, Tokens, eventually, folder, program};

/// Two instances that were started at the same moment on a fresh database, without `SESSION_KEY`.
fn two(database: &Database, redis: &Redis) -> (App, App) {
    thread::scope(|scope| {
        let start = || {
            let folder = folder();
            App::start(
                folder.path(),
                &["--database", &database.url(), "--redis", &redis.url()],
            )
        };
        let (a, b) = (scope.spawn(start), scope.spawn(start));
        (a.join().unwrap(), b.join().unwrap())
    })
}

#[test]
fn a_login_on_one_is_known_and_revoked_on_both() {
    let (database, redis) = (Database::create(), Redis::start());
    let (a, b) = two(&database, &redis);
    assert_eq!(database.sql("SELECT count(*) FROM users").trim(), "2");

    let tokens = a.log_in("ada");
    let loads = "session_db_queries_total{op=\"load\"}";
    let before = b.metric(loads);
    assert_eq!(b.tier(&tokens), "warm");
    assert_eq!(b.tier(&tokens), "hot");
    assert_eq!(b.metric(loads), before, "a warm hit asks no database");
    assert_eq!(a.tier(&tokens), "hot");

    // Revoked on B by another device; A hears of it.
    let other = b.log_in("ada");
    let path = format!("/sessions/{}", tokens.id);
    b.delete(&path).bearer(&other.access).send().expect(200);
    b.me(&tokens).expect_error(401);
    eventually("A hears of it", || a.me(&tokens).status == 401);

    // And the other way round, by plain SQL.
    assert_eq!(a.tier(&other), "warm");
    database.sql("UPDATE sessions SET revoked_at = now() WHERE revoked_at IS NULL");
    for app in [&a, &b] {
        eventually("both hear of it", || app.me(&other).status == 401);
    }
}

#[test]
fn a_refresh_on_one_kills_the_old_tokens_on_the_other() {
    let (database, redis) = (Database::create(), Redis::start());
    let (a, b) = two(&database, &redis);
    let old = a.log_in("bob");
    a.me(&old).expect(200);

    let new = Tokens::of(&b.refresh(&old.refresh));
    eventually("A hears of it", || a.me(&old).status == 401);
    a.me(&new).expect(200);
    b.me(&old).expect_error(401);
    // Whoever asks twice at once, or lost the answer, gets the same again, from any instance.
    assert_eq!(Tokens::of(&a.refresh(&old.refresh)).access, new.access);
    // A token of two refreshes ago is one that somebody has a copy of: nobody is logged in now.
    let newer = Tokens::of(&a.refresh(&new.refresh));
    b.refresh(&old.refresh).expect_error(401);
    for app in [&a, &b] {
        eventually("both hear of it", || app.me(&newer).status == 401);
    }
}

#[test]
fn data_written_on_one_is_read_on_the_other() {
    let (database, redis) = (Database::create(), Redis::start());
    let (a, b) = two(&database, &redis);
    let tokens = a.log_in("ada");
    let read = |app: &App| {
        app.get("/data")
            .bearer(&tokens.access)
            .send()
            .expect(200)
            .json()
    };
    assert_eq!(read(&b)["note"], "");
    a.put("/data")
        .bearer(&tokens.access)
        .json(json!({ "note": "from A" }))
        .send()
        .expect(200);
    eventually("B reads it", || read(&b)["note"] == "from A");
}

#[test]
fn instances_with_one_session_key_need_no_table_for_it() {
    let (database, redis, folder) = (Database::create(), Redis::start(), folder());
    let start = |key: &str| {
        App::spawn(
            program(folder.path(), &["--listen", "127.0.0.1:0"])
                .args(["--database", &database.url(), "--redis", &redis.url()])
                .env("SESSION_KEY", key),
        )
    };
    let key = "k".repeat(32);
    let (a, b) = (start(&key), start(&key));
    let tokens = a.log_in("ada");
    b.me(&tokens).expect(200);
    let stranger = start(&"s".repeat(32));
    stranger.me(&tokens).expect_error(401);
    let tables = database.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'webapp_secrets'");
    assert_eq!(tables.trim(), "0");
}
