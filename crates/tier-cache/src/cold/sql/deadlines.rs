//! How long a store waits for its database.

use std::future::Future;
use std::time::Duration;

use diesel::result::{ConnectionError, Error as DieselError};
use diesel_async::pooled_connection;
use diesel_async::pooled_connection::deadpool::PoolError;

use crate::error::StoreError;

/// Why a connection was refused that will be refused again. Connections that are set up fail with it, in a
/// [`ConnectionError`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cold) struct Unreached(pub(in crate::cold) String);

fn not_connected(operation: &'static str, error: &PoolError) -> StoreError {
    if let PoolError::Backend(pooled_connection::PoolError::ConnectionError(
        ConnectionError::CouldntSetupConfiguration(DieselError::QueryBuilderError(reason)),
    )) = error
        && let Some(unreached) = reason.downcast_ref::<Unreached>()
    {
        return StoreError::unreached(operation, unreached);
    }
    match error {
        PoolError::Backend(reason) => StoreError::transient(operation, reason),
        _ => StoreError::transient(operation, error),
    }
}

/// For a connection, and for what is asked on it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cold) struct Deadlines {
    pub(in crate::cold) connect: Duration,
    pub(in crate::cold) statement: Duration,
}

impl Deadlines {
    /// A connection: free in the pool, or newly made.
    pub(in crate::cold) async fn connected<T>(
        self,
        operation: &'static str,
        connecting: impl Future<Output = Result<T, PoolError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.connect, connecting).await {
            Ok(connected) => connected.map_err(|error| not_connected(operation, &error)),
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
