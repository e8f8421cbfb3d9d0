//! Tier configuration: one struct, from TOML and the environment, with a default for everything.

mod environment;
mod names;
mod namespace;
mod pairs;
mod passwords;
mod sections;
mod state;
mod text;
mod wrong;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use namespace::Namespace;
pub use passwords::{without_password, without_passwords};
pub use sections::{
    ColdConfig, FenceConfig, Holds, HotConfig, OnBlind, Promotion, SessionConfig, Strictness,
    WarmConfig,
};
#[cfg(feature = "sqlite")]
pub(crate) use state::prepare;
pub use state::sqlite_in_state_folder;

use passwords::quotable;

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

impl TierConfig {
    /// Reads TOML text; what it does not name keeps its default.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the key, the value and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config = Self::default().read(Figment::new().merge(Toml::string(text)), None)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads a TOML file, if one is named, and then the environment: `SESSION_FENCE__POLL_INTERVAL`
    /// is `poll_interval` of `[fence]`.
    ///
    /// A variable that looks like an option and is none, such as `SESSION_COLD_URL`, is refused.
    /// Others of that prefix (`SESSION_KEY`, `SESSION_MANAGER`) are left alone, and listed at debug.
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
        self.overlaid_with(file, |_| {})
    }

    /// As [`overlaid`](Self::overlaid), with changes that go over the file and the environment, such as
    /// those of a command line. The whole is checked after them, and not before: a file may name what
    /// is only allowed with a URL that the command line brings.
    ///
    /// ```
    /// # fn main() -> Result<(), tier_cache::ConfigError> {
    /// use tier_cache::TierConfig;
    ///
    /// let config = TierConfig::default().overlaid_with(None, |config| {
    ///     config.cold.url = "postgres://localhost/shop".into();
    ///     config.cold.replica_url = Some("postgres://copy/shop".into());
    /// })?;
    /// assert_eq!(config.cold.url, "postgres://localhost/shop");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn overlaid_with(
        self,
        file: Option<&Path>,
        change: impl FnOnce(&mut Self),
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| ConfigError(format!("cannot read {}: {error}", file.display())))?;
            figment = figment.merge(Toml::string(&text));
        }
        let variables = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        environment::check(variables)?;
        // SESSION_KEY and the like are the application's own; ours name a section and a key.
        let sections = names::sections();
        let env = Env::prefixed(environment::PREFIX)
            .filter(move |rest| environment::is_option(rest.as_str(), &sections))
            .split("__");
        let mut config = self.read(figment.merge(env), file)?;
        change(&mut config);
        config.validate()?;
        Ok(config)
    }

    /// Reads what is `given`, of which `file` is the file.
    fn read(self, given: Figment, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config: Self = Figment::from(Serialized::defaults(self))
            .merge(given)
            .extract()
            .map_err(|error| wrong::told(&error, file))?;
        // The environment has no other word for "none".
        config.warm.url = config.warm.url.filter(|url| !url.is_empty());
        config.cold.replica_url = config.cold.replica_url.filter(|url| !url.is_empty());
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
            ("cold.load_timeout", self.cold.load_timeout),
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
        if self.session.max_per_user == Some(0) {
            return Err(ConfigError::range(
                "session.max_per_user",
                0,
                "at least 1, or left out",
            ));
        }
        if let OnBlind::ServeFor(time) = fence.on_blind
            && (time.is_zero() || time > Duration::from_secs(24 * 60 * 60))
        {
            return Err(ConfigError::range(
                "fence.on_blind.serve_for",
                humantime::format_duration(time),
                "more than 0s and at most 1day",
            ));
        }
        let counts = [
            ("cold.pool_size", self.cold.pool_size, 10_000),
            ("cold.load_concurrency", self.cold.load_concurrency, 10_000),
            ("cold.batch_size", self.cold.batch_size, 10_000),
            ("cold.max_waiting", self.cold.max_waiting, 1_000_000),
        ];
        for (key, value, most) in counts {
            if value == 0 || value > most {
                return Err(ConfigError::range(key, value, &format!("from 1 to {most}")));
            }
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
        if self.warm.lease > Duration::from_secs(60) {
            return Err(ConfigError::range(
                "warm.lease",
                humantime::format_duration(self.warm.lease),
                "at most 1m, or 0s for none",
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
                format_args!("{:?}", quotable(&self.warm.prefix)),
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
        self.check_pairs()
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
