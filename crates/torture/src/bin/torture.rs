//! Runs a plan and prints what it showed; exits with 1 if something was violated.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use torture::{Fault, Plan, Store, run};

/// Real nodes under faults, and a checker of what they said.
#[derive(Parser)]
struct Flags {
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Half an hour, which tells whether memory grows.
    #[arg(long, conflicts_with = "seconds")]
    soak: bool,
    /// On a SQLite file, in place of PostgreSQL.
    #[arg(long)]
    sqlite: bool,
    /// What goes wrong.
    #[arg(long, value_enum, default_value_t = Kinds::All)]
    faults: Kinds,
    /// What happens is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Clients at work at once.
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// The staleness bound, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    bound: u64,
    /// Whether nodes read from a standby of the database too.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    replica: bool,
    /// Draw the histogram into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// Kinds of what goes wrong.
#[derive(Clone, Copy, ValueEnum)]
enum Kinds {
    All,
    /// Those by which no database goes back.
    Outages,
    /// Those by which it does.
    Setbacks,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let this = std::env::current_exe().expect("this program has a path");
    let bound = Duration::from_millis(flags.bound);
    let store = match flags.sqlite {
        true => Store::Sqlite,
        false => Store::Postgres,
    };
    let faults = match flags.faults {
        Kinds::All => Fault::every(store),
        Kinds::Outages => Fault::ALL.into(),
        Kinds::Setbacks => Fault::setbacks(store),
    };
    let report = run(&Plan {
        node: this.with_file_name("torture-node"),
        nodes: flags.nodes,
        clients: flags.clients,
        duration: Duration::from_secs(if flags.soak { 1800 } else { flags.seconds }),
        seed: flags.seed,
        bound,
        promised: bound,
        notify: true,
        redis: true,
        replica: flags.replica,
        by_sql: true,
        faults,
        gate_open: false,
        unaware: false,
        store,
    });
    print!("{report}");
    if let Some(file) = flags.svg {
        std::fs::write(&file, report.svg()).expect("the picture can be written");
    }
    match report.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
