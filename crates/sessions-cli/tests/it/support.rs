//! A service that the command is pointed at, each test with servers of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use session_core::{SecretKey, SessionId, TokenKeys};
use testbed::{Database, Redis, SqliteFile};
use tier_cache::{StartError, TierConfig, Tiers};

/// Makes of each async function that takes a [`Service`] two tests: on PostgreSQL and on SQLite.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(crate::support::Service::on_postgres()).await;
                }
            )*
        }
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(crate::support::Service::on_sqlite()).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// The root key of every service here.
pub(crate) const KEY: &str = "the root key of a test, which nobody is to see";

pub(crate) type Node = Tiers<Box<RawValue>>;

enum Cold {
    Postgres(Database),
    Sqlite(SqliteFile),
}

pub(crate) struct Service {
    cold: Cold,
    pub(crate) redis: Redis,
}

impl Service {
    pub(crate) fn on_postgres() -> Self {
        Self {
            cold: Cold::Postgres(Database::create()),
            redis: Redis::start(),
        }
    }

    pub(crate) fn on_sqlite() -> Self {
        Self {
            cold: Cold::Sqlite(SqliteFile::create()),
            redis: Redis::start(),
        }
    }

    pub(crate) fn url(&self) -> String {
        match &self.cold {
            Cold::Postgres(database) => database.url(),
            Cold::Sqlite(file) => file.url(),
        }
    }

    /// Plain SQL by another program.
    pub(crate) fn sql(&self, sql: &str) -> String {
        match &self.cold {
            Cold::Postgres(database) => database.sql(sql),
            Cold::Sqlite(file) => file.sql(sql),
        }
    }

    pub(crate) fn add_user(&self, name: &str) -> i64 {
        let added = self.sql(&format!(
            "INSERT INTO users (email, username) VALUES ('{name}@example.com', '{name}') RETURNING id"
        ));
        added.trim().parse().expect("an id")
    }

    /// How many sessions are active.
    pub(crate) fn active(&self) -> u64 {
        let count = self.sql("SELECT count(*) FROM sessions WHERE is_active");
        count.trim().parse().expect("a number")
    }

    /// A node that hears of changes by Redis alone: its feed polls at the start and then as good as
    /// never.
    pub(crate) async fn node(&self) -> Node {
        self.node_within(None).await
    }

    /// A node whose feed polls all the time.
    pub(crate) async fn polling_node(&self) -> Node {
        let mut config = self.config(None);
        config.fence.poll_interval = Duration::from_millis(50);
        Self::open(config).await
    }

    /// A node whose role might have no rights to change the tables.
    pub(crate) async fn node_that_migrates_nothing(&self) -> Result<Node, StartError> {
        let mut config = self.config(None);
        config.cold.migrate = false;
        let key = SecretKey::new(KEY).expect("it is long enough");
        Tiers::open(config, TokenKeys::new(&key)).await
    }

    /// Another database of the same kind.
    pub(crate) fn another(&self) -> Self {
        match &self.cold {
            Cold::Postgres(_) => Self::on_postgres(),
            Cold::Sqlite(_) => Self::on_sqlite(),
        }
    }

    /// All that the database says of its tables, triggers and functions.
    pub(crate) fn schema(&self) -> String {
        match &self.cold {
            Cold::Postgres(database) => {
                let dump = database.run("pg_dump", &["--schema-only", "--no-comments"]);
                // Newer ones begin and end with a random word.
                let lines = dump.lines().filter(|line| !line.starts_with('\\'));
                lines.collect::<Vec<_>>().join("\n")
            }
            Cold::Sqlite(file) => file.sql(
                "SELECT name, trim(replace(replace(sql, ' ', ''), char(10), '')) FROM sqlite_schema \
                 WHERE name NOT LIKE '%diesel%' ORDER BY name",
            ),
        }
    }

    pub(crate) async fn node_within(&self, namespace: Option<&str>) -> Node {
        Self::open(self.config(namespace)).await
    }

    fn config(&self, namespace: Option<&str>) -> TierConfig {
        let mut config = TierConfig::default();
        config.cold.url = self.url();
        config.cold.namespace = namespace.map(|name| name.parse().expect("a name"));
        config.cold.notify = false;
        config.cold.statement_timeout = Duration::from_secs(30);
        config.cold.connect_timeout = Duration::from_secs(30);
        config.warm.url = Some(self.redis.url());
        config.warm.command_timeout = Duration::from_secs(10);
        config.warm.connect_timeout = Duration::from_secs(10);
        config.fence.staleness_bound = Duration::from_secs(24 * 60 * 60);
        config.fence.poll_interval = Duration::from_secs(60 * 60);
        config
    }

    async fn open(config: TierConfig) -> Node {
        let key = SecretKey::new(KEY).expect("it is long enough");
        let opened = Tiers::open(config, TokenKeys::new(&key)).await;
        opened.expect("the tiers open")
    }

    /// The command, pointed at this service by its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command
            .env("SESSION_KEY", KEY)
            .env("SESSION_COLD__URL", self.url())
            .env("SESSION_WARM__URL", self.redis.url());
        command
    }

    /// A script of the documentation, with the variables that it names, and the command in `PATH`.
    pub(crate) fn script(&self, script: &str, backup: &Path) {
        let command = Path::new(env!("CARGO_BIN_EXE_sessions"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = command.parent().map(Path::to_owned);
        let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path)));
        let url = self.url();
        let mut shell = Command::new("sh");
        // Our own settings for the command, and for `sh` what it runs.
        for (name, value) in self.command(&[]).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let ran = shell
            .args(["-euc", script])
            .env("PATH", path.expect("folders"))
            .env("DATABASE_URL", &url)
            .env("FILE", url.trim_start_matches("sqlite://"))
            .env("BACKUP", backup)
            .output()
            .expect("a shell");
        assert!(ran.status.success(), "{script}\n{ran:?}");
    }

    /// Makes a backup of the database.
    pub(crate) fn back_up(&self, to: &Path) {
        match &self.cold {
            Cold::Postgres(database) => {
                let file = to.to_str().expect("a path in UTF-8");
                database.run("pg_dump", &["--format=custom", "--file", file]);
            }
            Cold::Sqlite(file) => {
                file.sql(&format!("VACUUM INTO '{}'", to.display()));
            }
        }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Told {
        told(&mut self.command(args), "")
    }

    /// With a text on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Told {
        told(&mut self.command(args), input)
    }

    pub(crate) fn inspect(&self, id: SessionId) -> Value {
        self.run(&["inspect", &id.to_string(), "--json"]).json()
    }
}

/// The command, reached by nothing of the environment of the test.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessions"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SESSION_") {
            command.env_remove(&name);
        }
    }
    command
        .args(args)
        .env_remove("RUST_LOG")
        // The machine that runs the tests may be slow; what is tested here is not.
        .env("SESSION_WARM__COMMAND_TIMEOUT", "10s")
        .env("SESSION_WARM__CONNECT_TIMEOUT", "10s")
        .env("SESSION_COLD__STATEMENT_TIMEOUT", "30s")
        .env("SESSION_COLD__CONNECT_TIMEOUT", "30s")
        .env("SESSION_FENCE__STALENESS_BOUND", "60s")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn told(command: &mut Command, input: &str) -> Told {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Told::of(child.wait_with_output().expect("it ends"))
}

/// What the command said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let told = Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(
            !told.out.contains(KEY) && !told.err.contains(KEY),
            "{told:?}"
        );
        assert!(!told.err.contains("panicked"), "{told:?}");
        told
    }

    /// What it answered, where it did what it was asked.
    #[track_caller]
    pub(crate) fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.done()).expect("JSON")
    }

    /// The one line in which it says why not.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        let line = self.err.strip_suffix('\n').expect("a line");
        assert!(!line.contains('\n'), "{self:?}");
        line.strip_prefix("sessions: ").expect("it says who speaks")
    }
}

/// Asserts that a text contains all of these.
#[track_caller]
pub(crate) fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}
