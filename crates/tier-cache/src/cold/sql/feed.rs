//! What the feed asks, on its own connection.

use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use session_core::Mark;

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{ChangeRow, changes};
#[cfg(feature = "sqlite")]
use super::super::sqlite::SqliteStore;
use super::super::store::Changes;
use super::connections::Sends;
use crate::error::StoreError;

macro_rules! feed {
    ($store:ty) => {
        impl $store {
            pub(super) async fn changes_since(
                &self,
                since: Mark,
                limit: u32,
            ) -> Result<Changes, StoreError> {
                let place = self.asked_of()?;
                let rows = self.run_in(&self.feed, "changes", Sends::Read, move |connection| {
                    let query = Self::changes_query(place)
                        .bind::<BigInt, _>(since.get())
                        .bind::<BigInt, _>(i64::from(limit));
                    async move { query.load::<ChangeRow>(connection).await }.boxed()
                });
                changes(since, limit, &rows.await?)
            }
        }
    };
}

#[cfg(feature = "postgres")]
feed!(PostgresStore);
#[cfg(feature = "sqlite")]
feed!(SqliteStore);

#[cfg(feature = "postgres")]
impl PostgresStore {
    /// The server knows by itself which one it is.
    fn asked_of(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes_query((): ()) -> BoxedSqlQuery<'static, diesel::pg::Pg, SqlQuery> {
        diesel::sql_query(Self::DIALECT.changes).into_boxed()
    }
}

#[cfg(feature = "sqlite")]
impl SqliteStore {
    /// Names the file.
    fn asked_of(&self) -> Result<String, StoreError> {
        // As long as a swap is not known to the lineage, the file counts as another, also if it is the same
        // again: what was read in between bears the lineage's name.
        match self.file.swaps() {
            0 => self.file.name(),
            _ => Ok("swapped".to_owned()),
        }
    }

    fn changes_query(file: String) -> BoxedSqlQuery<'static, diesel::sqlite::Sqlite, SqlQuery> {
        let query = diesel::sql_query(Self::DIALECT.changes).into_boxed();
        query.bind::<diesel::sql_types::Text, _>(file)
    }
}
