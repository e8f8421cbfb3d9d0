//! How what nobody needs any more is removed, and how what there is is counted.

use diesel::sql_types::BigInt;
#[cfg(feature = "postgres")]
use diesel_async::AsyncPgConnection;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;
use session_core::Timestamp;

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{FORGET_TOMBSTONES, TurnRow};
#[cfg(feature = "sqlite")]
use super::super::sqlite::{AsyncSqliteConnection, SqliteStore};
use super::super::stats::StatsRow;
use super::super::store::{Pruned, Retention, StoreStats};
use super::super::types::{Time, sql};
use super::connections::Sends;
use crate::error::StoreError;

macro_rules! upkeep {
    ($store:ty, $connection:ty) => {
        impl $store {
            pub(super) async fn remove_old(
                &self,
                now: Timestamp,
                keep: Retention,
                limit: u32,
            ) -> Result<Pruned, StoreError> {
                let forget = Time(now - keep.tombstones);
                let expired = Time(now - keep.expired);
                let limit = i64::from(limit);
                let pruning = async move |connection: &mut $connection| {
                    let turn = diesel::sql_query(Self::DIALECT.prune_turn)
                        .get_result::<TurnRow>(connection)
                        .await?;
                    if !turn.turn {
                        return Ok(Pruned::default());
                    }
                    diesel::sql_query(FORGET_TOMBSTONES)
                        .bind::<sql::Instant, _>(forget)
                        .execute(connection)
                        .await?;
                    let tombstones = diesel::sql_query(Self::DIALECT.delete_tombstones)
                        .bind::<BigInt, _>(limit)
                        .execute(connection)
                        .await?;
                    let sessions = diesel::sql_query(Self::DIALECT.delete_expired)
                        .bind::<sql::Instant, _>(expired)
                        .bind::<BigInt, _>(limit)
                        .execute(connection)
                        .await?;
                    Ok(Pruned {
                        tombstones: tombstones as u64,
                        sessions: sessions as u64,
                    })
                };
                self.run("prune", Sends::Write, move |connection| {
                    async move { connection.transaction(pruning).await }.boxed()
                })
                .await
            }

            pub(super) async fn count(&self, now: Timestamp) -> Result<StoreStats, StoreError> {
                let counted = self.run("stats", Sends::Read, move |connection| {
                    let query =
                        diesel::sql_query(Self::DIALECT.stats).bind::<sql::Instant, _>(Time(now));
                    async move { query.get_result::<StatsRow>(connection).await }.boxed()
                });
                Ok(counted.await?.into())
            }
        }
    };
}

#[cfg(feature = "postgres")]
upkeep!(PostgresStore, AsyncPgConnection);
#[cfg(feature = "sqlite")]
upkeep!(SqliteStore, AsyncSqliteConnection);
