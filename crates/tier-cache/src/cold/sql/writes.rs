//! How sessions that are there are changed and revoked.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use session_core::{SessionId, Timestamp, Version};

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{ChangedColumns, RevokedRow, bundled};
use super::super::schema::sessions;
#[cfg(feature = "sqlite")]
use super::super::sqlite::SqliteStore;
use super::super::store::{Change, Scope};
use super::super::types::{Id, Json, Time, sql};
use super::connections::Sends;
use crate::error::StoreError;

/// The end of the year 9999; what comes later is noted as this. Within it the databases can calculate.
const LAST_USE: i64 = 253_402_300_799_999;

/// Nothing is noted more seldom than once in a century.
const LONGEST_INTERVAL: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

macro_rules! writes {
    ($store:ty) => {
        impl $store {
            pub(super) async fn change(
                &self,
                id: SessionId,
                version: Version,
                change: Change,
            ) -> Result<bool, StoreError> {
                let Some(columns) = ChangedColumns::of(change) else {
                    return Ok(self.version_of(id).await? == Some(version));
                };
                let changed = self.run("update", Sends::Write, move |connection| {
                    let live = sessions::table
                        .filter(sessions::id.eq(Id(id)))
                        .filter(sessions::version.eq(version.get()))
                        .filter(sessions::is_active.eq(true))
                        .filter(sessions::revoked_at.is_null());
                    let update = diesel::update(live).set(columns);
                    async move { update.execute(connection).await }.boxed()
                });
                Ok(changed.await? > 0)
            }

            pub(super) async fn note_seen(
                &self,
                seen: Vec<(SessionId, Timestamp)>,
                interval: Duration,
            ) -> Result<u64, StoreError> {
                let seen = seen.into_iter().map(|(id, at)| {
                    let at = at.unix_millis().clamp(0, LAST_USE);
                    serde_json::json!({ "id": id.to_string(), "at": at })
                });
                let seen = Json(serde_json::Value::from_iter(seen).to_string().into());
                let interval = interval.min(LONGEST_INTERVAL).as_millis() as i64;
                let noted = self.run("touch", Sends::Write, move |connection| {
                    let update = diesel::sql_query(Self::DIALECT.touch)
                        .bind::<sql::Json, _>(seen)
                        .bind::<BigInt, _>(interval);
                    async move { update.execute(connection).await }.boxed()
                });
                Ok(noted.await? as u64)
            }

            pub(super) async fn revoke_one(
                &self,
                id: SessionId,
                at: Timestamp,
            ) -> Result<bool, StoreError> {
                let revoked = self.run("revoke", Sends::Write, move |connection| {
                    let live = sessions::table
                        .filter(sessions::id.eq(Id(id)))
                        .filter(sessions::is_active.eq(true))
                        .filter(sessions::revoked_at.is_null());
                    let update = diesel::update(live).set((
                        sessions::is_active.eq(false),
                        sessions::revoked_at.eq(Some(Time(at))),
                    ));
                    async move { update.execute(connection).await }.boxed()
                });
                Ok(revoked.await? > 0)
            }

            pub(super) async fn revoke_within(
                &self,
                scope: Scope,
                at: Timestamp,
                limit: u32,
            ) -> Result<Vec<SessionId>, StoreError> {
                let user = scope.user.map(|user| bundled("revoke_all", user)).transpose()?;
                loop {
                    let rows = self.run("revoke_all", Sends::Write, move |connection| {
                        let update = diesel::sql_query(Self::DIALECT.revoke_all)
                            .bind::<sql::Instant, _>(Time(at))
                            .bind::<Nullable<BigInt>, _>(user)
                            .bind::<Nullable<sql::Id>, _>(scope.only.map(Id))
                            .bind::<Nullable<sql::Id>, _>(scope.except.map(Id))
                            .bind::<Nullable<sql::Instant>, _>(scope.begun_before.map(Time))
                            .bind::<BigInt, _>(i64::from(limit));
                        async move { update.load::<RevokedRow>(connection).await }.boxed()
                    });
                    let rows = rows.await?;
                    let revoked = rows.iter().filter(|row| row.revoked);
                    let revoked: Vec<SessionId> = revoked.map(|row| row.id.0).collect();
                    // Where others were faster with each of them, there may be more.
                    if rows.is_empty() || !revoked.is_empty() {
                        return Ok(revoked);
                    }
                }
            }
        }
    };
}

#[cfg(feature = "postgres")]
writes!(PostgresStore);
#[cfg(feature = "sqlite")]
writes!(SqliteStore);
