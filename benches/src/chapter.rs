//! The chapters of the document.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::report::Section;
use crate::{Failure, cold, hot, http, memory, revocation, scale, tail, warm};

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chapter {
    /// What a hot hit costs over the bare service.
    Hot,
    /// What a session in Redis costs beside a bare `GET`.
    Warm,
    /// What a session in PostgreSQL costs beside a bare `SELECT`.
    Cold,
    /// How many bytes a session takes.
    Memory,
    /// What is left of all that over HTTP.
    Http,
    /// What hot hits take at worst, while other things go on.
    Tail,
    /// How long another node still serves a revoked session.
    Revocation,
    /// What one more node costs, and what revocations cost all of them.
    Scale,
}

impl Chapter {
    pub(crate) fn measure(self, effort: Effort) -> Result<Section, Failure> {
        match self {
            Self::Hot => hot::measure(effort),
            Self::Warm => warm::measure(effort),
            Self::Cold => cold::measure(effort),
            Self::Memory => memory::measure(effort),
            Self::Http => http::measure(effort),
            Self::Tail => tail::measure(effort),
            Self::Revocation => revocation::measure(effort),
            Self::Scale => scale::measure(effort),
        }
    }
}

impl fmt::Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
}

impl Effort {
    /// One or the other.
    pub(crate) fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The time of one contender in one round.
    pub(crate) fn slice(self, full: Duration) -> Duration {
        self.of(full, full / 10)
    }
}
