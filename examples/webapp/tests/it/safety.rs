//! What keeps strangers from wearing the service out, and pages from harm.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;

use crate::http::{Request, Response};
use crate::support::{App, PATIENCE, Sql, Tokens, folder, on_both, program, run};

on_both!(
    to_look_is_free_and_to_end_sessions_takes_a_recent_login,
    failed_logins_are_slowed_down,
);

fn to_look_is_free_and_to_end_sessions_takes_a_recent_login(app: &App, sql: Sql<'_>) {
    let (here, phone) = (app.log_in("ada"), app.log_in("ada"));
    let long_ago = match app.tiers().contains("SQLite") {
        true => "0",
        false => "'epoch'",
    };
    sql(&format!(
        "UPDATE sessions SET authenticated_at = {long_ago}"
    ));
    crate::support::eventually("the service hears of it", || {
        let me = app.me(&here).expect(200).json();
        me["session"]["authenticated_at"] == "1970-01-01T00:00:00.000Z"
    });
    let list = app.get("/sessions").bearer(&here.access).send().expect(200);
    assert_eq!(list.json().as_array().unwrap().len(), 2);
    for path in [format!("/sessions/{}", phone.id), "/sessions".into()] {
        let refused = app.delete(&path).bearer(&here.access).send();
        let refused = refused.expect_error(401);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.contains("max_age="), "{challenge}");
    }
    app.me(&phone).expect(200);
    let proof = json!({ "password": "demo" });
    let again = app.post("/reauthenticate").bearer(&here.access).json(proof);
    let here = Tokens::of(&again.send());
    let end = app.delete(&format!("/sessions/{}", phone.id));
    let ended = end.bearer(&here.access).send().expect(200);
    assert_eq!(ended.header("clear-site-data"), None);
    app.me(&phone).expect_error(401);
    let out = app.delete("/sessions").bearer(&here.access).send();
    assert!(out.expect(200).header("clear-site-data").is_some());
}

fn failed_logins_are_slowed_down(app: &App, _: Sql<'_>) {
    let kept = app.log_in("ada");
    let wrong = |n: u32| app.login("ada", &format!("wrong {n}")).send().status;
    let answered = (0..50).take_while(|&n| wrong(n) == 401).count();
    assert_eq!(answered, 5);
    let slowed = app.login("ada", "demo").send().expect_error(429);
    let after: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    // So are the other doors that take a password.
    let proof = json!({ "password": "demo" });
    let again = app.post("/reauthenticate").bearer(&kept.access).json(proof);
    again.send().expect_error(429);
    // Who is in stays in, and others get in.
    app.me(&kept).expect(200);
    app.log_in("bob");
    assert_eq!(app.metric("webapp_failed_logins_total"), 5.0);
    assert!(app.metric("webapp_slowed_logins_total") >= 2.0);
    crate::support::eventually("the pause is over", || {
        app.login("ada", "demo").send().status == 200
    });
}

#[test]
fn failed_logins_are_logged_without_what_was_typed() {
    let folder = folder();
    let path = folder.path().join("log");
    let mut command = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
    let log = File::create(&path).unwrap();
    let app = App::spawn(command.env_remove("RUST_LOG").stderr(log));
    app.login("ada", "s3cret").send().expect_error(401);
    // Typed into the wrong field.
    app.login("s3cret", "").send().expect_error(401);
    let log = fs::read_to_string(&path).unwrap();
    let failed: Vec<_> = log
        .lines()
        .filter(|line| line.contains("login failed"))
        .collect();
    assert_eq!(failed.len(), 2, "{log}");
    assert!(
        failed[0].contains("user=1") && failed[0].contains("127.0.0.1"),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn guests_are_capped() {
    let folder = folder();
    let app = App::plain(folder.path());
    let begin = || app.put("/data").json("{}").send();
    let begun = (0..1000).take_while(|_| begin().status == 200).count();
    assert_eq!(begun, 100);
    let refused = begin().expect_error(429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("set-cookie"), None);
    // Users are not concerned.
    let ada = app.log_in("ada");
    app.put("/data")
        .bearer(&ada.access)
        .json("{}")
        .send()
        .expect(200);
}

#[test]
fn every_answer_has_the_headers_that_keep_pages_apart() {
    let folder = folder();
    let start = |args: &[&str]| {
        let mut command = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
        App::spawn(command.args(args))
    };
    let app = start(&[]);
    let ada = app.log_in("ada");
    let answers = |app: &App| -> Vec<Response> {
        vec![
            app.get("/").send().expect(200),
            app.get("/page.js").send().expect(200),
            app.get("/me").send().expect(401),
            app.get("/nowhere").send().expect(404),
            app.post("/me").send().expect(405),
            app.get("/healthz").send().expect(200),
            app.post("/login").send().expect(415),
            Request::of_host(app.address, "evil.example", "GET", "/me")
                .send()
                .expect(421),
        ]
    };
    for answer in answers(&app) {
        for (name, expected) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(expected), "{answer:?}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("strict-transport-security"), None);
    }
    let out = app.post("/logout").bearer(&ada.access).send().expect(200);
    assert_eq!(out.header("clear-site-data"), Some(r#""cache", "storage""#));

    for answer in answers(&start(&["--behind-tls"])) {
        let hsts = answer.header("strict-transport-security").unwrap();
        assert!(hsts.starts_with("max-age="), "{hsts}");
    }
}

#[test]
fn only_names_of_the_list_are_answered() {
    let folder = folder();
    let mut command = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
    let app = App::spawn(
        command
            .args(["--allow-host", "shop.example"])
            .env("ALLOW_HOSTS", ""),
    );
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(app.address).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for (host, status) in [
        ("localhost:1", "200"),
        ("127.0.0.1", "200"),
        ("[::1]:3000", "200"),
        ("Shop.Example", "200"),
        ("shop.example.evil.example", "421"),
        ("evil.example", "421"),
    ] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: {host}");
        assert_eq!(ask(&head), status, "{host}");
    }
    assert_eq!(ask("GET /healthz HTTP/1.0\r\nAccept: a/b"), "421");
    let twice = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost";
    assert_eq!(ask(twice), "421");
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost";
    assert_eq!(ask(absolute), "421");
}

#[test]
fn files_are_their_owners_alone() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    let app = App::plain(folder.path());
    app.log_in("ada");
    for name in [
        "webapp.db",
        "webapp.db-wal",
        "webapp.db-shm",
        "webapp.db.key",
    ] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    for entry in fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(mode(name.to_str().unwrap()) & 0o077, 0, "{name:?}");
    }
    drop(app);

    // One of an earlier release is closed.
    fs::set_permissions(path("webapp.db"), Permissions::from_mode(0o644)).unwrap();
    drop(App::plain(folder.path()));
    assert_eq!(mode("webapp.db"), 0o600);

    // A key that others know is none.
    fs::set_permissions(path("webapp.db.key"), Permissions::from_mode(0o644)).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--no-redis"];
    let refused = run(&mut program(folder.path(), &args));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("chmod 600"),
        "{said}"
    );
}

/// Connections that send half a header and no more.
fn half_open(app: &App, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(app.address).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ");
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn half_open_and_idle_connections_are_closed_and_do_not_use_up_the_descriptors() {
    let folder = folder();
    // Few descriptors, as a shell gives them.
    let mut inner = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -n 120; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(folder.path());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    inner.env_clear();
    let app = App::spawn(&mut limited);
    let ada = app.log_in("ada");

    let half = half_open(&app, 150);
    let mut idle = TcpStream::connect(app.address).unwrap();
    // Who comes later waits until those are closed, and is answered then.
    let began = Instant::now();
    Request::new(app.address, "GET", "/me")
        .bearer(&ada.access)
        .send()
        .expect(200);
    let waited = began.elapsed();
    for mut stream in half {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut rest);
    }
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0);
    app.log_in("ada");
    assert!(waited < Duration::from_secs(50), "{waited:?}");
}

/// The header's timer does not run while an answer is being sent.
#[test]
fn a_client_that_reads_no_answer_does_not_hold_its_connection() {
    const PLACES: usize = 2;
    let folder = folder();
    let app = App::start(
        folder.path(),
        &[
            "--no-redis",
            "--slow-client",
            "1s",
            "--max-connections",
            "2",
        ],
    );
    let clients: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut stream = TcpStream::connect(app.address).unwrap();
            set_socket_recv_buffer_size(&stream, 4096).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || {
                let request = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
                loop {
                    if let Err(error) = stream.write_all(&request) {
                        return error.kind();
                    }
                }
            })
        })
        .collect();
    for client in clients {
        let ended = client.join().unwrap();
        assert!(
            matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "still connected: {ended}"
        );
    }
    // Their places are free.
    app.log_in("ada");
}
