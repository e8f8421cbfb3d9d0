//! Reading from a copy of the database, which may be behind the times, or down.
//!
//! What it says is trusted no further than the fence vouches for it, and where it says nothing the
//! primary is asked; so it makes cold reads cheaper, and decides nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;

use crate::backoff::Backoff;
use crate::error::StoreError;

/// A replica, and when it is worth asking.
pub(super) struct Replica {
    pub(super) pool: Pool<AsyncPgConnection>,
    /// How long a request waits for it before it asks the primary.
    pub(super) patience: Duration,
    failing: Mutex<Option<Failing>>,
}

struct Failing {
    backoff: Backoff,
    /// Until then nobody waits for it.
    until: Instant,
}

impl Replica {
    pub(super) fn new(pool: Pool<AsyncPgConnection>, patience: Duration) -> Self {
        Self {
            pool,
            patience,
            failing: Mutex::new(None),
        }
    }

    /// Whether it answered the last time, or has been left alone for long enough since. Says so to
    /// one caller at a time while it is failing.
    pub(super) fn is_worth_asking(&self) -> bool {
        match &mut *self.failing() {
            None => true,
            Some(failing) => {
                let due = failing.until <= Instant::now();
                if due {
                    failing.until = Instant::now() + failing.backoff.pause();
                }
                due
            }
        }
    }

    pub(super) fn answered(&self) {
        if self.failing().take().is_some() {
            tracing::info!("the replica answers again");
        }
    }

    pub(super) fn failed(&self, reason: &StoreError) {
        let mut failing = self.failing();
        if failing.is_none() {
            tracing::warn!(%reason, "the replica does not answer: the primary takes its reads");
            let mut backoff = Backoff::new();
            *failing = Some(Failing {
                until: Instant::now() + backoff.pause(),
                backoff,
            });
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        // No step of the above can leave it half-changed.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
