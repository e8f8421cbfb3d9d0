//! Tier configuration: one struct, from TOML and the environment, with a default for everything.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::cold::WhenFull;

/// How sessions are kept, tier by tier.
///
/// Durations are written like `500ms`, `15m` or `7d`; sizes like `64MiB`.
///
/// ```
/// use tier_cache::TierConfig;
/// # use std::time::Duration;
///
/// let config = TierConfig::from_toml("
///     [hot]
///     capacity = '128MiB'
///     [fence]
///     staleness_bound = '10s'
/// ").unwrap();
/// assert_eq!(config.fence.staleness_bound, Duration::from_secs(10));
/// assert_eq!(config.fence.poll_interval, Duration::from_secs(1));
///
/// let error = TierConfig::from_toml("[hot]\nttl = 'soon'").unwrap_err().to_string();
/// assert!(error.contains("hot.ttl") && error.contains("soon") && error.contains("15m"), "{error}");
/// ```
///
/// `Debug` leaves the passwords of URLs out; `Serialize` writes them, so that what is written can be
/// read again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierConfig {
    /// The life of a session.
    pub session: SessionConfig,
    /// The tier in the process.
    pub hot: HotConfig,
    /// The tier in Redis.
    pub warm: WarmConfig,
    /// The tier in SQL.
    pub cold: ColdConfig,
    /// When caches may be trusted.
    pub fence: FenceConfig,
}

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
    /// A session that is not used for this long ends. Default none: `ttl` alone ends it.
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
            idle_ttl: None,
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
    /// What separates this application's keys in a shared Redis. Default `session`.
    pub prefix: String,
    /// What a warm record holds. Default `head`.
    pub holds: Holds,
    /// The longest a record stays warm; the session's own expiry ends it earlier. Default `1h`.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// The part of `ttl` that is taken off at random, so that records filled together do not
    /// end together; from 0 to 0.9. Default `0.1`.
    pub jitter: f64,
    /// How long connecting may take. Default `1s`.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long a command may take before the cold tier is asked instead. Default `50ms`.
    #[serde(with = "duration")]
    pub command_timeout: Duration,
    /// PEM file of the authority that signed the server's certificate. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for WarmConfig {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "session".into(),
            holds: Holds::default(),
            ttl: Duration::from_secs(60 * 60),
            jitter: 0.1,
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
    /// `postgres://user:password@host/database[?sslmode=require]`, or `sqlite://path`. Default
    /// `sqlite://sessions.db`.
    pub url: String,
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
            url: "sqlite://sessions.db".into(),
            replica_url: None,
            replica_timeout: Duration::from_millis(500),
            pool_size: 10,
            notify: true,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(2),
            ca_file: None,
            prune_interval: Duration::from_secs(10 * 60),
            expired_retention: Duration::from_secs(7 * 24 * 60 * 60),
            tombstone_retention: Duration::from_secs(24 * 60 * 60),
        }
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
}

impl Default for FenceConfig {
    fn default() -> Self {
        Self {
            staleness_bound: Duration::from_secs(5),
            poll_interval: Duration::from_secs(1),
            max_floors: 100_000,
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
        /// Uses that promote, from 1.
        count: u32,
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

impl TierConfig {
    /// Reads TOML text; what it does not name keeps its default.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key, the value and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::default().overlaid_by(Figment::new().merge(Toml::string(text)))
    }

    /// Reads a TOML file, if one is named, and then the environment: `SESSION_FENCE__POLL_INTERVAL`
    /// is `poll_interval` of `[fence]`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key, the value, where it stands and what is allowed; also if
    /// the named file cannot be read.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::default().overlaid(file)
    }

    /// As [`load`](Self::load), for an application with defaults of its own: what neither the
    /// file nor the environment names stays as it is.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn overlaid(self, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| ConfigError(format!("cannot read {}: {error}", file.display())))?;
            figment = figment.merge(Toml::string(&text));
        }
        // SESSION_KEY and the like are the application's own; ours name a section and a key.
        let env = Env::prefixed("SESSION_")
            .filter(|key| key.as_str().contains("__"))
            .split("__");
        self.overlaid_by(figment.merge(env))
    }

    fn overlaid_by(self, given: Figment) -> Result<Self, ConfigError> {
        let mut config: Self = Figment::from(Serialized::defaults(self))
            .merge(given)
            .extract()
            .map_err(|error| ConfigError(without_passwords(&error.to_string())))?;
        // The environment has no other word for "none".
        config.warm.url = config.warm.url.filter(|url| !url.is_empty());
        config.cold.replica_url = config.cold.replica_url.filter(|url| !url.is_empty());
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types cannot: ranges, and values that must fit each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fence = &self.fence;
        let positive = [
            ("session.ttl", self.session.ttl),
            ("session.max_ttl", self.session.max_ttl),
            ("session.touch_interval", self.session.touch_interval),
            ("session.refresh_grace", self.session.refresh_grace),
            ("hot.ttl", self.hot.ttl),
            ("warm.ttl", self.warm.ttl),
            ("warm.connect_timeout", self.warm.connect_timeout),
            ("warm.command_timeout", self.warm.command_timeout),
            ("cold.replica_timeout", self.cold.replica_timeout),
            ("cold.connect_timeout", self.cold.connect_timeout),
            ("cold.statement_timeout", self.cold.statement_timeout),
            ("cold.prune_interval", self.cold.prune_interval),
            ("cold.expired_retention", self.cold.expired_retention),
            ("cold.tombstone_retention", self.cold.tombstone_retention),
            ("fence.staleness_bound", fence.staleness_bound),
            ("fence.poll_interval", fence.poll_interval),
        ];
        for (key, value) in positive {
            let year = Duration::from_secs(366 * 24 * 60 * 60);
            if value < Duration::from_millis(1) || value > year {
                return Err(ConfigError::range(
                    key,
                    humantime::format_duration(value),
                    "from 1ms to 366days",
                ));
            }
        }
        if let Some(idle) = self.session.idle_ttl
            && (idle < 2 * self.session.touch_interval || idle > self.session.max_ttl)
        {
            return Err(ConfigError::range(
                "session.idle_ttl",
                humantime::format_duration(idle),
                &format!(
                    "at least twice session.touch_interval ({}), and at most session.max_ttl ({})",
                    humantime::format_duration(self.session.touch_interval),
                    humantime::format_duration(self.session.max_ttl)
                ),
            ));
        }
        if self.session.max_per_user == Some(0) {
            return Err(ConfigError::range(
                "session.max_per_user",
                0,
                "at least 1, or left out",
            ));
        }
        if fence.poll_interval > fence.staleness_bound / 2 {
            return Err(ConfigError::range(
                "fence.poll_interval",
                humantime::format_duration(fence.poll_interval),
                &format!(
                    "at most half of fence.staleness_bound ({})",
                    humantime::format_duration(fence.staleness_bound)
                ),
            ));
        }
        if self.cold.replica_url.is_some() && self.cold.url.starts_with("sqlite:") {
            return Err(ConfigError::because(
                "cold.replica_url",
                "SQLite has no replicas: leave the key out",
            ));
        }
        if self.cold.pool_size == 0 || self.cold.pool_size > 10_000 {
            return Err(ConfigError::range(
                "cold.pool_size",
                self.cold.pool_size,
                "from 1 to 10000",
            ));
        }
        if fence.max_floors < 2 {
            return Err(ConfigError::range(
                "fence.max_floors",
                fence.max_floors,
                "at least 2",
            ));
        }
        if !(0.0..=0.9).contains(&self.warm.jitter) {
            return Err(ConfigError::range(
                "warm.jitter",
                self.warm.jitter,
                "from 0 to 0.9",
            ));
        }
        if self.warm.prefix.is_empty()
            || self.warm.prefix.len() > 64
            || self
                .warm
                .prefix
                .contains(|c: char| c == '{' || c == '}' || c.is_whitespace())
        {
            return Err(ConfigError::range(
                "warm.prefix",
                format_args!("{:?}", self.warm.prefix),
                "1 to 64 characters, none of them a brace or a space",
            ));
        }
        if self.session.max_data.as_u64() > 16 << 20 {
            return Err(ConfigError::range(
                "session.max_data",
                self.session.max_data,
                "at most 16MiB",
            ));
        }
        if let Promotion::Uses { count: 0, .. } = self.session.promotion {
            return Err(ConfigError::range(
                "session.promotion.uses.count",
                0,
                "at least 1",
            ));
        }
        Ok(())
    }
}

/// A configuration that cannot be used, in words: the key, the value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn because(key: &str, reason: impl fmt::Display) -> Self {
        Self(format!("{key}: {reason}"))
    }

    pub(crate) fn range(key: &str, value: impl fmt::Display, allowed: &str) -> Self {
        Self(format!(
            "{key} = {value} is not allowed: it must be {allowed}"
        ))
    }
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
            .field(
                "replica_url",
                &self.replica_url.as_deref().map(without_password),
            )
            .field("replica_timeout", &self.replica_timeout)
            .field("pool_size", &self.pool_size)
            .field("notify", &self.notify)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("ca_file", &self.ca_file)
            .field("prune_interval", &self.prune_interval)
            .field("expired_retention", &self.expired_retention)
            .field("tombstone_retention", &self.tombstone_retention)
            .finish()
    }
}

/// A URL as it may be logged: neither the user's name nor the password, nor any parameter.
///
/// ```
/// # use tier_cache::without_password;
/// assert_eq!(without_password("redis://ada:s3?cr@t@host:1/0"), "redis://…@host:1/0");
/// assert_eq!(without_password("postgres://host/db?password=s3cret"), "postgres://host/db");
/// ```
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "…".into();
    };
    // The last `@`, even behind a `?`: passwords hold both when nobody escaped them.
    let (hidden, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    format!("{scheme}://{hidden}{rest}")
}

/// A message without the passwords of the URLs that it quotes: a URL may have been put under a
/// wrong key.
fn without_passwords(message: &str) -> String {
    let edge = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '\'');
    message
        .split_inclusive(edge)
        .map(|word| {
            let url = word.trim_end_matches(edge);
            match url.contains("://") {
                true => format!("{}{}", without_password(url), &word[url.len()..]),
                false => word.to_owned(),
            }
        })
        .collect()
}

mod duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer).map_err(|error| {
            serde::de::Error::custom(format!(
                "{error}; a duration is written like \"500ms\", \"15m\" or \"7d\""
            ))
        })?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!(
                "\"{text}\" is not a duration ({error}); write it like \"500ms\", \"15m\" or \"7d\""
            ))
        })
    }
}

/// A duration, or none: left out, or for the environment's sake empty.
mod optional_duration {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) if !text.is_empty() => {
                duration::deserialize(de::value::StringDeserializer::<D::Error>::new(text))
                    .map(Some)
            }
            _ => Ok(None),
        }
    }
}

mod size {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &ByteSize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", value.as_u64()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ByteSize, D::Error> {
        deserializer.deserialize_any(Written)
    }

    /// A number alone is bytes: the environment knows no other way to say it.
    struct Written;

    impl de::Visitor<'_> for Written {
        type Value = ByteSize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size, written like \"512KiB\" or \"64MiB\"")
        }

        fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
            Ok(ByteSize::b(bytes))
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
            let negative = |_| E::invalid_value(de::Unexpected::Signed(bytes), &self);
            u64::try_from(bytes).map(ByteSize::b).map_err(negative)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
            ByteSize::from_str(text).map_err(|error| {
                E::custom(format!(
                    "\"{text}\" is not a size ({error}); write it like \"512KiB\" or \"64MiB\""
                ))
            })
        }
    }
}
