//! Nodes of a small service, each test with databases and a Redis of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::{ForeignToken, SecretKey, SessionId, TokenKeys};
use testbed::{Database, Redis, SqliteFile};
use tier_cache::{Session, TierConfig, Tiers};

/// The application's data in these tests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Basket {
    pub(crate) items: Vec<String>,
    pub(crate) count: u64,
}

impl Basket {
    pub(crate) fn of(item: &str) -> Self {
        Self {
            items: vec![item.into()],
            count: 1,
        }
    }
}

/// Makes of each async function that takes a [`Cold`] two tests: on PostgreSQL and on SQLite.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(crate::support::Cold::postgres()).await;
                }
            )*
        }
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(crate::support::Cold::sqlite()).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// A database that several nodes share.
pub(crate) enum Cold {
    Postgres(Database),
    Sqlite(SqliteFile),
}

impl Cold {
    pub(crate) fn postgres() -> Self {
        Self::Postgres(Database::create())
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(SqliteFile::create())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Sqlite(file) => file.url(),
        }
    }

    /// Plain SQL by another program: psql, or sqlite3.
    pub(crate) fn sql(&self, sql: &str) -> String {
        match self {
            Self::Postgres(database) => database.sql(sql),
            Self::Sqlite(file) => file.sql(sql),
        }
    }

    /// The same where it may be refused.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, testbed::Error> {
        match self {
            Self::Postgres(database) => database.try_sql(sql),
            Self::Sqlite(file) => file.try_sql(sql),
        }
    }

    /// An instant in this database's SQL, so many seconds from now.
    pub(crate) fn seconds_from_now(&self, seconds: i64) -> String {
        match self {
            Self::Postgres(_) => format!("now() + interval '{seconds} seconds'"),
            Self::Sqlite(_) => format!("(unixepoch() + {seconds}) * 1000"),
        }
    }

    pub(crate) fn add_user(&self, name: &str) -> i64 {
        let added = self.sql(&format!(
            "INSERT INTO users (email, username) VALUES ('{name}@example.com', '{name}') RETURNING id"
        ));
        added.trim().parse().expect("an id")
    }

    pub(crate) fn version(&self, id: SessionId) -> i64 {
        let version = self.sql(&format!("SELECT version FROM sessions WHERE id = '{id}'"));
        version.trim().parse().expect("a version")
    }
}

/// A service: one database, one Redis or none, one secret.
pub(crate) struct Service {
    pub(crate) cold: Cold,
    pub(crate) redis: Option<Redis>,
    pub(crate) secret: SecretKey,
}

impl Service {
    pub(crate) fn new(cold: Cold) -> Self {
        Self {
            redis: Some(Redis::start()),
            ..Self::without_redis(cold)
        }
    }

    pub(crate) fn without_redis(cold: Cold) -> Self {
        Self {
            cold,
            redis: None,
            secret: SecretKey::random(),
        }
    }

    pub(crate) fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a service with Redis")
    }

    pub(crate) fn keys(&self) -> TokenKeys {
        TokenKeys::new(&self.secret)
    }

    pub(crate) fn config(&self) -> TierConfig {
        let mut config = TierConfig::default();
        config.cold.url = self.cold.url();
        config.cold.pool_size = 4;
        config.warm.url = self.redis.as_ref().map(Redis::url);
        // The machine that runs the tests may be slow; what is tested here is not.
        config.warm.command_timeout = Duration::from_secs(10);
        config.warm.connect_timeout = Duration::from_secs(10);
        config.cold.statement_timeout = Duration::from_secs(30);
        config.cold.connect_timeout = Duration::from_secs(30);
        config.fence.staleness_bound = Duration::from_secs(60);
        config.fence.poll_interval = Duration::from_millis(50);
        // Tests move clocks by hours.
        config.session.idle_ttl = None;
        config
    }

    /// A configuration whose feed polls once at the start and then as good as never, so that
    /// statements can be counted; it hears nothing of the database by itself either.
    pub(crate) fn quiet(&self) -> TierConfig {
        let mut config = self.config();
        config.cold.notify = false;
        config.fence.staleness_bound = Duration::from_secs(24 * 60 * 60);
        config.fence.poll_interval = Duration::from_secs(60 * 60);
        config
    }

    pub(crate) async fn node(&self) -> Tiers<Basket> {
        self.node_with(self.config()).await
    }

    pub(crate) async fn quiet_node(&self) -> Tiers<Basket> {
        self.node_with(self.quiet()).await
    }

    pub(crate) async fn node_with(&self, config: TierConfig) -> Tiers<Basket> {
        Tiers::open(config, self.keys())
            .await
            .expect("the tiers open")
    }
}

/// A token of another issuer.
pub(crate) fn foreign(id: &str) -> ForeignToken<'_> {
    ForeignToken::new("https://idp.example", id).unwrap()
}

/// Waits until `done`, for as long as a very slow machine may take.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {what}");
}

/// What a session's user is called.
pub(crate) fn username(session: &Session<Basket>) -> &str {
    session.user().map_or("", |user| &user.username)
}

/// What is logged on this thread while `work` runs, and what it returns.
pub(crate) fn logged<T>(work: impl FnOnce() -> T) -> (String, T) {
    let log = Log::default();
    let _guard = log.listen();
    let returned = work();
    (log.text(), returned)
}

/// Lines that were logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes what is logged on this thread, of every level, until the guard is dropped.
    #[must_use]
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// All of them.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
