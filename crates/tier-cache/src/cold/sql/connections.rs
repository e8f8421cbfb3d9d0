//! Which connections are still used after an error, and what is asked once more.
//!
//! A connection has state that an error may show to be unusable: prepared statements whose plan no longer
//! fits the tables, or that a pooler has dropped. Diesel does not pass on the SQLSTATE, and messages are
//! translated. So only errors that are known to leave a connection as it was put it back into its pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::deadlines::Deadlines;

/// What a statement does, which decides when it may be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cold) enum Sends {
    /// It changes nothing, so it may be sent again after any failure.
    Read,
    /// It may have been carried out although an error came. It is sent again only if it is known that
    /// it was not.
    Write,
}

/// What an error of the database says of the connection that it came by, and of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is in order.
    Keep,
    /// The connection is in order. The statement was undone, since a concurrent one was in its way.
    Overtaken,
    /// The connection may be why: it is closed. The statement changed nothing.
    ReplaceAndRepeat,
    /// As `ReplaceAndRepeat` if the connection still answers; else the statement may have been carried out.
    ReplaceUnlessUndone,
    /// The connection is closed. The statement may have been carried out.
    Replace,
}

impl Verdict {
    pub(super) fn on(error: &DieselError, sends: Sends) -> Self {
        let replace = match sends {
            Sends::Read => Self::ReplaceAndRepeat,
            Sends::Write => Self::ReplaceUnlessUndone,
        };
        match error {
            DieselError::DatabaseError(kind, _) => match kind {
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::RestrictViolation
                | DatabaseErrorKind::ExclusionViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation => Self::Keep,
                DatabaseErrorKind::SerializationFailure => Self::Overtaken,
                _ => replace,
            },
            DieselError::NotFound
            | DieselError::RollbackTransaction
            | DieselError::QueryBuilderError(_)
            | DieselError::SerializationError(_)
            | DieselError::DeserializationError(_) => Self::Keep,
            _ => Self::Replace,
        }
    }

    /// On a failed write, of which is known whether it was undone.
    pub(super) fn of_write(undone: bool) -> Self {
        match undone {
            true => Self::ReplaceAndRepeat,
            false => Self::Replace,
        }
    }

    /// Whether the connection goes back into its pool.
    pub(super) fn keeps(self) -> bool {
        matches!(self, Self::Keep | Self::Overtaken)
    }

    /// Whether to send the statement again, which was sent so many times since `began`.
    pub(super) fn repeats(self, times: u32, began: Instant, deadlines: Deadlines) -> bool {
        /// Many may be quicker than one.
        const OVERTAKEN: u32 = 5;
        match self {
            Self::Keep | Self::Replace | Self::ReplaceUnlessUndone => false,
            Self::Overtaken => times <= OVERTAKEN,
            // An error that took long is one of time, such as `statement_timeout`. The caller does not
            // wait for so long again, and the database is busy.
            Self::ReplaceAndRepeat => times == 1 && began.elapsed() < deadlines.statement / 2,
        }
    }
}

/// A pool, and which of its connections are still used.
#[derive(Clone)]
pub(in crate::cold) struct Connections<P> {
    pub(in crate::cold) pool: P,
    pub(in crate::cold) usable: Usable,
}

/// Which connections of a pool are still used: those that were made after the last error of a kind that
/// others may have too.
#[derive(Clone, Debug, Default)]
pub(in crate::cold) struct Usable {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections from before are replaced when they are next wanted.
    since: Option<Instant>,
    /// How long connections are left alone after that, since replacing them did not help.
    pause: Duration,
}

impl Usable {
    /// Has all connections replaced that were made before. Returns whether it did so: where that was in
    /// vain, it does nothing for a while, so that bad input cannot have connections made all the time.
    pub(super) fn replace_all(&self) -> bool {
        let mut state = self.lock();
        let due = state
            .since
            .is_none_or(|since| since.elapsed() >= state.pause);
        if due {
            state.since = Some(Instant::now());
        }
        due
    }

    /// Notes whether a statement succeeded after [`replace_all`](Self::replace_all).
    pub(super) fn note(&self, helped: bool) {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(60);
        let mut state = self.lock();
        state.pause = match helped {
            true => Duration::ZERO,
            false => (state.pause * 2).clamp(SHORTEST, LONGEST),
        };
    }

    /// Whether to go on with a connection that was made then.
    pub(in crate::cold) fn is(&self, created: Instant) -> bool {
        self.lock().since.is_none_or(|since| created > since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step of the above can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_replaced_again_only_where_that_helps() {
        let usable = Usable::default();
        let before = Instant::now();
        assert!(usable.is(before));
        assert!(usable.replace_all());
        assert!(!usable.is(before) && usable.is(Instant::now()));
        usable.note(true);
        assert!(usable.replace_all());
        for _ in 0..20 {
            usable.note(false);
        }
        assert_eq!(usable.lock().pause, Duration::from_secs(60));
        let made_since = Instant::now();
        assert!(!usable.replace_all());
        assert!(usable.is(made_since));
    }

    #[test]
    fn what_may_have_been_done_is_not_repeated() {
        let deadlines = Deadlines {
            connect: Duration::from_secs(3600),
            statement: Duration::from_secs(3600),
        };
        let now = Instant::now();
        let error = |kind| DieselError::DatabaseError(kind, Box::new("as planned".to_owned()));
        let lost = error(DatabaseErrorKind::UnableToSendCommand);
        let read = Verdict::on(&lost, Sends::Read);
        assert!(read.repeats(1, now, deadlines) && !read.repeats(2, now, deadlines));
        let write = Verdict::on(&lost, Sends::Write);
        assert_eq!(write, Verdict::ReplaceUnlessUndone);
        assert!(!write.repeats(1, now, deadlines));
        assert!(!Verdict::of_write(false).repeats(1, now, deadlines));
        assert!(Verdict::of_write(true).repeats(1, now, deadlines));
        assert!(!read.keeps() && !write.keeps());
        let overtaken = Verdict::on(
            &error(DatabaseErrorKind::SerializationFailure),
            Sends::Write,
        );
        assert!(overtaken.keeps());
        assert!(overtaken.repeats(5, now, deadlines) && !overtaken.repeats(6, now, deadlines));
        let refused = Verdict::on(&error(DatabaseErrorKind::UniqueViolation), Sends::Read);
        assert!(refused.keeps() && !refused.repeats(1, now, deadlines));
        // One that took half of the time that it may take, or more.
        let impatient = Deadlines {
            statement: Duration::ZERO,
            ..deadlines
        };
        assert!(!read.repeats(1, now, impatient));
    }
}
