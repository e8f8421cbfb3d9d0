use std::env;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use testbed::{Cluster, Database, Statement};

use crate::panic_of;

#[test]
fn databases_of_two_tests_share_nothing() {
    let (one, other) = (Database::create(), Database::create());
    one.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);");
    assert_eq!(one.sql("SELECT a, a * 2 FROM t ORDER BY a"), "1|2\n2|4");
    assert_eq!(other.sql("SELECT to_regclass('t') IS NULL"), "t");
}

#[test]
fn a_database_is_dropped_even_while_a_client_is_connected() {
    let (database, witness) = (Database::create(), Database::create());
    let name = database.name().to_owned();
    let exists = || {
        witness.sql(&format!(
            "SELECT count(*) FROM pg_database WHERE datname = '{name}'"
        ))
    };
    assert_eq!(exists(), "1");

    let mut client = psql(&database.url(), "SELECT pg_sleep(600)")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND wait_event = 'PgSleep'";
    while database.sql(asleep) != "1" {
        assert!(client.try_wait().unwrap().is_none());
    }

    drop(database);
    assert_eq!(exists(), "0");
    assert!(!client.wait().unwrap().success());
}

#[test]
fn a_database_is_dropped_when_its_test_panics() {
    let witness = Database::create();
    let message = panic_of(AssertUnwindSafe(|| {
        let database = Database::create();
        panic!("{}", database.name());
    }));
    let exists = format!("SELECT count(*) FROM pg_database WHERE datname = '{message}'");
    assert_eq!(witness.sql(&exists), "0");
}

#[test]
fn statements_are_counted_exactly_and_for_one_database_only() {
    let (database, other) = (Database::create(), Database::create());
    database.sql("CREATE TABLE t (a int)");
    database.reset_statements();
    assert_eq!(database.statements(), []);

    database.sql("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);");
    other.sql("SELECT 1");
    database.sql("SELECT a,\n    'x' FROM t");
    let expected = [
        ("INSERT INTO t VALUES ($1)", 2),
        ("SELECT a,\n    $1 FROM t", 1),
    ];
    assert_eq!(
        database.statements(),
        expected.map(|(query, calls)| Statement {
            query: query.to_owned(),
            calls
        })
    );

    database.reset_statements();
    assert_eq!(database.statements(), []);
    assert_eq!(other.statements().len(), 1);
}

#[test]
fn a_wrong_statement_fails_the_test_with_the_words_of_psql() {
    let database = Database::create();
    let message = panic_of(AssertUnwindSafe(|| {
        drop(database.sql("SELECT 1; SELECT nonsense"))
    }));
    assert!(
        message.contains("column \"nonsense\" does not exist"),
        "{message}"
    );
}

#[test]
fn the_client_library_understands_the_url() {
    let database = Database::create();
    let config: tokio_postgres::Config = database.url().parse().unwrap();
    assert_eq!(config.get_user(), Some("postgres"));
    assert_eq!(config.get_dbname(), Some(database.name()));
    let [tokio_postgres::config::Host::Unix(folder)] = config.get_hosts() else {
        panic!("{:?}", config.get_hosts());
    };
    assert!(
        folder
            .join(format!(".s.PGSQL.{}", config.get_ports()[0]))
            .exists()
    );
}

#[test]
fn another_cluster_stands_beside_the_shared_one() {
    let (own, shared) = (SECURE.database(), Database::create());
    let identity = "SELECT system_identifier FROM pg_control_system()";
    assert_ne!(own.sql(identity), shared.sql(identity));
}

#[test]
fn tls_and_a_password_are_asked_for_on_tcp() {
    let database = SECURE.database();
    let url = database.url();
    let verified = format!(
        "{}&sslrootcert={}",
        url.replace("sslmode=require", "sslmode=verify-full"),
        encode(SECURE.ca_file())
    );
    let tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let answer = psql(&verified, tls).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "t\n", "{answer:?}");

    let plain = psql(&url.replace("sslmode=require", "sslmode=disable"), tls)
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&plain.stderr).contains("no pg_hba.conf entry"),
        "{plain:?}"
    );
    let wrong = psql(&url.replace("pa%20ss", "wrong"), tls)
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("authentication failed"),
        "{wrong:?}"
    );

    let config: tokio_postgres::Config = url.parse().unwrap();
    assert_eq!(config.get_password(), Some(PASSWORD.as_bytes()));
}

#[test]
fn a_killed_cluster_comes_back_with_its_data() {
    let cluster = Cluster::builder().config("lock_timeout", "7s").start();
    let database = cluster.database();
    database.sql("CREATE TABLE t AS SELECT 1 AS a");
    assert_eq!(database.sql("SHOW lock_timeout"), "7s");

    cluster.kill();
    let message = panic_of(AssertUnwindSafe(|| drop(database.sql("SELECT 1"))));
    assert!(message.contains("psql"), "{message}");
    cluster.restart();
    assert_eq!(database.sql("SELECT a FROM t"), "1");

    // A session that is open goes silent, and answers when the cluster is resumed.
    cluster.pause();
    let waiting = std::thread::spawn({
        let url = database.url();
        move || psql(&url, "SELECT 2").output().unwrap()
    });
    cluster.resume();
    assert_eq!(waiting.join().unwrap().stdout, b"2\n");

    cluster.pause();
    drop(cluster);
}

const PASSWORD: &str = "pa ss/'@";

/// Never dropped: its keeper ends it with this process.
static SECURE: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::builder().tls().password(PASSWORD).start());

/// A client without settings of its own.
fn psql(url: &str, sql: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.env_clear().env("PATH", env::var_os("PATH").unwrap());
    psql.args(["-XAtq", "-d", url, "-c", sql]);
    psql
}

/// The path as it may stand in a URL.
fn encode(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.map(|byte| format!("%{byte:02x}")).collect()
}
