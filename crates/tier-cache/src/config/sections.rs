//! The sections of the configuration: every option with its default.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::namespace::{self, Namespace};
use super::passwords::without_password;
use super::state::sqlite_in_state_folder;
use super::text::{duration, optional_duration, size};
use crate::cold::WhenFull;

/// The life of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// How long a session lives after login or refresh, whatever its use. Default `12h`.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// The longest it lives after its user last proved to be that user, however often it is
    /// refreshed. Default `30d`.
    #[serde(with = "duration")]
    pub max_ttl: Duration,
    /// A session that is not used for this long ends; an empty text: none does. Default `1h`, which is
    /// what NIST SP 800-63B-4 §2.2.3 recommends at most.
    #[serde(with = "optional_duration")]
    pub idle_ttl: Option<Duration>,
    /// How often a session's use is noted in the database, at most. Default `1m`.
    #[serde(with = "duration")]
    pub touch_interval: Duration,
    /// How long a refresh token that was traded in is still answered, with what it was traded for:
    /// for clients that ask twice at once, or lose an answer. Default `10s`.
    #[serde(with = "duration")]
    pub refresh_grace: Duration,
    /// How many sessions a user may have at once. Default none: any number.
    pub max_per_user: Option<u32>,
    /// What becomes of a login beyond that. Default `revoke-oldest`.
    pub when_full: WhenFull,
    /// The largest application data a session may hold, as JSON. Default `16KiB`.
    #[serde(with = "size")]
    pub max_data: ByteSize,
    /// How much a request asks before it trusts a session. Default `trust`.
    pub strictness: Strictness,
    /// What brings a whole session into the hot tier. Default `body`.
    pub promotion: Promotion,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(12 * 60 * 60),
            max_ttl: Duration::from_secs(30 * 24 * 60 * 60),
            idle_ttl: Some(Duration::from_secs(60 * 60)),
            touch_interval: Duration::from_secs(60),
            refresh_grace: Duration::from_secs(10),
            max_per_user: None,
            when_full: WhenFull::default(),
            max_data: ByteSize::kib(16),
            strictness: Strictness::default(),
            promotion: Promotion::default(),
        }
    }
}

/// The tier in the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotConfig {
    /// Bytes that hot sessions may take, estimated entry by entry. Default `64MiB`.
    #[serde(with = "size")]
    pub capacity: ByteSize,
    /// The longest a session stays hot; its own expiry ends it earlier. Default `1h`.
    #[serde(with = "duration")]
    pub ttl: Duration,
}

impl Default for HotConfig {
    fn default() -> Self {
        Self {
            capacity: ByteSize::mib(64),
            ttl: Duration::from_secs(60 * 60),
        }
    }
}

/// The tier in Redis.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmConfig {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix://…` for a
    /// socket. Default none: no warm tier.
    pub url: Option<String>,
    /// What the keys begin with; `cold.namespace` comes after it. Default `session`.
    pub prefix: String,
    /// What a warm record holds. Default `head`.
    pub holds: Holds,
    /// The longest a record stays warm; the session's own expiry ends it earlier. Default `3h`.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// The part of `ttl` that is taken off at random, so that records filled together do not
    /// end together; from 0 to 0.9. Default `0.1`.
    pub jitter: f64,
    /// How long a node waits for another that is loading the same session; `0s`: not at all. Default
    /// `100ms`.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How long connecting may take. Default `1s`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a command may take before the cold tier is asked instead. Default `50ms`.
    #[serde(with = "duration")]
    pub command_timeout: Duration,
    /// PEM file of the authority that signed the server's certificate. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

impl WarmConfig {
    /// The same, with the namespace as a part of each key.
    pub(crate) fn within(&self, namespace: Option<&Namespace>) -> Self {
        let mut config = self.clone();
        if let Some(namespace) = namespace {
            config.prefix = format!("{}:{namespace}", self.prefix);
        }
        config
    }
}

impl Default for WarmConfig {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "session".into(),
            holds: Holds::default(),
            ttl: Duration::from_secs(3 * 60 * 60),
            jitter: 0.1,
            lease: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_millis(50),
            ca_file: None,
        }
    }
}

/// The tier in SQL.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColdConfig {
    /// `postgres://user:password@host/database[?sslmode=disable]`, or `sqlite://path`. Default
    /// `sessions.db` in the program's state folder: see [`sqlite_in_state_folder`].
    pub url: String,
    /// What separates this application from others on the same database and Redis. Default none:
    /// it has both to itself.
    #[serde(deserialize_with = "namespace::optional")]
    pub namespace: Option<Namespace>,
    /// A copy of the database that takes cold reads, such as a streaming standby; PostgreSQL only.
    /// Default none.
    pub replica_url: Option<String>,
    /// How long a request waits for the replica before it asks the database itself. Default
    /// `500ms`.
    #[serde(with = "duration")]
    pub replica_timeout: Duration,
    /// Connections at most, to each of the two, beside the one of the feed of changes and the one that `notify`
    /// needs. Default `10`.
    pub pool_size: usize,
    /// Statements at most that load sessions at the same time; no more than `pool_size`. Default `3`.
    pub load_concurrency: usize,
    /// Sessions at most that one statement loads. Default `256`.
    pub batch_size: usize,
    /// Requests at most that wait for a session that is not hot; more are refused at once, as
    /// unavailable. Default `16384`.
    pub max_waiting: usize,
    /// How long a request waits for its session, whatever it is that keeps it. Default `5s`.
    #[serde(with = "duration")]
    pub load_timeout: Duration,
    /// Whether to listen to PostgreSQL's notifications of changes, on a connection of its own.
    /// Default `true`.
    pub notify: bool,
    /// How long connecting, and waiting for a free connection, may take. Default `5s`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a statement may take. Default `2s`.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// PEM file of the authority that signed the server's certificate. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a node that starts brings the tables to the newest version. With `false` it starts only if
    /// they are, and needs no rights to change them; see the command `sessions migrate`. Default `true`.
    pub migrate: bool,
    /// How often each node removes what nobody needs any more. Default `10m`.
    #[serde(with = "duration")]
    pub prune_interval: Duration,
    /// How long expired sessions are kept. Default `7d`.
    #[serde(with = "duration")]
    pub expired_retention: Duration,
    /// How long the traces of deleted sessions are kept; a node that was blind for longer starts
    /// with empty caches. Default `1d`.
    #[serde(with = "duration")]
    pub tombstone_retention: Duration,
}

impl Default for ColdConfig {
    fn default() -> Self {
        Self {
            url: sqlite_in_state_folder("sessions.db"),
            namespace: None,
            replica_url: None,
            replica_timeout: Duration::from_millis(500),
            pool_size: 10,
            load_concurrency: 3,
            batch_size: 256,
            max_waiting: 16_384,
            load_timeout: Duration::from_secs(5),
            notify: true,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(2),
            ca_file: None,
            migrate: true,
            prune_interval: Duration::from_secs(10 * 60),
            expired_retention: Duration::from_secs(7 * 24 * 60 * 60),
            tombstone_retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl ColdConfig {
    /// How many statements may load sessions at the same time.
    pub(crate) fn statements(&self) -> usize {
        self.load_concurrency.min(self.pool_size).max(1)
    }
}

/// When caches may be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FenceConfig {
    /// B: no node serves a session from a cache later than this after its revocation was
    /// committed. Default `5s`.
    #[serde(with = "duration")]
    pub staleness_bound: Duration,
    /// How often a node asks the database what changed; at most half of the bound. Default `1s`.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// Floors that a node remembers. More of them let a restarted node use older warm records.
    /// Default `100000`.
    pub max_floors: usize,
    /// What a node does that has not heard from the database for `staleness_bound`, and cannot ask it
    /// for a session either. Default `refuse`.
    pub on_blind: OnBlind,
}

impl FenceConfig {
    /// The longest that a session may be served after its revocation was committed.
    pub(crate) fn longest(&self) -> Duration {
        self.staleness_bound
            .saturating_add(self.on_blind.serves_for())
    }
}

impl Default for FenceConfig {
    fn default() -> Self {
        Self {
            staleness_bound: Duration::from_secs(5),
            poll_interval: Duration::from_secs(1),
            max_floors: 100_000,
            on_blind: OnBlind::default(),
        }
    }
}

/// How much a request asks before it trusts a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// Trust the caches as far as the fence lets them.
    #[default]
    Trust,
    /// Confirm the session's version at the database: one cheap statement a request.
    Version,
    /// Read the session's row at the database on each request.
    Row,
}

/// What a node does that hears nothing from the database, and cannot ask it for a session either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBlind {
    /// Refuse, as unavailable.
    #[default]
    Refuse,
    /// Serve what is hot for so much longer. By as much a revoked session may be served longer too, in
    /// an outage; receipts say so.
    ServeFor(#[serde(with = "duration")] Duration),
}

impl OnBlind {
    pub(crate) fn serves_for(self) -> Duration {
        match self {
            Self::Refuse => Duration::ZERO,
            Self::ServeFor(time) => time,
        }
    }
}

/// What brings a whole session into the hot tier, where a warm hit brought only its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// A handler that asks for the body.
    #[default]
    Body,
    /// The first use; the body is fetched behind the request's back.
    FirstUse,
    /// This many uses of the head within a window.
    Uses {
        /// Uses that promote, 1 to 255.
        count: u8,
        /// The window, from the moment the head came.
        #[serde(with = "duration")]
        window: Duration,
    },
}

/// What a warm record holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The head: enough to authenticate.
    #[default]
    Head,
    /// The whole session.
    Full,
}

// URLs hold passwords, so these two are shown without them.
impl fmt::Debug for WarmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmConfig")
            .field("url", &self.url.as_deref().map(without_password))
            .field("prefix", &self.prefix)
            .field("holds", &self.holds)
            .field("ttl", &self.ttl)
            .field("jitter", &self.jitter)
            .field("lease", &self.lease)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

impl fmt::Debug for ColdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColdConfig")
            .field("url", &without_password(&self.url))
            .field("namespace", &self.namespace)
            .field(
                "replica_url",
                &self.replica_url.as_deref().map(without_password),
            )
            .field("replica_timeout", &self.replica_timeout)
            .field("pool_size", &self.pool_size)
            .field("load_concurrency", &self.load_concurrency)
            .field("batch_size", &self.batch_size)
            .field("max_waiting", &self.max_waiting)
            .field("load_timeout", &self.load_timeout)
            .field("notify", &self.notify)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("ca_file", &self.ca_file)
            .field("migrate", &self.migrate)
            .field("prune_interval", &self.prune_interval)
            .field("expired_retention", &self.expired_retention)
            .field("tombstone_retention", &self.tombstone_retention)
            .finish()
    }
}
