//! Reading from a copy of the database, which may be behind the times, or down.
//!
//! What it says is trusted no further than the fence vouches for it, and where it says nothing the
//! primary is asked; so it makes cold reads cheaper, and decides nothing.

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;
use session_core::Key;

use super::postgres::PostgresStore;
use super::sql::{Connections, in_task};
use super::store::Row;
use crate::circuit::{Circuit, Says};
use crate::error::StoreError;
use crate::metrics::Meter;

/// A replica, and when it is worth asking.
pub(super) struct Replica {
    pub(super) connections: Connections<Pool<AsyncPgConnection>>,
    /// How long a request waits for it before it asks the primary.
    pub(super) patience: Duration,
    /// Opens at the first failure: the primary is there.
    pub(super) circuit: Circuit,
}

impl Replica {
    pub(super) fn new(
        connections: Connections<Pool<AsyncPgConnection>>,
        patience: Duration,
        meter: &Meter,
    ) -> Self {
        let says = Says {
            opened: "the replica does not answer: the primary takes its reads",
            closed: "the replica answers again",
        };
        Self {
            connections,
            patience,
            circuit: Circuit::new(1, says, meter.circuit("replica")),
        }
    }
}

impl PostgresStore {
    /// What the replica holds of these keys; nothing if it does not say so in time.
    pub(super) async fn load_from_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        let Some(replica) = &self.replica else {
            return Vec::new();
        };
        if !replica.circuit.may_ask() {
            return Vec::new();
        }
        let (store, on) = (self.clone(), replica.connections.clone());
        // It goes on when we do not wait any longer.
        let load = in_task("load_replica", async move {
            match keys[..] {
                [key] => {
                    let row = store.load_from(&on, "load_replica", key);
                    Ok(Vec::from_iter(row.await?))
                }
                _ => store.load_many_from(&on, "load_replica", keys).await,
            }
        });
        let rows = match tokio::time::timeout(replica.patience, load).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::transient(
                "load_replica",
                "no answer within cold.replica_timeout",
            )),
        };
        match rows {
            Ok(rows) => {
                replica.circuit.answered();
                rows
            }
            Err(reason) => {
                replica.circuit.failed(&reason);
                Vec::new()
            }
        }
    }
}
