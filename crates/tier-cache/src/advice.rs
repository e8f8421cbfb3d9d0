//! Warnings at the start: what is allowed, but unwise. `docs/configuration.md` explains each by its
//! number.

use std::path::Path;
use std::sync::Arc;

use tokio::time::timeout;

use crate::config::{TierConfig, without_password};
use crate::data::SessionData;
use crate::tiers::Shared;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    number: &'static str,
    text: String,
}

impl Advice {
    fn new(number: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { number, text }
    }

    /// For `tower-session`, which alone knows the cookie.
    #[doc(hidden)]
    pub fn insecure_cookie(name: &str) -> Self {
        let text = format!(
            "the cookie {name} has no Secure, so browsers send it in the clear: leave SessionCookie::insecure out \
             wherever there is TLS"
        );
        Self::new("A07", text)
    }

    pub(crate) fn weak_key() -> Self {
        Self::new(
            "A10",
            "the root key looks as if it could be guessed: make one by `openssl rand -base64 32`, and rotate to it",
        )
    }

    #[cfg(feature = "redis")]
    pub(crate) fn eviction(why: &str) -> Self {
        let text = format!(
            "Redis has maxmemory-policy noeviction, and {why}: writes will fail when its memory is full; set \
             maxmemory and a policy such as volatile-lru"
        );
        Self::new("A05", text)
    }

    /// Its number in `docs/configuration.md`, such as `A01`.
    pub fn number(&self) -> &'static str {
        self.number
    }

    /// Logs it as a warning.
    #[doc(hidden)]
    pub fn give(&self) {
        let Self { number, text } = self;
        tracing::warn!(
            advice = number,
            "{text} ({number} in docs/configuration.md)"
        );
    }
}

/// What the configuration alone tells. `is_release` says whether the build is one for production.
pub(crate) fn of_config(config: &TierConfig, is_release: bool) -> Vec<Advice> {
    let TierConfig {
        session,
        hot,
        warm,
        cold,
        fence,
    } = config;
    let shown = humantime::format_duration;
    let mut advice = Vec::new();
    let mut advise = |number, text: String| advice.push(Advice::new(number, text));
    if warm.url.is_some() && warm.ttl <= hot.ttl {
        let (warm, hot) = (shown(warm.ttl), shown(hot.ttl));
        advise(
            "A01",
            format!(
                "warm.ttl = {warm} is no longer than hot.ttl = {hot}: what leaves the hot tier has left Redis \
                 too; raise warm.ttl to several times hot.ttl"
            ),
        );
    }
    let hiccup = cold.statement_timeout.saturating_add(fence.poll_interval);
    if fence.staleness_bound < hiccup {
        let (bound, hiccup) = (shown(fence.staleness_bound), shown(hiccup));
        advise(
            "A02",
            format!(
                "fence.staleness_bound = {bound} is less than cold.statement_timeout and fence.poll_interval \
                 together ({hiccup}): one slow poll makes the node distrust its caches; raise the bound, or \
                 lower the other two"
            ),
        );
    }
    let file = cold.url.strip_prefix("sqlite://");
    let file = file.map(|file| file.strip_prefix("file:").unwrap_or(file));
    if is_release && file.is_some_and(|file| Path::new(file).is_relative()) {
        let url = without_password(&cold.url);
        advise(
            "A03",
            format!(
                "the SQLite file {url} is in the working directory: started elsewhere, the service would not \
                 find its sessions; name an absolute path in cold.url"
            ),
        );
    }
    if session.idle_ttl.is_none() {
        advise(
            "A06",
            "session.idle_ttl is none: a session that its user left open lasts as long as any other; set it, \
             for instance to 1h"
                .into(),
        );
    }
    if let Some(url) = &warm.url
        && sends_a_password_in_the_clear(url)
    {
        let url = without_password(url);
        advise(
            "A08",
            format!(
                "warm.url = {url} sends its password over the network without TLS: write rediss://…"
            ),
        );
    }
    let waits = [
        (
            "warm.command_timeout",
            warm.command_timeout,
            warm.url.is_some(),
        ),
        ("warm.lease", warm.lease, warm.url.is_some()),
        (
            "cold.replica_timeout",
            cold.replica_timeout,
            cold.replica_url.is_some(),
        ),
    ];
    for (key, wait, counts) in waits {
        if counts && wait >= cold.load_timeout {
            let (wait, most) = (shown(wait), shown(cold.load_timeout));
            advise(
                "A09",
                format!(
                    "{key} = {wait} is no less than cold.load_timeout = {most}: while that server hangs, requests \
                     fail before the database is asked; lower {key}"
                ),
            );
        }
    }
    advice
}

/// Whether a URL of Redis names a password, a server on another machine, and no TLS.
fn sends_a_password_in_the_clear(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    let is_here = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    matches!(url.scheme(), "redis" | "valkey")
        && url.password().is_some_and(|password| !password.is_empty())
        && url.host_str().is_some_and(|host| !is_here(host))
}

/// Asks the database whether a pooler is before it, within the usual timeouts. Whatever goes wrong is
/// told elsewhere.
pub(crate) async fn of_database<D: SessionData>(shared: &Arc<Shared<D>>) -> Option<Advice> {
    let cold = &shared.config.cold;
    if !cold.notify || shared.store.kind() != "postgres" {
        return None;
    }
    let most = cold.connect_timeout.saturating_add(cold.statement_timeout);
    let shares = timeout(most, shared.store.shares_connections()).await;
    shares.unwrap_or(false).then(|| {
        Advice::new(
            "A04",
            "a pooler before PostgreSQL shares its connections between transactions, so no notifications \
             arrive: set cold.notify = false",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The numbers of what is advised.
    fn numbers(change: impl FnOnce(&mut TierConfig), is_release: bool) -> Vec<&'static str> {
        let mut config = TierConfig::default();
        config.cold.url = "postgres://db.internal/app".into();
        config.warm.url = Some("redis://redis.internal".into());
        change(&mut config);
        config.validate().unwrap();
        let advice = of_config(&config, is_release);
        advice.iter().map(Advice::number).collect()
    }

    #[test]
    fn defaults_need_no_advice_whatever_the_servers() {
        assert!(numbers(|_| {}, true).is_empty());
        assert!(numbers(|config| config.warm.url = None, true).is_empty());
        assert!(
            numbers(
                |config| config.cold.url = "sqlite:///var/lib/app.db".into(),
                true
            )
            .is_empty()
        );
        let defaults = TierConfig::default();
        // Where there is a home folder, as there is for whoever builds this.
        if !defaults.cold.url.starts_with("sqlite://sessions.db") {
            assert_eq!(of_config(&defaults, true), []);
        }
    }

    #[test]
    fn each_unwise_setting_is_advised_against() {
        let second = Duration::from_secs(1);
        let alone = |change: fn(&mut TierConfig)| {
            let numbers = numbers(change, true);
            assert_eq!(numbers.len(), 1, "{numbers:?}");
            numbers[0]
        };
        assert_eq!(alone(|config| config.warm.ttl = config.hot.ttl), "A01");
        assert_eq!(alone(|config| config.cold.statement_timeout *= 3), "A02");
        assert_eq!(
            alone(|config| config.cold.url = "sqlite://app.db".into()),
            "A03"
        );
        assert_eq!(
            alone(|config| config.cold.url = "sqlite://file:a.db?mode=rwc".into()),
            "A03"
        );
        assert_eq!(alone(|config| config.session.idle_ttl = None), "A06");
        assert_eq!(
            alone(|config| config.warm.url = Some("redis://:pa55@redis.internal".into())),
            "A08"
        );
        assert_eq!(
            alone(|config| config.warm.command_timeout = config.cold.load_timeout),
            "A09"
        );
        assert_eq!(
            alone(|config| config.warm.lease = config.cold.load_timeout),
            "A09"
        );
        // While developing a file beside the program is what one wants.
        assert!(numbers(|config| config.cold.url = "sqlite://app.db".into(), false).is_empty());
        // Without Redis its settings do not matter.
        assert!(
            numbers(
                |config| (config.warm.url, config.warm.ttl) = (None, second),
                true
            )
            .is_empty()
        );
    }

    #[test]
    fn a_password_that_stays_on_the_machine_or_goes_by_tls_is_none_in_the_clear() {
        for (url, clear) in [
            ("redis://:pa55@10.0.0.7:6379", true),
            ("redis://ada:pa55@redis.internal/0", true),
            ("redis://ada@redis.internal", false),
            ("redis://redis.internal", false),
            ("rediss://:pa55@redis.internal", false),
            ("redis://:pa55@localhost", false),
            ("redis://:pa55@127.0.0.2:7000", false),
            ("redis://:pa55@[::1]", false),
            ("unix:///run/redis.sock?pass=pa55", false),
        ] {
            assert_eq!(sends_a_password_in_the_clear(url), clear, "{url}");
        }
    }
}
