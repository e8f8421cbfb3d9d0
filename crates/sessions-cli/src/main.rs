//! An operator's command over the tiers of a service: `sessions inspect`, `revoke`, `list`, `stats`,
//! `warm-up`, `invalidate-caches` and `migrate`.
//!
//! It opens the same tiers as a node of the service, but prunes nothing and serves nobody. Only `migrate`
//! changes the schema.
//!
//! | file | says |
//! |---|---|
//! | `cli.rs` | what it is told |
//! | `opening.rs` | the configuration, the root key, and how the tiers are opened |
//! | `shown.rs` | what names a session: an id, or what stands on standard input |
//! | `inspect.rs`, `inspect/json.rs` | what each tier holds of a session, in words and for machines |
//! | `revoke.rs` | ends sessions |
//! | `list.rs` | a user's sessions |
//! | `stats.rs` | how much each tier holds |
//! | `warm_up.rs`, `progress.rs` | fills Redis, and tells how far it has come |
//! | `invalidate_caches.rs` | has all nodes forget what they cache |
//! | `migrate.rs` | brings the tables to the newest version, or prints the SQL for it |
//! | `output.rs` | what is printed, and how times and strangers' texts are |
//! | `failure.rs` | why the command fails, and with which exit code |

mod cli;
mod failure;
mod inspect;
mod invalidate_caches;
mod list;
mod migrate;
mod opening;
mod output;
mod progress;
mod revoke;
mod shown;
mod stats;
mod warm_up;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match cli::read() {
        Ok(cli) => cli,
        Err(answered) => return answered,
    };
    log();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(error).told(),
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(cli) => ended,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    });
    // A thread may still wait for standard input.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

async fn run(Cli { place, command }: Cli) -> Result<(), Failure> {
    match command {
        Command::Inspect(asked) => inspect::run(&place, asked).await,
        Command::Revoke(asked) => revoke::run(&place, asked).await,
        Command::List(asked) => list::run(&place, asked).await,
        Command::Stats(asked) => stats::run(&place, asked).await,
        Command::WarmUp(asked) => warm_up::run(&place, asked).await,
        Command::InvalidateCaches(asked) => invalidate_caches::run(&place, asked).await,
        Command::Migrate(asked) => migrate::run(&place, asked).await,
    }
}

/// To standard error, what `RUST_LOG` asks for; by default nothing, since what fails is told anyway.
fn log() {
    let Ok(wanted) = std::env::var("RUST_LOG") else {
        return;
    };
    // The driver logs the parameters of statements at debug.
    let filter = EnvFilter::new(format!("{wanted},tokio_postgres=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
