//! The complete example: an axum service whose sessions live in three tiers.
//!
//! `cargo run --release -p webapp` starts it; `--help` says what else it can be told.
//!
//! | file | says |
//! |---|---|
//! | `cli.rs` | what it is told: flags, environment, a file |
//! | `service.rs` | how it starts, runs and stops |
//! | `server.rs` | connections: how many, and for how long |
//! | `hosts.rs` | by which names it may be called |
//! | `limits.rs` | how often something may be tried |
//! | `files.rs` | files that are their owner's alone |
//! | `secret.rs` | where the key of all tokens comes from |
//! | `accounts.rs`, `passwords.rs` | who may log in |
//! | `activity.rs` | what happened to each user's sessions |
//! | `private_redis.rs` | the Redis that it brings along |
//! | `app.rs` | the routes and what stands before them |
//! | `api/` | the handlers, by topic |
//! | `page/` | the page for people |
//! | `banner.rs` | what it prints at the start |

mod accounts;
mod activity;
mod api;
mod app;
mod banner;
mod cli;
mod files;
mod hosts;
mod limits;
mod page;
mod passwords;
mod private_redis;
mod secret;
mod server;
mod service;
mod signals;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::Settings;
use crate::service::Service;
use crate::signals::Signals;

/// Why the service does not run, in one line for whoever started it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match cli::read() {
        Ok(settings) => settings,
        Err(answered) => return answered,
    };
    log();
    files::make_private();
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            banner::failure(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let service = tokio::select! {
        service = Service::start(settings) => service?,
        // What was started until here is stopped by being dropped.
        () = signals.next() => return Ok(()),
    };
    service.run(signals).await
}

/// To standard error, as much as `RUST_LOG` says.
fn log() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
