//! Warnings at the start: none for our defaults on servers with theirs, and one for each thing that is
//! unwise. Those that the configuration alone tells are tried in `src/advice.rs` too.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use session_core::TokenKeys;
use tempfile::TempDir;
use testbed::{Database, Redis, SqliteFile};
use tier_cache::cold::{ColdStore as _, PostgresStore};
use tier_cache::{ColdConfig, TierConfig, Tiers};

use crate::support::{Log, eventually};

/// The warnings that a node logs at its start, which stays up until Redis has told of its memory.
async fn warned(config: TierConfig, redis: Option<&Redis>) -> Vec<String> {
    let log = Log::default();
    let guard = log.listen();
    let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await.unwrap();
    if let Some(redis) = redis {
        // Of its memory it is asked before the first heartbeat.
        let before = redis.calls();
        eventually("Redis was pinged", async || {
            redis.calls_since(&before).contains_key("ping")
        })
        .await;
    }
    assert!(tiers.shutdown(Duration::from_secs(30)).await);
    drop(guard);
    let text = log.text();
    let lines = text
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains("ERROR"));
    lines.map(str::to_owned).collect()
}

fn on(url: String, redis: Option<&Redis>) -> TierConfig {
    let mut config = TierConfig::default();
    config.cold.url = url;
    config.warm.url = redis.map(Redis::url);
    config
}

#[tokio::test]
async fn defaults_on_servers_with_their_defaults_warn_of_nothing() {
    let (database, redis, file) = (Database::create(), Redis::start(), SqliteFile::create());
    for url in [database.url(), file.url()] {
        for redis in [None, Some(&redis)] {
            let warnings = warned(on(url.clone(), redis), redis).await;
            assert!(warnings.is_empty(), "{url}: {warnings:#?}");
        }
    }
}

#[tokio::test]
async fn what_is_unwise_is_warned_of_once_by_its_number() {
    let (redis, file) = (Redis::start(), SqliteFile::create());
    let mut config = on(file.url(), Some(&redis));
    config.warm.ttl = config.hot.ttl;
    config.session.idle_ttl = None;
    config.cold.statement_timeout = Duration::from_secs(10);
    let warnings = warned(config, Some(&redis)).await;
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    for (warning, number) in warnings.iter().zip(["A01", "A02", "A06"]) {
        let place = format!("({number} in docs/configuration.md)");
        assert!(warning.contains(&place), "{warning}");
    }
}

#[tokio::test]
async fn a_redis_whose_writes_will_fail_when_it_is_full_is_warned_of() {
    let redis = Redis::builder().config("maxmemory", "64mb").start();
    let file = SqliteFile::create();
    let warnings = warned(on(file.url(), Some(&redis)), Some(&redis)).await;
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("A05"), "{warnings:?}");
    let redis = Redis::builder()
        .config("maxmemory", "64mb")
        .config("maxmemory-policy", "volatile-lru")
        .start();
    let warnings = warned(on(file.url(), Some(&redis)), Some(&redis)).await;
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[tokio::test]
async fn a_root_key_that_can_be_guessed_is_warned_of() {
    let file = SqliteFile::create();
    for (secret, warns) in [
        ("a".repeat(44), true),
        ("8Yq0v3JmZk1xT5Wn7RbLd2HsPcGfEaUi".into(), false),
    ] {
        let keys = TokenKeys::new(&session_core::SecretKey::new(secret).unwrap());
        let log = Log::default();
        let guard = log.listen();
        let tiers: Tiers<()> = Tiers::open(on(file.url(), None), keys).await.unwrap();
        assert_eq!(log.text().contains("A10"), warns, "{}", log.text());
        assert!(!log.text().contains("aaaa"), "{}", log.text());
        drop(guard);
        assert!(tiers.shutdown(Duration::from_secs(30)).await);
    }
}

#[tokio::test]
async fn a_tool_warns_of_nothing() {
    let file = SqliteFile::create();
    let mut config = on(file.url(), None);
    config.session.idle_ttl = None;
    let log = Log::default();
    let _guard = log.listen();
    let builder = Tiers::<()>::builder(config, TokenKeys::random());
    let _tiers = builder.advises(false).start().await.unwrap();
    assert!(!log.text().contains(" WARN "), "{}", log.text());
}

#[tokio::test]
async fn a_pooler_that_shares_connections_is_found_and_no_other() {
    let database = Database::create();
    let config = |url: String| ColdConfig {
        url,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
        ..ColdConfig::default()
    };
    let direct = PostgresStore::open(&config(database.url())).unwrap();
    direct.migrate().await.unwrap();
    assert!(!direct.shares_connections().await);
    let whole = Pooler::start(&database, "session");
    let store = PostgresStore::open(&config(whole.url())).unwrap();
    assert!(!store.shares_connections().await);

    let shared = Pooler::start(&database, "transaction");
    let store = PostgresStore::open(&config(shared.url())).unwrap();
    assert!(store.shares_connections().await);
    let log = Log::default();
    let guard = log.listen();
    let start = async |notify| {
        let mut all = TierConfig {
            cold: config(shared.url()),
            ..TierConfig::default()
        };
        all.cold.notify = notify;
        let builder = Tiers::<()>::builder(all, TokenKeys::random());
        builder
            .store(Arc::new(store.clone()))
            .start()
            .await
            .unwrap()
    };
    let tiers = start(true).await;
    assert!(log.text().contains("A04"), "{}", log.text());
    assert!(tiers.shutdown(Duration::from_secs(30)).await);
    drop(guard);
    let log = Log::default();
    let _guard = log.listen();
    start(false).await;
    assert!(!log.text().contains("A04"), "{}", log.text());
}

/// A PgBouncer before a database, which ends with this.
struct Pooler {
    process: Child,
    folder: TempDir,
    database: String,
}

impl Pooler {
    fn start(database: &Database, mode: &str) -> Self {
        let url = database.url();
        let socket = url
            .split("host=")
            .nth(1)
            .unwrap()
            .split('&')
            .next()
            .unwrap();
        let socket = socket.replace("%2F", "/").replace("%2f", "/");
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let settings = format!(
            "[databases]\n* = host={socket} user=postgres\n[pgbouncer]\nlisten_addr =\n\
             unix_socket_dir = {here}\nlisten_port = 6432\nauth_type = any\npool_mode = {mode}\n\
             ignore_startup_parameters = options, extra_float_digits\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        // It refuses to run as root; and only its owner finds the socket.
        let owner = fs::metadata(Path::new(&socket).join(".s.PGSQL.5432"))
            .unwrap()
            .uid();
        let mut command = Command::new("pgbouncer");
        if owner != fs::metadata("/proc/self").unwrap().uid() {
            let name = Command::new("id")
                .args(["-nu", &owner.to_string()])
                .output()
                .unwrap();
            command.args(["-u", String::from_utf8(name.stdout).unwrap().trim()]);
        }
        let process = command
            .arg("-q")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("PATH", "/usr/sbin:/usr/bin:/bin:/sbin")
            .spawn()
            .expect("pgbouncer is installed: scripts/test does so");
        let pooler = Self {
            process,
            folder,
            database: database.name().into(),
        };
        let socket = pooler.folder.path().join(".s.PGSQL.6432");
        for _ in 0..3000 {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return pooler;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("pgbouncer does not listen on {}", socket.display());
    }

    fn url(&self) -> String {
        let host = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!(
            "postgres://postgres@/{}?host={host}&port=6432",
            self.database
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
