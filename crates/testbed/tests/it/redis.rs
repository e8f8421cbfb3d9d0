use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use redis::IntoConnectionInfo;
use testbed::Redis;

use crate::panic_of;

#[test]
fn a_command_counts_once_and_our_own_questions_do_not() {
    let redis = Redis::start();
    let before = redis.calls();
    redis.cli(&["SET", "key", "value"]);
    assert_eq!(redis.cli(&["GET", "key"]), "value");
    assert_eq!(redis.calls_since(&before), calls([("get", 1), ("set", 1)]));

    let before = redis.calls();
    assert_eq!(redis.calls_since(&before), calls([]));
    redis.cli(&["GET", "key"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(
        redis.calls_since(&before),
        calls([("config|set", 1), ("get", 1)])
    );
}

#[test]
fn the_client_library_reaches_the_socket_by_its_url() {
    let redis = Redis::start();
    redis.cli(&["SET", "key", "value"]);
    let before = redis.calls();
    let mut connection = redis::Client::open(redis.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let value: String = redis::cmd("GET").arg("key").query(&mut connection).unwrap();
    assert_eq!(value, "value");
    assert_eq!(redis.calls_since(&before)["get"], 1);
}

#[test]
fn two_servers_share_nothing() {
    let (one, other) = (Redis::start(), Redis::start());
    one.cli(&["SET", "key", "value"]);
    assert_eq!(other.cli(&["EXISTS", "key"]), "0");
    assert_ne!(one.url(), other.url());
}

#[test]
fn a_killed_server_is_unreachable_and_comes_back_empty_at_the_same_address() {
    for redis in [Redis::start(), Redis::builder().tcp().start()] {
        let url = redis.url();
        redis.cli(&["SET", "key", "value"]);

        redis.kill();
        assert!(
            redis::Client::open(url.clone())
                .unwrap()
                .get_connection()
                .is_err()
        );
        assert!(panic_of(AssertUnwindSafe(|| drop(redis.cli(&["PING"])))).contains("redis-cli"));

        redis.restart();
        assert_eq!(redis.url(), url);
        assert_eq!(redis.calls(), calls([]));
        assert_eq!(redis.cli(&["DBSIZE"]), "0");
        assert!(redis::Client::open(url).unwrap().get_connection().is_ok());
    }
}

#[test]
fn a_server_restarted_from_a_snapshot_holds_what_it_held_then() {
    let redis = Redis::start();
    redis.cli(&["SET", "key", "then"]);
    let snapshot = redis.snapshot();
    redis.cli(&["SET", "key", "now"]);
    redis.cli(&["SET", "later", "now"]);

    redis.restart_from(&snapshot);
    assert_eq!(redis.cli(&["GET", "key"]), "then");
    assert_eq!(redis.cli(&["EXISTS", "later"]), "0");
    redis.restart();
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
}

#[test]
fn a_replica_follows_and_promoted_lacks_what_was_written_since() {
    let rules = ["default off", "app on >secret ~* +@all"];
    let with_rules = rules
        .iter()
        .fold(Redis::builder(), |it, rule| it.user(rule));
    for master in [
        Redis::start(),
        Redis::builder().tls().start(),
        with_rules.start(),
    ] {
        master.cli(&["SET", "before", "1"]);
        let replica = master.replica();
        assert_eq!(replica.cli(&["GET", "before"]), "1");
        assert_ne!(replica.url(), master.url());
        master.cli(&["SET", "after", "2"]);
        while replica.cli(&["GET", "after"]) != "2" {}
        let refused = panic_of(AssertUnwindSafe(|| drop(replica.cli(&["DEL", "after"]))));
        assert!(refused.contains("READONLY"), "{refused}");

        replica.promote();
        master.cli(&["SET", "after", "3"]);
        assert_eq!(replica.cli(&["GET", "after"]), "2");
        replica.cli(&["SET", "after", "4"]);
        drop(master);
        assert_eq!(replica.cli(&["GET", "after"]), "4");
        replica.restart();
        assert_eq!(replica.cli(&["DBSIZE"]), "0");
    }
}

#[test]
fn a_replica_follows_its_master_through_a_restart() {
    let master = Redis::start();
    master.cli(&["SET", "key", "value"]);
    let replica = master.replica();
    master.restart();
    while replica.cli(&["DBSIZE"]) != "0" {}
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let redis = Redis::start();
    let mut client = UnixStream::connect(redis.socket()).unwrap();
    let mut answer = [0; 7];

    redis.pause();
    client.write_all(b"PING\r\n").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let silence = client.read(&mut answer).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);

    redis.resume();
    client.set_read_timeout(None).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_paused_server_can_be_killed_and_restarted() {
    let redis = Redis::start();
    redis.pause();
    redis.kill();
    redis.restart();
    assert_eq!(redis.cli(&["PING"]), "PONG");
    redis.pause();
    drop(redis);
}

#[test]
fn tls_answers_those_who_check_its_certificate_and_no_plain_text() {
    let redis = Redis::builder().tls().start();
    let url = redis.url();
    assert!(url.starts_with("rediss://127.0.0.1:"), "{url}");
    assert!((&*url).into_connection_info().is_ok());

    let trusting = ["--tls", "--cacert", text(redis.ca_file())];
    assert_eq!(printed(&redis_cli(&url, &trusting, &["PING"])), "PONG");
    assert!(!redis_cli(&url, &["--tls"], &["PING"]).status.success());

    let plain = url.replace("rediss://", "redis://");
    assert_ne!(printed(&redis_cli(&plain, &[], &["PING"])), "PONG");

    redis.restart();
    assert_eq!(printed(&redis_cli(&url, &trusting, &["PING"])), "PONG");
}

#[test]
fn access_rules_bind_users_but_not_our_own_questions() {
    let redis = Redis::builder()
        .tcp()
        .user("default off")
        .user("app on >s3/cret@ ~session:* +get")
        .start();
    redis.cli(&["SET", "session:1", "one"]);
    let before = redis.calls();

    let url = redis.url_as("app", "s3/cret@");
    let get = |key| printed(&redis_cli(&url, &[], &["GET", key]));
    assert_eq!(get("session:1"), "one");
    assert!(get("other").contains("NOPERM"));
    assert_ne!(printed(&redis_cli(&redis.url(), &[], &["PING"])), "PONG");

    // Two clients came in as `app`; the refused commands were not called.
    assert_eq!(redis.calls_since(&before), calls([("auth", 2), ("get", 1)]));
}

#[test]
fn a_user_reaches_the_socket_by_name_too() {
    let redis = Redis::builder()
        .user("default off")
        .user("app on >a&b ~* +@all")
        .start();
    let client = redis::Client::open(redis.url_as("app", "a&b")).unwrap();
    let mut connection = client.get_connection().unwrap();
    let name: String = redis::cmd("ACL")
        .arg("WHOAMI")
        .query(&mut connection)
        .unwrap();
    assert_eq!(name, "app");

    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let refused = redis::cmd("PING").query::<String>(&mut connection);
    assert!(refused.is_err());
}

#[test]
fn settings_are_passed_on() {
    let redis = Redis::builder().config("maxmemory", "3mb").start();
    assert_eq!(
        redis.cli(&["CONFIG", "GET", "maxmemory"]),
        "maxmemory\n3145728"
    );
}

#[test]
fn a_wrong_setting_fails_with_the_servers_words() {
    let error = Redis::builder()
        .config("maxmemory", "much")
        .try_start()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("argument must be a memory value"),
        "{error}"
    );
}

#[test]
fn an_answer_that_is_an_error_fails_the_test() {
    let redis = Redis::start();
    let message = panic_of(AssertUnwindSafe(|| drop(redis.cli(&["NONSENSE"]))));
    assert!(message.contains("unknown command"), "{message}");
}

#[test]
fn the_folder_goes_with_the_server() {
    let redis = Redis::start();
    let folder = redis.socket().parent().unwrap().to_owned();
    assert!(folder.exists());
    drop(redis);
    assert!(!folder.exists());
}

fn calls<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

fn redis_cli(url: &str, options: &[&str], command: &[&str]) -> Output {
    Command::new("redis-cli")
        .env_remove("REDISCLI_AUTH")
        .args(["--no-auth-warning", "-u", url])
        .args(options)
        .args(command)
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
