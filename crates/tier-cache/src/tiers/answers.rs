//! Whether the database answers loads: for its circuit, and for health checks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::{Key, SessionId};

use crate::circuit::{Circuit, Says};
use crate::cold::Row;
use crate::error::StoreError;
use crate::metrics::Meter;

/// How loads went.
pub(super) struct Answers {
    circuit: Circuit,
    last: Mutex<Last>,
}

struct Last {
    outcome: Outcome,
    /// A session whose row could be read. It is read again to find out whether loads succeed.
    readable: Option<SessionId>,
}

/// Of the last load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// No answer came.
    NoAnswer,
    /// The row could not be read. The table may have changed, or only this row may be damaged.
    Unreadable,
}

impl Answers {
    pub(super) fn new(meter: &Meter) -> Self {
        /// One may be a hiccup, or a statement that was unlucky.
        const FAILURES: u32 = 5;
        let says = Says {
            opened: "the database does not answer: it is left alone but for a try now and then",
            closed: "the database answers again",
        };
        Self {
            circuit: Circuit::new(FAILURES, says, meter.circuit("cold")),
            last: Mutex::new(Last {
                outcome: Outcome::Good,
                readable: None,
            }),
        }
    }

    pub(super) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    pub(super) fn are_good(&self) -> bool {
        self.last().outcome == Outcome::Good
    }

    /// Notes what became of a load: a row that was found, that there is none, or a failure.
    pub(super) fn note(&self, load: Result<Option<&Row>, &StoreError>) {
        let mut last = self.last();
        match load {
            Ok(Some(row)) => {
                last.outcome = Outcome::Good;
                last.readable = Some(row.head.id);
            }
            // No row was read.
            Ok(None) if last.outcome == Outcome::Unreadable => {}
            Ok(None) => last.outcome = Outcome::Good,
            Err(error) if error.is_unavailable() => last.outcome = Outcome::NoAnswer,
            Err(_) => last.outcome = Outcome::Unreadable,
        }
        drop(last);
        match load {
            Err(error) if error.is_unavailable() => self.circuit.failed(error),
            _ => self.circuit.answered(),
        }
    }

    /// What to load to find out whether loads succeed.
    pub(super) fn probe(&self) -> Key {
        Key::Id(self.last().readable.unwrap_or_else(SessionId::random))
    }

    /// Notes what became of loading [`probe`](Self::probe).
    pub(super) fn note_probe(&self, load: &Result<Option<Row>, StoreError>) {
        if let Ok(None) = load {
            // The session was deleted, or none was read before. Any answer will do.
            let mut last = self.last();
            last.readable = None;
            last.outcome = Outcome::Good;
        }
        self.note(load.as_ref().map(Option::as_ref));
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // No step of the above can leave it half-changed.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
