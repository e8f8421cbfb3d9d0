//! What the command is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use simulator::{Routing, Workload};
use tier_cache::{ConfigError, TierConfig};

/// Predicts what sessions cost: hit rates, statements, commands and memory.
///
/// Numbers may be written like 1e8, durations like 15s.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
pub(crate) struct Cli {
    /// The configuration of the tiers, as TOML; the environment is read over it. Without one: the
    /// defaults, with PostgreSQL and Redis.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// No Redis, whatever the configuration says.
    #[arg(long)]
    no_redis: bool,
    /// How to predict. By default a trace is played if it is of twenty million events at most.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Seconds of the trace that are counted; by default twice as long as anything is kept.
    #[arg(long, value_parser = number)]
    seconds: Option<f64>,
    /// Makes the trace.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long a statement takes that loads sessions.
    #[arg(long, default_value = "2ms", value_parser = humantime::parse_duration)]
    pub(crate) statement: Duration,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes the plots of docs/scaling.md to this folder, and does nothing else.
    #[arg(long)]
    pub(crate) plots: Option<PathBuf>,

    /// Sessions that are alive at any time.
    #[arg(long, default_value = "1e6", value_parser = number, help_heading = "Workload")]
    sessions: f64,
    /// Nodes of the service.
    #[arg(long, default_value = "10", value_parser = number, help_heading = "Workload")]
    nodes: f64,
    /// Requests per second; by default a hundredth of the sessions.
    #[arg(long, value_parser = number, help_heading = "Workload")]
    requests: Option<f64>,
    /// How unequally they fall on sessions: rank k has a share like k^-zipf.
    #[arg(long, default_value = "0.6", value_parser = number, help_heading = "Workload")]
    zipf: f64,
    /// Requests of a visit, on average.
    #[arg(long, default_value = "10", value_parser = number, help_heading = "Workload")]
    visit: f64,
    /// Time between two requests of a visit, on average.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, help_heading = "Workload")]
    think: Duration,
    /// Logins per second beside those after a revocation; by default as if sessions lived for twelve
    /// hours.
    #[arg(long, value_parser = number, help_heading = "Workload")]
    logins: Option<f64>,
    /// Revocations per second, each with a login after it; by default one for a million sessions.
    #[arg(long, value_parser = number, help_heading = "Workload")]
    revocations: Option<f64>,
    /// Other changes of sessions per second; by default one for a thousand requests.
    #[arg(long, value_parser = number, help_heading = "Workload")]
    updates: Option<f64>,
    /// The part of requests whose handlers ask for the session's body.
    #[arg(long, default_value = "0", value_parser = number, help_heading = "Workload")]
    bodies: f64,
    /// The part of sessions that are found by somebody else's keys.
    #[arg(long, default_value = "0", value_parser = number, help_heading = "Workload")]
    foreign: f64,
    /// Bytes of the application's data in a session.
    #[arg(long, default_value_t = 100, help_heading = "Workload")]
    data: u32,
    /// Bytes of a user's address and name.
    #[arg(long, default_value_t = 32, help_heading = "Workload")]
    name: u32,
    /// Bytes of a device's user agent and label.
    #[arg(long, default_value_t = 120, help_heading = "Workload")]
    device: u32,
    /// How requests come to nodes.
    #[arg(long, value_enum, default_value = "random", help_heading = "Workload")]
    routing: Routing,
}

/// How to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Play a trace, event by event.
    Trace,
    /// Formulas.
    Formula,
    /// Both, one after the other.
    Both,
}

impl Cli {
    pub(crate) fn workload(&self) -> Result<Workload, String> {
        let (sessions, nodes) = (self.sessions as u64, self.nodes as u32);
        let usual = Workload::of(sessions, nodes);
        let workload = Workload {
            requests: self.requests.unwrap_or(usual.requests),
            zipf: self.zipf,
            visit: self.visit,
            think: self.think,
            logins: self.logins.unwrap_or(usual.logins),
            revocations: self.revocations.unwrap_or(usual.revocations),
            updates: self.updates.unwrap_or(usual.updates),
            bodies: self.bodies,
            foreign: self.foreign,
            data: self.data,
            name: self.name,
            device: self.device,
            routing: self.routing,
            ..usual
        };
        workload.validate()?;
        Ok(workload)
    }

    pub(crate) fn tiers(&self) -> Result<TierConfig, ConfigError> {
        let mut config = TierConfig::load(self.config.as_deref())?;
        if self.config.is_none() {
            config.cold.url = "postgres://".into();
            config.warm.url = Some("redis://".into());
        }
        if self.no_redis {
            config.warm.url = None;
        }
        Ok(config)
    }

    /// How to predict, and for how long a trace is to be played before it is counted, and then.
    pub(crate) fn way(&self, workload: &Workload, config: &TierConfig) -> (By, f64, f64) {
        const EVENTS: f64 = 2e7;
        let kept = config.hot.ttl.max(config.warm.ttl).as_secs_f64();
        let seconds = self.seconds.unwrap_or(2.0 * kept);
        let events = workload.requests * (2.0 * kept + seconds);
        let by = match events <= EVENTS && workload.sessions < u64::from(u32::MAX) {
            true => By::Trace,
            false => By::Formula,
        };
        (self.by.unwrap_or(by), 2.0 * kept, seconds)
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number such as 20, 0.6 or 1e8")?;
    match number.is_finite() && number >= 0.0 {
        true => Ok(number),
        false => Err("must be 0 or more".into()),
    }
}
