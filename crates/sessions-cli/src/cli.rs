//! What the command is told.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use tier_cache::without_passwords;

use crate::failure::Failure;

/// Looks into the sessions of a service, and ends them.
///
/// It opens the tiers that the service's own configuration names: give it the same file, the same
/// SESSION_… variables and the same root key. The root key is in SESSION_KEY or in a file; it is
/// never an argument, since arguments stand in the list of processes. Nothing here but `migrate`
/// changes the tables.
///
/// Exit codes: 0 done, 1 failed, 2 asked in a wrong way, 130 interrupted. RUST_LOG=warn shows more
/// of what goes wrong.
#[derive(Debug, Parser)]
#[command(name = "sessions", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the sessions are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where the sessions are")]
pub(crate) struct Place {
    /// The TOML file that configures the service's tiers; SESSION_COLD__URL and the like come over
    /// it
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// The database, over all else: postgres://… or sqlite://FILE. A URL with a password is better
    /// put in SESSION_COLD__URL
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) database: Option<String>,

    /// The Redis, over all else; an empty one for none. A URL with a password is better put in
    /// SESSION_WARM__URL
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) redis: Option<String>,

    /// The application's namespace, if it has one
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) namespace: Option<String>,

    /// The file with the root key, in place of SESSION_KEY. Line breaks at the end of a
    /// file or variable are left out, and nothing else
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_file: Option<PathBuf>,

    /// While the root key is rotated: the file with the next one, in place of SESSION_KEY_NEXT
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) next_key_file: Option<PathBuf>,

    /// While the root key is rotated: the file with the one before, in place of SESSION_KEY_RETIRED
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) retired_key_file: Option<PathBuf>,

    /// After a leak: the file with the root key that leaked, in place of SESSION_KEY_LEAKED
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) leaked_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Inspect(Inspect),
    Revoke(Revoke),
    List(List),
    Stats(Stats),
    WarmUp(WarmUp),
    InvalidateCaches(InvalidateCaches),
    Migrate(Migrate),
}

/// Shows what each tier holds of a session, and whether a node would believe Redis.
///
/// This command is a fresh node: what its gate says of the record in Redis is what a node would say
/// that starts now. The hot tiers of other processes cannot be seen from here.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A session's id; or `-`, and a token of it on standard input
    #[arg(value_name = "SESSION")]
    pub(crate) session: Option<String>,

    /// The session of someone else's token, whose `jti` is read from standard input
    #[arg(long, conflicts_with_all = ["session", "refresh"], requires = "issuer")]
    pub(crate) jti: bool,

    /// The session of someone else's refresh token, which is read from standard input
    #[arg(long, conflicts_with = "session", requires = "issuer")]
    pub(crate) refresh: bool,

    /// With --jti or --refresh: who issued the token, as its claim `iss` says
    #[arg(long, value_name = "ISSUER", conflicts_with = "session")]
    pub(crate) issuer: Option<String>,

    /// With --issuer: whom the token was issued to, as its claim `sub` says, if the application names it
    #[arg(long, value_name = "SUBJECT", requires = "issuer")]
    pub(crate) subject: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Ends sessions, and says by when every node refuses them.
///
/// That is fence.staleness_bound after the commit, which must be configured here as for the nodes;
/// usually they hear of it within milliseconds. Where there was nothing to end, that is said, and
/// is no failure.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// A session's id; or `-`, and a token of it on standard input
    #[arg(value_name = "SESSION", conflicts_with_all = ["user", "before", "everyone"])]
    pub(crate) session: Option<String>,

    /// All sessions of the user with this number
    #[arg(long, value_name = "ID", conflicts_with = "everyone")]
    pub(crate) user: Option<i64>,

    /// With --user: all but this session
    #[arg(long, value_name = "SESSION", requires = "user")]
    pub(crate) except: Option<String>,

    /// All sessions that began before this instant, such as 2026-01-31T12:00:00Z; with --user those
    /// of the user. Asks first, but for a user's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
    pub(crate) before: Option<std::time::SystemTime>,

    /// All sessions of all users and guests. Asks first
    #[arg(long, conflicts_with = "before")]
    pub(crate) everyone: bool,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Wait until every node refuses them
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists a user's sessions that are accepted now, the last seen first.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The user's number, as in the table of users
    #[arg(value_name = "USER")]
    pub(crate) user: i64,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Counts what the database and Redis hold, and says how each tier is.
///
/// The database reads all its sessions for it, and must do so within cold.statement_timeout. Of
/// Redis some 200,000 keys are looked at, at most.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Fills Redis with sessions before anybody asks for them, for all nodes: after it came back
/// empty, or before a deploy.
///
/// The hot tier of a node is in the node's own process, and cannot be filled from here.
#[derive(Debug, Args)]
pub(crate) struct WarmUp {
    /// These sessions; without any those that were seen last
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    /// How many of those that were seen last
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        conflicts_with = "ids"
    )]
    pub(crate) most: u32,

    /// Sessions in a second, at most
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_second: u32,
}

/// Has every node, and Redis, forget what is cached. No session ends: each is read from the database
/// once more.
///
/// For use after a restore of which nodes may not notice by themselves: see the page on backups in
/// the documentation. It begins a new lineage in the database. It can be run at any time, under
/// load and while transactions are open, and needs no root key.
#[derive(Debug, Args)]
pub(crate) struct InvalidateCaches {
    /// Wait until every node has done so
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Brings the tables of the database to the version of this release, as a service does that starts.
///
/// For services with `cold.migrate = false`, whose role has no rights to change tables: run it as a role
/// that has them. It needs no root key. Nodes may run meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Change nothing; print the SQL that is to be run, by psql or sqlite3, and that also notes what was
    /// applied
    #[arg(long)]
    pub(crate) print: bool,

    /// With --print: all of it, as for a new database, which need not be there
    #[arg(long, requires = "print")]
    pub(crate) all: bool,
}

/// Reads what the command is told.
///
/// # Errors
///
/// What was asked (`--help`) or what is wrong has been printed; the process ends with this code.
pub(crate) fn read() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // That nobody reads it to its end (`sessions --help | head`) is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let subcommands =
                "say what to do: inspect, revoke, list, stats, warm-up, invalidate-caches or migrate";
            Failure::misused(format_args!("{subcommands} (--help says more)")).told()
        }
        _ => {
            let arguments = std::env::args_os().map(|argument| argument.display().to_string());
            let text = without_passwords(&error.to_string(), arguments);
            // Clap lists what is missing below the first line.
            let told = text.split("\n\n").next().unwrap_or_default();
            let told = told.strip_prefix("error: ").unwrap_or(told);
            Failure::misused(format_args!("{told} (--help says what it takes)")).told()
        }
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
