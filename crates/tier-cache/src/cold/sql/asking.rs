//! How a store asks its database: who waits for the answer, and what becomes of the connection.

use std::future::Future;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
#[cfg(feature = "postgres")]
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use futures_util::future::BoxFuture;

#[cfg(feature = "sqlite")]
use super::super::file::FileId;
#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use super::super::sqlite::{AsyncSqliteConnection, SqliteStore};
use super::deadlines::Deadlines;
use crate::error::StoreError;

macro_rules! asking {
    ($store:ty, $connection:ty) => {
        impl $store {
            /// Runs one statement in a task of its own, which owns the connection until the
            /// database has answered, so that a caller who goes away changes nothing.
            pub(in crate::cold) async fn run<T, F>(
                &self,
                operation: &'static str,
                statement: F,
            ) -> Result<T, StoreError>
            where
                T: Send + 'static,
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
                F: Send + 'static,
            {
                self.run_in(&self.pool, operation, statement).await
            }

            pub(super) async fn run_in<T, F>(
                &self,
                pool: &Pool<$connection>,
                operation: &'static str,
                statement: F,
            ) -> Result<T, StoreError>
            where
                T: Send + 'static,
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
                F: Send + 'static,
            {
                self.meter.db_query(operation).increment(1);
                let (pool, store) = (pool.clone(), self.clone());
                in_task(operation, async move {
                    let place = store.place();
                    let answer = Self::ask(&pool, store.deadlines, operation, statement).await?;
                    if store.place() != place {
                        let reason = "the database file was replaced meanwhile: what was written may be lost";
                        return Err(StoreError::transient(operation, reason));
                    }
                    Ok(answer)
                })
                .await
            }

            /// The same for a caller who drives it to its end himself in any case: one who goes
            /// away costs a connection.
            pub(super) async fn run_here<T, F>(
                &self,
                pool: &Pool<$connection>,
                operation: &'static str,
                statement: F,
            ) -> Result<T, StoreError>
            where
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
            {
                self.meter.db_query(operation).increment(1);
                Self::ask(pool, self.deadlines, operation, statement).await
            }

            /// A connection that ran out of time, or whose asker went away, is thrown away.
            async fn ask<T, F>(
                pool: &Pool<$connection>,
                deadlines: Deadlines,
                operation: &'static str,
                statement: F,
            ) -> Result<T, StoreError>
            where
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
            {
                let mut lent = Lent {
                    connection: None,
                    throw_away: |connection| drop(Object::take(connection)),
                };
                let connection = deadlines.connected(operation, pool.get()).await?;
                let connection = lent.connection.insert(connection);
                let answer = deadlines.answered(operation, statement(connection)).await?;
                drop(lent.connection.take());
                answer.map_err(|error| failed(operation, error))
            }
        }
    };
}

#[cfg(feature = "postgres")]
impl PostgresStore {
    /// Where a statement is run; the same for all, since a server that is replaced closes its
    /// connections.
    fn place(&self) {}
}

#[cfg(feature = "sqlite")]
impl SqliteStore {
    /// Where a statement is run: a file that was replaced goes on taking what is written to it.
    fn place(&self) -> Option<FileId> {
        self.file.id()
    }
}

#[cfg(feature = "postgres")]
asking!(PostgresStore, AsyncPgConnection);
#[cfg(feature = "sqlite")]
asking!(SqliteStore, AsyncSqliteConnection);

/// A connection, which goes back to its pool only when its statement has been answered.
struct Lent<C> {
    /// `None` once it has gone back.
    connection: Option<C>,
    throw_away: fn(C),
}

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        self.connection.take().map(self.throw_away);
    }
}

/// Drives `work` to its end even if the caller goes away.
pub(in crate::cold) async fn in_task<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(ended) => Err(StoreError::transient(operation, ended)),
    }
}

fn failed(operation: &'static str, error: DieselError) -> StoreError {
    match &error {
        DieselError::DatabaseError(kind, info) => match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation => StoreError::permanent(operation, error),
            // What SQLite's triggers say in place of a unique key.
            DatabaseErrorKind::Unknown if info.message().ends_with("delete it first") => {
                StoreError::permanent(operation, error)
            }
            _ => StoreError::transient(operation, error),
        },
        _ => StoreError::permanent(operation, error),
    }
}
