//! With a Redis, with one of its own, and with none.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use testbed::{Redis, SqliteFile};

use crate::support::{App, eventually, folder, program};

/// The folders of private servers below `folder`.
fn private(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("webapp-redis-"))
        .collect()
}

/// Whether a process names this folder in its command line.
fn is_used(folder: &Path) -> bool {
    let folder = folder.to_string_lossy();
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*folder)
    })
}

#[test]
fn a_private_redis_is_started_and_gone_after_sigterm() {
    let folder = folder();
    let mut app = App::start(folder.path(), &[]);
    assert!(
        app.tiers().contains("private redis-server"),
        "{}",
        app.tiers()
    );
    assert_eq!(app.operations("/readyz").expect(200).json()["warm"], "up");
    let tokens = app.log_in("ada");
    app.me(&tokens).expect(200);
    let servers = private(folder.path());
    assert_eq!(servers.len(), 1);
    assert!(is_used(&servers[0]));

    app.signal(Signal::TERM);
    assert!(app.ended().success());
    // All of it, by the time the service has ended.
    assert!(private(folder.path()).is_empty());
    assert!(!is_used(&servers[0]));
}

#[test]
fn a_private_redis_is_gone_after_sigkill() {
    let folder = folder();
    let mut app = App::start(folder.path(), &[]);
    let servers = private(folder.path());
    assert!(is_used(&servers[0]));
    app.signal(Signal::KILL);
    app.ended();
    eventually("the server and its folder are gone", || {
        !is_used(&servers[0]) && private(folder.path()).is_empty()
    });
}

#[test]
fn a_killed_redis_costs_speed_only() {
    let (file, redis, folder) = (SqliteFile::create(), Redis::start(), folder());
    let args = ["--database", &file.url(), "--redis", &redis.url()];
    let app = App::start(folder.path(), &args);
    let tokens = app.log_in("ada");
    redis.kill();
    assert_eq!(app.tier(&tokens), "hot");
    let later = app.log_in("ada");
    app.me(&later).expect(200);
    eventually("it is noticed", || {
        app.operations("/readyz").expect(200).json()["warm"] == "down"
    });
    redis.restart();
    eventually("it is used again", || {
        app.operations("/readyz").expect(200).json()["warm"] == "up"
    });
    app.me(&tokens).expect(200);
}

#[test]
fn no_redis_means_none() {
    let folder = folder();
    let app = App::spawn(
        program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"])
            .env("REDIS_URL", "redis://127.0.0.1:1"),
    );
    assert!(app.tiers().contains("warm: none"), "{}", app.tiers());
    assert!(app.tiers().contains("--redis"), "{}", app.tiers());
    assert!(private(folder.path()).is_empty());
    let ready = app.operations("/readyz").expect(200).json();
    assert_eq!(ready["warm"], "off");
}

#[test]
fn without_an_installed_redis_there_is_none() {
    let folder = folder();
    let app =
        App::spawn(program(folder.path(), &["--listen", "127.0.0.1:0"]).env("PATH", folder.path()));
    let tiers = app.tiers();
    assert!(tiers.contains("no redis-server is installed"), "{tiers}");
    let tokens = app.log_in("ada");
    app.me(&tokens).expect(200);
}

#[test]
fn a_redis_that_is_not_there_yet_is_no_obstacle() {
    let (redis, folder) = (Redis::start(), folder());
    redis.kill();
    let app = App::spawn(
        program(folder.path(), &["--listen", "127.0.0.1:0"])
            .env("SESSION_WARM__CONNECT_TIMEOUT", "100ms")
            .env("REDIS_URL", redis.url()),
    );
    assert!(app.tiers().contains("not reached yet"), "{}", app.tiers());
    let tokens = app.log_in("ada");
    app.me(&tokens).expect(200);
    redis.restart();
    eventually("it is used", || {
        app.operations("/readyz").expect(200).json()["warm"] == "up"
    });
}
