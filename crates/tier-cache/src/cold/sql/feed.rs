//! What the feed asks, on its own connection.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use session_core::{Lineage, Mark};

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{CHANGES, ChangeRow, changes, moved};
use super::super::schema::session_history;
#[cfg(feature = "sqlite")]
use super::super::sqlite::SqliteStore;
use super::super::store::Changes;
use crate::error::StoreError;

macro_rules! feed {
    ($store:ty) => {
        impl $store {
            pub(super) async fn changes_since(
                &self,
                since: Mark,
                limit: u32,
            ) -> Result<Changes, StoreError> {
                let ask = || {
                    self.run_in(&self.feed, "changes", move |connection| {
                        let query = diesel::sql_query(CHANGES)
                            .bind::<BigInt, _>(since.get())
                            .bind::<BigInt, _>(i64::from(limit));
                        async move { query.load::<ChangeRow>(connection).await }.boxed()
                    })
                };
                let mut rows = ask().await?;
                if let Some(left) = moved(&rows) {
                    self.begin_lineage(left).await?;
                    rows = ask().await?;
                }
                changes(since, limit, rows)
            }

            pub(super) async fn begin_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
                let next = Lineage::random();
                let renewed = self.run_in(&self.feed, "renew_lineage", move |connection| {
                    let update = diesel::update(session_history::table)
                        .filter(session_history::lineage.eq(lost.get()))
                        .set(session_history::lineage.eq(next.get()));
                    async move { update.execute(connection).await }.boxed()
                });
                if renewed.await? > 0 {
                    tracing::warn!(
                        "the database goes on from a backup or a copy: nothing that was cached before is served"
                    );
                }
                Ok(())
            }
        }
    };
}

#[cfg(feature = "postgres")]
feed!(PostgresStore);
#[cfg(feature = "sqlite")]
feed!(SqliteStore);
