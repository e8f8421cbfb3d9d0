use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why the command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked in a wrong way: exit code 2.
    Misused(String),
    /// It could not be done: exit code 1.
    Failed(String),
    /// By Ctrl-C: exit code 130, as shells have it.
    Interrupted,
}

impl Failure {
    pub(crate) fn misused(reason: impl Display) -> Self {
        Self::Misused(reason.to_string())
    }

    pub(crate) fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }

    /// Tells it in one line on standard error.
    pub(crate) fn told(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Misused(reason) => (reason.as_str(), 2),
            Self::Failed(reason) => (reason.as_str(), 1),
            Self::Interrupted => ("interrupted; what was done until then stays", 130),
        };
        let words: Vec<&str> = text.split_whitespace().map(without_token).collect();
        // That nobody reads it is no reason to panic.
        let _ = writeln!(io::stderr(), "sessions: {}", words.join(" "));
        ExitCode::from(code)
    }
}

impl From<tier_cache::Error> for Failure {
    fn from(error: tier_cache::Error) -> Self {
        Self::failed(error)
    }
}

/// A token that was given where none belongs is quoted nowhere.
fn without_token(word: &str) -> &str {
    match word.contains("sa1_") || word.contains("sr1_") {
        true => "(a token)",
        false => word,
    }
}
