//! How long a store waits for its database.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::error::StoreError;

/// For a connection, and for what is asked on it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cold) struct Deadlines {
    pub(in crate::cold) connect: Duration,
    pub(in crate::cold) statement: Duration,
}

impl Deadlines {
    /// A connection: free in the pool, or newly made.
    pub(in crate::cold) async fn connected<T, E: fmt::Display>(
        self,
        operation: &'static str,
        connecting: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.connect, connecting).await {
            Ok(connected) => connected.map_err(|error| StoreError::transient(operation, error)),
            Err(_) => Err(StoreError::transient(
                operation,
                format_args!(
                    "no connection within cold.connect_timeout ({})",
                    humantime::format_duration(self.connect)
                ),
            )),
        }
    }

    /// An answer on a connection.
    pub(super) async fn answered<T>(
        self,
        operation: &'static str,
        statement: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        /// The database ends a statement by itself; this is for one that has gone silent.
        const GRACE: Duration = Duration::from_millis(250);
        match tokio::time::timeout(self.statement + GRACE, statement).await {
            Ok(answer) => Ok(answer),
            Err(_) => Err(StoreError::transient(
                operation,
                format_args!(
                    "no answer within cold.statement_timeout ({})",
                    humantime::format_duration(self.statement)
                ),
            )),
        }
    }
}
