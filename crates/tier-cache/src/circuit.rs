//! Whether a server is worth asking, or is left alone for a while since it did not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use metrics::Gauge;
use serde::Serialize;

use crate::backoff::Backoff;
use crate::error::StoreError;

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitState {
    /// It is.
    Closed,
    /// It did not answer, and is asked once, to see whether it does again.
    HalfOpen,
    /// It did not answer, and is left alone for a while: whoever wants something of it is refused
    /// at once, or goes elsewhere.
    Open,
}

impl CircuitState {
    /// As the gauge shows it.
    pub(crate) fn as_number(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Opens after so many failures in a row; then lets one through now and then, and closes at the
/// first answer.
pub(crate) struct Circuit {
    failures: u32,
    says: Says,
    gauge: Gauge,
    state: Mutex<State>,
}

/// What the log is told when it opens, and when it closes.
pub(crate) struct Says {
    pub(crate) opened: &'static str,
    pub(crate) closed: &'static str,
}

enum State {
    /// So many have failed since the last answer.
    Closed(u32),
    Open {
        backoff: Backoff,
        /// Until then nobody asks.
        until: Instant,
        /// Somebody asks.
        trying: bool,
    },
}

impl Circuit {
    pub(crate) fn new(failures: u32, says: Says, gauge: Gauge) -> Self {
        gauge.set(CircuitState::Closed.as_number());
        Self {
            failures,
            says,
            gauge,
            state: Mutex::new(State::Closed(0)),
        }
    }

    /// Whether to ask. While it is open, says so to one caller at a time; who then does not tell what
    /// came of it holds up nothing.
    pub(crate) fn may_ask(&self) -> bool {
        let mut state = self.lock();
        match &mut *state {
            State::Closed(_) => true,
            State::Open {
                backoff,
                until,
                trying,
            } => {
                let due = *until <= Instant::now();
                if due {
                    *until = Instant::now() + backoff.pause();
                    *trying = true;
                    self.show(&state);
                }
                due
            }
        }
    }

    pub(crate) fn answered(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Closed(0)) {
            return;
        }
        let was_open = matches!(*state, State::Open { .. });
        *state = State::Closed(0);
        if was_open {
            tracing::info!("{}", self.says.closed);
            self.show(&state);
        }
    }

    pub(crate) fn failed(&self, reason: &StoreError) {
        let mut state = self.lock();
        match &mut *state {
            State::Closed(failed) if *failed + 1 < self.failures => *failed += 1,
            State::Closed(_) => {
                tracing::warn!(%reason, "{}", self.says.opened);
                let mut backoff = Backoff::new();
                *state = State::Open {
                    until: Instant::now() + backoff.pause(),
                    backoff,
                    trying: false,
                };
                self.show(&state);
            }
            State::Open { trying, .. } => {
                *trying = false;
                self.show(&state);
            }
        }
    }

    pub(crate) fn state(&self) -> CircuitState {
        shown(&self.lock())
    }

    fn show(&self, state: &State) {
        self.gauge.set(shown(state).as_number());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step of the above can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(state: &State) -> CircuitState {
    match state {
        State::Closed(_) => CircuitState::Closed,
        State::Open { trying: true, .. } => CircuitState::HalfOpen,
        State::Open { trying: false, .. } => CircuitState::Open,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn circuit() -> Circuit {
        let says = Says {
            opened: "it does not answer",
            closed: "it answers",
        };
        Circuit::new(3, says, Gauge::noop())
    }

    fn failure() -> StoreError {
        StoreError::transient("load", "as planned")
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let circuit = circuit();
        for _ in 0..10 {
            circuit.failed(&failure());
            circuit.failed(&failure());
            circuit.answered();
        }
        assert_eq!(circuit.state(), CircuitState::Closed);
        for _ in 0..3 {
            assert!(circuit.may_ask());
            circuit.failed(&failure());
        }
        assert_eq!(circuit.state(), CircuitState::Open);
        assert!(!circuit.may_ask());
    }

    #[test]
    fn one_at_a_time_tries_and_an_answer_closes_it() {
        let circuit = circuit();
        for _ in 0..3 {
            circuit.failed(&failure());
        }
        let try_again = || {
            while !circuit.may_ask() {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        try_again();
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.failed(&failure());
        assert_eq!(circuit.state(), CircuitState::Open);
        try_again();
        circuit.answered();
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert!(circuit.may_ask() && circuit.may_ask());
    }
}
