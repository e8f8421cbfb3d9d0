//! How the service starts, restarts and ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{App, eventually, folder, program, run};

#[test]
fn a_restart_keeps_the_sessions() {
    let folder = folder();
    let mut app = App::plain(folder.path());
    let tokens = app.log_in("ada");
    app.signal(Signal::INT);
    assert!(app.ended().success());

    let key = fs::metadata(folder.path().join("webapp.db.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let app = App::plain(folder.path());
    assert_eq!(app.tier(&tokens), "cold");
    assert_eq!(app.tier(&tokens), "hot");
}

/// What is over the configuration is counted in before that is checked: SQLite, the default, has no
/// replicas.
#[test]
fn a_replica_may_be_configured_beside_a_database_of_the_command_line() {
    let (folder, database) = (folder(), testbed::Database::create());
    let app = App::spawn(
        program(
            folder.path(),
            &["--no-redis", "--listen", "127.0.0.1:0", "--database"],
        )
        .arg(database.url())
        .env("SESSION_COLD__REPLICA_URL", database.url()),
    );
    let tokens = app.log_in("ada");
    assert_eq!(app.tier(&tokens), "hot");
}

#[test]
fn the_lines_to_try_work_as_printed() {
    let folder = folder();
    for listen in ["127.0.0.1:0", "127.0.0.2:0", "0.0.0.0:0"] {
        let app = App::spawn(&mut program(
            folder.path(),
            &["--no-redis", "--listen", listen],
        ));
        assert_eq!(app.curl.len(), 3);
        let warns = app.printed.iter().any(|line| line.starts_with("warning: "));
        assert_eq!(warns, listen.starts_with('0'));
        // As someone pastes them: into one shell.
        let script = app.curl.join("\n");
        let mut shell = Command::new("sh");
        let output = run(shell.args(["-ec", &script]).current_dir(folder.path()));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let lines: Vec<&str> = printed.trim().lines().collect();
        let [.., me, sessions] = lines[..] else {
            panic!("{printed}");
        };
        assert!(me.contains(r#""username":"ada""#), "{printed}");
        assert!(sessions.contains(r#""current":true"#), "{printed}");
    }
}

#[test]
fn a_request_under_way_is_finished_before_the_end() {
    let folder = folder();
    let mut app = App::start(folder.path(), &[]);
    let tokens = app.log_in("ada");
    let data = json!({ "note": "just in time" });
    let slow = app
        .put("/data")
        .bearer(&tokens.access)
        .json(&data)
        .send_until_awaited();

    app.signal(Signal::TERM);
    eventually("no new connections are taken", || !app.accepts());
    let stored = slow.finish().expect(200).json();
    assert_eq!(stored["note"], "just in time");
    assert!(app.ended().success());

    let app = App::plain(folder.path());
    let kept = app.get("/data").bearer(&tokens.access).send().expect(200);
    assert_eq!(kept.json()["note"], "just in time");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = folder();
    let mut app = App::start(folder.path(), &[]);
    let tokens = app.log_in("ada");
    let slow = app
        .put("/data")
        .bearer(&tokens.access)
        .json("{}")
        .send_until_awaited();
    app.signal(Signal::TERM);
    eventually("no new connections are taken", || !app.accepts());
    app.signal(Signal::INT);
    assert_eq!(app.ended().code(), Some(130));
    drop(slow);
    eventually("what it started is gone", || {
        let mut entries = fs::read_dir(folder.path()).unwrap().flatten();
        !entries.any(|entry| entry.file_name().to_string_lossy().contains("redis"))
    });
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let folder = folder();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
    };
    file("bad.toml", "[hot]\nttl = 'soon'");
    file("unknown.toml", "[hott]\nttl = '1h'");
    file("broken.toml", "[hot\n");
    file(
        "notes.txt",
        "this is no database, but has more than sixteen bytes\n",
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();

    let cases: [(&[&str], (&str, &str), &str); 18] = [
        (&["--colour"], ("", ""), "--colour"),
        (&["--redis"], ("", ""), "--redis"),
        (&["extra"], ("", ""), "extra"),
        (
            &["--reauthenticate-after", "soon"],
            ("", ""),
            "--reauthenticate-after",
        ),
        (&["--listen", "nowhere"], ("", ""), "nowhere"),
        (&["--listen", &taken], ("", ""), &taken),
        (&["--config", "absent.toml"], ("", ""), "absent.toml"),
        (&["--config", "bad.toml"], ("", ""), "hot.ttl"),
        (&["--config", "unknown.toml"], ("", ""), "hott"),
        (&["--config", "broken.toml"], ("", ""), "TOML"),
        (&["--database", "mysql://u:s3cret@h/d"], ("", ""), "mysql"),
        (
            &["--database", "sqlite:///nowhere/at/all.db"],
            ("", ""),
            "database",
        ),
        (
            &["--database", "sqlite://notes.txt"],
            ("", ""),
            "not a database",
        ),
        (
            &["--database", "postgres://u:s3cret@127.0.0.1:1/d"],
            ("", ""),
            "database",
        ),
        (&["--redis", "u:s3cret@h"], ("", ""), "warm.url"),
        (&[], ("DATABASE_URL", "webapp.db"), "postgres://"),
        (&[], ("SESSION_KEY", "s3cret"), "at least 32"),
        (
            &[],
            ("SESSION_FENCE__POLL_INTERVAL", "1h"),
            "fence.poll_interval",
        ),
    ];
    for (args, (name, value), expected) in cases {
        let mut command = program(folder.path(), args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !name.is_empty() {
            command.env(name, value);
        }
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{args:?} {name}: {output:?}");
        assert_eq!(said.lines().count(), 1, "{args:?} {name}: {said}");
        assert!(said.contains(expected), "{args:?} {name}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn the_file_is_outdone_by_the_environment_and_that_by_flags() {
    let folder = folder();
    let config = "[cold]\nurl = 'sqlite://file.db'\n[hot]\ncapacity = '7MiB'";
    fs::write(folder.path().join("app.toml"), config).unwrap();
    let start = |args: &[&str], url: &str| {
        let mut command = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
        App::spawn(command.args(args).env("DATABASE_URL", url))
    };
    let with_file = ["--config", "app.toml"];
    let app = start(&with_file, "");
    assert!(app.tiers().contains("SQLite file.db"), "{}", app.tiers());
    assert!(app.tiers().contains("7.0 MiB"), "{}", app.tiers());
    let app = start(&with_file, "sqlite://env.db");
    assert!(app.tiers().contains("SQLite env.db"), "{}", app.tiers());
    let app = start(&["--database", "sqlite://flag.db"], "sqlite://env.db");
    assert!(app.tiers().contains("SQLite flag.db"), "{}", app.tiers());
}

#[test]
fn help_names_every_flag_and_shows_no_secret() {
    let folder = folder();
    let mut command = program(folder.path(), &["--help"]);
    let output = run(command
        .env("DATABASE_URL", "postgres://u:s3cret@h/d")
        .env("REDIS_URL", "redis://u:s3cret@h"));
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    for flag in [
        "--listen",
        "--database",
        "DATABASE_URL",
        "--redis",
        "REDIS_URL",
        "--no-redis",
        "--config",
        "--reauthenticate-after",
        "REAUTHENTICATE_AFTER",
        "--bind-user-agent",
        "SESSION_KEY",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    assert!(!help.contains("s3cret"), "{help}");
}
