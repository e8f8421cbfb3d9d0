//! Which settings cannot both hold. `docs/configuration.md` has the same table.

use std::fmt::Display;
use std::time::Duration;

use super::{ColdConfig, ConfigError, OnBlind, Promotion, Strictness, TierConfig};
use crate::cold::WhenFull;

impl TierConfig {
    /// Refuses settings that contradict each other.
    pub(super) fn check_pairs(&self) -> Result<(), ConfigError> {
        let Self {
            session,
            hot,
            warm,
            cold,
            fence,
        } = self;
        let (ttl, max_ttl) = (session.ttl, session.max_ttl);
        refuse(
            ttl > max_ttl,
            ("session.ttl", shown(ttl)),
            ("session.max_ttl", shown(max_ttl)),
            "no session may live longer than session.max_ttl: raise that, or lower session.ttl",
        )?;
        if let Some(idle) = session.idle_ttl {
            refuse(
                idle > max_ttl,
                ("session.idle_ttl", shown(idle)),
                ("session.max_ttl", shown(max_ttl)),
                "session.idle_ttl must be at most session.max_ttl, at which the session ends in any case",
            )?;
            refuse(
                idle < session.touch_interval.saturating_mul(2),
                ("session.idle_ttl", shown(idle)),
                ("session.touch_interval", shown(session.touch_interval)),
                "session.idle_ttl must be at least twice session.touch_interval, or sessions in use would end",
            )?;
        }
        refuse(
            session.touch_interval > max_ttl,
            ("session.touch_interval", shown(session.touch_interval)),
            ("session.max_ttl", shown(max_ttl)),
            "the use of a session would never be noted: lower session.touch_interval",
        )?;
        refuse(
            session.refresh_grace > ttl,
            ("session.refresh_grace", shown(session.refresh_grace)),
            ("session.ttl", shown(ttl)),
            "a replaced refresh token would be answered for as long as the session lives, and its theft never \
             be noticed: lower session.refresh_grace",
        )?;
        refuse(
            session.when_full == WhenFull::Refuse && session.max_per_user.is_none(),
            ("session.when_full", "refuse"),
            ("session.max_per_user", "none"),
            "no login is refused without a limit: set session.max_per_user, or leave session.when_full out",
        )?;
        if let Promotion::Uses { window, .. } = session.promotion {
            refuse(
                window > hot.ttl,
                ("session.promotion.uses.window", shown(window)),
                ("hot.ttl", shown(hot.ttl)),
                "uses are counted while a session is hot: lower the window to hot.ttl at most",
            )?;
        }
        refuse(
            fence.poll_interval > fence.staleness_bound / 2,
            ("fence.poll_interval", shown(fence.poll_interval)),
            ("fence.staleness_bound", shown(fence.staleness_bound)),
            "fence.poll_interval must be at most half of fence.staleness_bound, or one late poll would blind \
             the node",
        )?;
        refuse(
            cold.tombstone_retention < fence.staleness_bound,
            ("cold.tombstone_retention", shown(cold.tombstone_retention)),
            ("fence.staleness_bound", shown(fence.staleness_bound)),
            "traces of deleted sessions must be kept for fence.staleness_bound at least, or nodes would not \
             hear of deletions",
        )?;
        if let OnBlind::ServeFor(time) = fence.on_blind {
            refuse(
                time > hot.ttl,
                ("fence.on_blind.serve_for", shown(time)),
                ("hot.ttl", shown(hot.ttl)),
                "nothing is hot for so long: lower serve_for to hot.ttl at most",
            )?;
            let strictness = match session.strictness {
                Strictness::Trust => "trust",
                Strictness::Version => "version",
                Strictness::Row => "row",
            };
            refuse(
                session.strictness != Strictness::Trust,
                ("fence.on_blind.serve_for", shown(time)),
                ("session.strictness", strictness),
                "strict requests are never served while the database is away: leave on_blind out, or make \
                 only the routes strict that need it",
            )?;
        }
        refuse(
            cold.load_concurrency > cold.pool_size
                && cold.load_concurrency != ColdConfig::default().load_concurrency,
            ("cold.load_concurrency", cold.load_concurrency),
            ("cold.pool_size", cold.pool_size),
            "each load needs a connection: lower cold.load_concurrency, or raise cold.pool_size",
        )?;
        self.check_urls()?;
        let over_tls = |url: &str| url.starts_with("rediss:") || url.starts_with("valkeys:");
        if let (Some(file), Some(url)) = (&warm.ca_file, &warm.url) {
            refuse(
                !over_tls(url),
                ("warm.ca_file", file.display()),
                ("warm.url", super::without_password(url)),
                "no certificate is checked without TLS: write rediss://…, or leave warm.ca_file out",
            )?;
        }
        Ok(())
    }

    /// What depends on which database the URLs name.
    fn check_urls(&self) -> Result<(), ConfigError> {
        let cold = &self.cold;
        let url = || super::without_password(&cold.url);
        let is_sqlite = cold.url.starts_with("sqlite:");
        if let Some(replica) = &cold.replica_url {
            let shown = super::without_password(replica);
            refuse(
                is_sqlite,
                ("cold.replica_url", &shown),
                ("cold.url", &url()),
                "SQLite has no replicas: leave cold.replica_url out",
            )?;
            refuse(
                replica.starts_with("sqlite:"),
                ("cold.replica_url", &shown),
                ("cold.url", &url()),
                "the replica of a PostgreSQL server is another one: write postgres://…",
            )?;
        }
        if let Some(namespace) = &cold.namespace {
            refuse(
                cold.url.starts_with("sqlite://file:"),
                ("cold.namespace", namespace),
                ("cold.url", "sqlite://file:…"),
                "the file's name is made of the namespace, which a `file:` URI does not allow: name a path",
            )?;
        }
        if let Some(file) = &cold.ca_file {
            refuse(
                is_sqlite,
                ("cold.ca_file", file.display()),
                ("cold.url", url()),
                "SQLite needs no certificate: leave cold.ca_file out",
            )?;
            refuse(
                cold.url.contains("sslmode=disable"),
                ("cold.ca_file", file.display()),
                ("cold.url", format!("{}?sslmode=disable", url())),
                "no certificate is checked without TLS: leave out sslmode=disable or cold.ca_file",
            )?;
        }
        Ok(())
    }
}

/// Both keys, both values, and what to do.
fn refuse(
    contradict: bool,
    (key, value): (&str, impl Display),
    (other, of_other): (&str, impl Display),
    why: &str,
) -> Result<(), ConfigError> {
    match contradict {
        false => Ok(()),
        true => Err(ConfigError(format!(
            "{key} = {value} and {other} = {of_other} cannot both hold: {why}"
        ))),
    }
}

fn shown(duration: Duration) -> impl Display {
    humantime::format_duration(duration)
}
