//! How a store asks its database: who waits for the answer, and what becomes of the connection.

use std::future::Future;
use std::time::Instant;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
#[cfg(feature = "postgres")]
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::future::BoxFuture;

#[cfg(feature = "sqlite")]
use super::super::file::FileId;
#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use super::super::sqlite::{AsyncSqliteConnection, SqliteStore};
use super::connections::{Connections, Sends, Verdict};
use crate::error::StoreError;

macro_rules! asking {
    ($store:ty, $connection:ty) => {
        impl $store {
            /// Runs one statement, or one transaction, in a task of its own, which owns the connection
            /// until the database has answered, so that a caller who goes away changes nothing.
            pub(in crate::cold) async fn run<T, F>(
                &self,
                operation: &'static str,
                sends: Sends,
                statement: F,
            ) -> Result<T, StoreError>
            where
                T: Send + 'static,
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
                F: Clone + Send + 'static,
            {
                self.run_in(&self.main, operation, sends, statement).await
            }

            pub(super) async fn run_in<T, F>(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                sends: Sends,
                statement: F,
            ) -> Result<T, StoreError>
            where
                T: Send + 'static,
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
                F: Clone + Send + 'static,
            {
                let (on, store) = (on.clone(), self.clone());
                in_task(operation, async move {
                    let place = store.place();
                    let answer = store.ask(&on, operation, sends, statement).await?;
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
            pub(super) async fn read_here<T, F>(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                statement: F,
            ) -> Result<T, StoreError>
            where
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>> + Clone,
            {
                self.ask(on, operation, Sends::Read, statement).await
            }

            /// Asks, and asks once more where that may help.
            async fn ask<T, F>(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                sends: Sends,
                statement: F,
            ) -> Result<T, StoreError>
            where
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>> + Clone,
            {
                let began = Instant::now();
                let (mut times, mut replaced) = (0, false);
                loop {
                    let answer = self.ask_once(on, operation, sends, statement.clone()).await?;
                    let (error, verdict) = match answer {
                        Ok(answer) => {
                            if replaced {
                                on.usable.note(true);
                            }
                            return Ok(answer);
                        }
                        Err(failure) => failure,
                    };
                    times += 1;
                    if replaced {
                        on.usable.note(false);
                    } else if !verdict.keeps() {
                        replaced = on.usable.replace_all();
                        tracing::debug!(operation, %error, replaced, "a connection is closed after an error");
                    }
                    if !verdict.repeats(times, began, self.deadlines) {
                        return Err(failed(operation, error));
                    }
                }
            }

            /// A connection that ran out of time, or whose asker went away, is closed; and one whose error
            /// may be the connection's own.
            async fn ask_once<T, F>(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                sends: Sends,
                statement: F,
            ) -> Result<Result<T, (DieselError, Verdict)>, StoreError>
            where
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
            {
                self.meter.db_query(operation).increment(1);
                let mut lent = Lent {
                    connection: None,
                    close: |connection| drop(Object::take(connection)),
                };
                let connection = self.deadlines.connected(operation, on.pool.get()).await?;
                let connection = lent.connection.insert(connection);
                let answer = self.deadlines.answered(operation, statement(connection)).await?;
                let failure = match answer {
                    Ok(answer) => Ok(answer),
                    Err(error) => {
                        let mut verdict = Verdict::on(&error, sends);
                        if verdict == Verdict::ReplaceUnlessUndone {
                            let undone = Self::still_answers(connection);
                            let undone = self.deadlines.answered(operation, undone).await;
                            verdict = Verdict::of_write(undone.unwrap_or(false));
                        }
                        Err((error, verdict))
                    }
                };
                if failure.as_ref().err().is_none_or(|(_, verdict)| verdict.keeps()) {
                    drop(lent.connection.take());
                }
                Ok(failure)
            }
        }
    };
}

#[cfg(feature = "postgres")]
impl PostgresStore {
    /// Where a statement is run; the same for all, since a server that is replaced closes its
    /// connections.
    fn place(&self) {}

    /// Whether the connection goes on after an error. Then the error was no end of the connection, and
    /// PostgreSQL has undone the statement, or the transaction, that failed.
    async fn still_answers(connection: &mut AsyncPgConnection) -> bool {
        connection.batch_execute("").await.is_ok()
    }
}

#[cfg(feature = "sqlite")]
impl SqliteStore {
    /// Where a statement is run: a file that was replaced goes on taking what is written to it.
    fn place(&self) -> Option<FileId> {
        self.file.id()
    }

    /// Nothing is known of what failed: SQLite reads a changed schema by itself.
    async fn still_answers(_: &mut AsyncSqliteConnection) -> bool {
        false
    }
}

#[cfg(feature = "postgres")]
asking!(PostgresStore, AsyncPgConnection);
#[cfg(feature = "sqlite")]
asking!(SqliteStore, AsyncSqliteConnection);

/// A connection, which goes back to its pool only if it is taken out of here.
struct Lent<C> {
    /// `None` once it has gone back.
    connection: Option<C>,
    close: fn(C),
}

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        self.connection.take().map(self.close);
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
