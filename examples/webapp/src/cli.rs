//! What the service is told: flags first, then the environment, then a file, then defaults.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tower_session::TierConfig;
use tower_session::tier_cache::{sqlite_in_state_folder, without_password, without_passwords};

use crate::{Failure, banner, hosts};

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

    /// Where metrics and the state of each tier are told; port 0 takes a free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "OPERATIONS",
        default_value = OPERATIONS
    )]
    operations: String,

    /// Connections at most; fewer if the system lets the process have fewer descriptors
    #[arg(long, value_name = "NUMBER", default_value_t = 1024, value_parser = at_least_one)]
    max_connections: usize,

    /// How long a client may take nothing of its answer before its connection is closed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "15s",
        value_parser = some_time,
        hide = true
    )]
    slow_client: Duration,

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
const OPERATIONS: &str = "127.0.0.1:0";

/// What is demanded of a session beyond that it is valid.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Policy {
    /// How old a login may be for changing the password and ending sessions; after that the password
    /// is asked for again
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

    /// A name that requests may call this service by, beside `localhost` and addresses; may be
    /// repeated, or separated by commas
    #[arg(
        long = "allow-host",
        value_name = "NAME",
        env = "ALLOW_HOSTS",
        value_delimiter = ',',
        value_parser = hosts::name
    )]
    pub(crate) allow_hosts: Vec<String>,

    /// Clients reach this over TLS, which a proxy ends: tells browsers to use nothing else (HSTS)
    #[arg(long)]
    pub(crate) behind_tls: bool,

    /// A proxy appends the client's address to X-Forwarded-For, and nobody else reaches this
    #[arg(long)]
    pub(crate) trust_forwarded_for: bool,
}

/// What the service runs by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: String,
    pub(crate) operations: String,
    pub(crate) max_connections: usize,
    pub(crate) slow_client: Duration,
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
            let arguments = std::env::args_os().map(|argument| argument.display().to_string());
            let text = without_passwords(&error.to_string(), arguments);
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

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("nobody could connect: give at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}: give a number")),
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("nobody is that quick: give a time such as 15s".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}: give a time such as 15s")),
    }
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
        operations: match cli.operations.as_str() {
            // A variable that is set to nothing is as good as unset.
            "" => OPERATIONS.into(),
            given => given.into(),
        },
        max_connections: cli.max_connections,
        slow_client: cli.slow_client,
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

    #[test]
    fn a_host_that_no_request_can_name_is_refused() {
        let parse = |hosts: &str| Cli::try_parse_from(["webapp", "--allow-host", hosts]);
        let refused = parse("shop.example,x.example:3000").unwrap_err();
        let text = refused.to_string();
        let line = text.lines().next().unwrap();
        for part in ["x.example:3000", "--allow-host", "write x.example"] {
            assert!(line.contains(part), "{line}");
        }
        let cli = parse("shop.example, x.example").unwrap();
        assert_eq!(cli.policy.allow_hosts, ["shop.example", "x.example"]);
    }
}
