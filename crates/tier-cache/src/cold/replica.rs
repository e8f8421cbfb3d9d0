//! Reading from a copy of the database, which may be behind the times, or down.
//!
//! What it says is trusted no further than the fence vouches for it, and where it says nothing the
//! primary is asked; so it makes cold reads cheaper, and decides nothing.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;

use crate::circuit::{Circuit, Says};
use crate::metrics::Meter;

/// A replica, and when it is worth asking.
pub(super) struct Replica {
    pub(super) pool: Pool<AsyncPgConnection>,
    /// How long a request waits for it before it asks the primary.
    pub(super) patience: Duration,
    /// Opens at the first failure: the primary is there.
    pub(super) circuit: Circuit,
}

impl Replica {
    pub(super) fn new(pool: Pool<AsyncPgConnection>, patience: Duration, meter: &Meter) -> Self {
        let says = Says {
            opened: "the replica does not answer: the primary takes its reads",
            closed: "the replica answers again",
        };
        Self {
            pool,
            patience,
            circuit: Circuit::new(1, says, meter.circuit("replica")),
        }
    }
}
