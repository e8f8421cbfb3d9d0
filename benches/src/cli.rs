//! What the program is told.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum as _};

use crate::apps::Kind;
use crate::chapter::Chapter;
use crate::memory::Holds;

/// Measures what sessions cost, beside the peers, and writes docs/results.md from it.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// A few seconds for each chapter; nothing is written.
    #[arg(long)]
    pub(crate) quick: bool,
    /// What to measure; all if none is named.
    #[arg(value_enum)]
    chapters: Vec<Chapter>,
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

impl Cli {
    pub(crate) fn chapters(&self) -> Vec<Chapter> {
        match self.chapters.is_empty() {
            true => Chapter::value_variants().to_vec(),
            false => self.chapters.clone(),
        }
    }
}

/// What else it does.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Runs one contender of the chapter `hot` so many times and nothing else, for counting
    /// instructions under valgrind: those of one operation are (I(2N) - I(N)) / N.
    Once {
        /// Which; an unknown one prints their names.
        contender: String,
        /// How many times.
        times: u64,
    },
    /// A server of the chapter `http`.
    #[command(hide = true)]
    Serve {
        kind: Kind,
        sessions: usize,
        /// Where its cookies are to be written.
        cookies: PathBuf,
    },
    /// A node of the chapter `scale`.
    #[command(hide = true)]
    Node {
        /// The folder with what the nodes share.
        place: PathBuf,
    },
    /// A process of the chapter `memory`.
    #[command(hide = true)]
    Hold { holds: Holds, sessions: usize },
}
