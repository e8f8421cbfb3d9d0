//! What the service is told: flags first, then the environment, then a file, then defaults.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tower_session::TierConfig;
use tower_session::tier_cache::{sqlite_in_state_folder, without_password};

use crate::{Failure, banner};

/// An axum service with tiered sessions: hot in the process, warm in Redis, cold in SQL.
///
/// Sessions are configured by a TOML file and by variables such as SESSION_FENCE__POLL_INTERVAL.
/// SESSION_KEY, of 32 bytes or more and the same on all instances, is the key of all tokens; if it
/// is unset, one is made and kept.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    listen: String,

    // The values of these two may hold passwords: `--help` does not show them.
    /// Where the truth is kept: postgres://… or sqlite://FILE [default: webapp.db in ~/.local/state/webapp]
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,

    /// The Redis to use [default: a private redis-server, if one is installed]
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    redis: Option<String>,

    /// Use no Redis, whatever else names one
    #[arg(long)]
    no_redis: bool,

    /// A TOML file with the configuration of the session tiers
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    policy: Policy,
}

const REAUTHENTICATE_AFTER: &str = "10m";

/// What is demanded of a session beyond that it is valid.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Policy {
    /// How old a login may be for changing the password; after that the password is asked for again
    #[arg(
        long,
        value_name = "DURATION",
        env = "REAUTHENTICATE_AFTER",
        default_value = REAUTHENTICATE_AFTER,
        value_parser = reauthenticate_after
    )]
    pub(crate) reauthenticate_after: Duration,

    /// Demand another login where a session is used by another browser or system than it began on
    #[arg(long)]
    pub(crate) bind_user_agent: bool,
}

/// What the service runs by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: String,
    pub(crate) tiers: TierConfig,
    /// Whether to bring a Redis along, since none is named and none forbidden.
    pub(crate) private_redis: bool,
    pub(crate) policy: Policy,
}

/// Reads what the service is told.
///
/// # Errors
///
/// What was asked (`--help`) or what is wrong has been printed; the process ends with this code.
pub(crate) fn read() -> Result<Settings, ExitCode> {
    const MISUSED: u8 = 2;

    let cli = Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let printed = error.print();
            ExitCode::from(u8::from(printed.is_err()))
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            banner::failure(&format!("{line} (--help says what it takes)").into());
            ExitCode::from(MISUSED)
        }
    })?;
    settings(cli).map_err(|failure| {
        banner::failure(&failure);
        ExitCode::from(MISUSED)
    })
}

fn reauthenticate_after(text: &str) -> Result<Duration, humantime::DurationError> {
    // A variable that is set to nothing is as good as unset.
    let text = if text.is_empty() {
        REAUTHENTICATE_AFTER
    } else {
        text
    };
    humantime::parse_duration(text)
}

fn settings(cli: Cli) -> Result<Settings, Failure> {
    let mut defaults = TierConfig::default();
    defaults.cold.url = sqlite_in_state_folder("webapp.db");
    let tiers = defaults.overlaid_with(cli.config.as_deref(), |tiers| {
        // A variable that is set to nothing is as good as unset.
        let given = |url: Option<String>| url.filter(|url| !url.is_empty());
        if let Some(url) = given(cli.database) {
            tiers.cold.url = url;
        }
        if let Some(url) = given(cli.redis) {
            tiers.warm.url = Some(url);
        }
        if cli.no_redis {
            tiers.warm.url = None;
        }
    })?;

    let scheme = tiers.cold.url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("postgres" | "postgresql" | "sqlite")) {
        let shown = without_password(&tiers.cold.url);
        return Err(format!(
            "the database {shown} is of no kind that is supported: write postgres://… or \
             sqlite://FILE"
        )
        .into());
    }
    Ok(Settings {
        listen: cli.listen,
        private_redis: tiers.warm.url.is_none() && !cli.no_redis,
        policy: cli.policy,
        tiers,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }
}
