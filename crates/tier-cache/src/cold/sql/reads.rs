//! How sessions are read: by their keys, or as lists.

use diesel::dsl::sql;
use diesel::prelude::*;
#[cfg(feature = "postgres")]
use diesel_async::AsyncPgConnection;
use diesel_async::RunQueryDsl;
use diesel_async::pooled_connection::deadpool::Pool;
use futures_util::FutureExt as _;
use session_core::{Key, SessionId, Timestamp, UserId, Version};

use super::super::cursor::Cursor;
#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{SessionRow, Wanted, WantedMany, bundled, session_rows};
use super::super::schema::{session_now, sessions, users};
#[cfg(feature = "sqlite")]
use super::super::sqlite::{AsyncSqliteConnection, SqliteStore};
use super::super::store::Row;
use super::super::types::{Id, Time, sql as schema};
use super::connections::{Connections, Sends};
use crate::error::StoreError;

macro_rules! reads {
    ($store:ty, $connection:ty) => {
        impl $store {
            pub(in crate::cold) async fn load_from(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                key: Key,
            ) -> Result<Option<Row>, StoreError> {
                let wanted = Wanted::from(key);
                let row = self.read_here(on, operation, move |connection| {
                    async move {
                        let rows = session_rows!();
                        let row = match wanted {
                            Wanted::Id(id) => {
                                let query = rows.filter(sessions::id.eq(id));
                                query.get_result::<SessionRow>(connection).await
                            }
                            Wanted::Access(hash) => {
                                let query = rows.filter(sessions::access_jti.eq(hash));
                                query.get_result(connection).await
                            }
                            Wanted::Refresh(hash) => {
                                let query = rows.filter(sessions::refresh_token_hash.eq(hash));
                                query.get_result(connection).await
                            }
                        };
                        row.optional()
                    }
                    .boxed()
                });
                Ok(row.await?.map(Into::into))
            }

            pub(in crate::cold) async fn load_many_from(
                &self,
                on: &Connections<Pool<$connection>>,
                operation: &'static str,
                keys: Vec<Key>,
            ) -> Result<Vec<Row>, StoreError> {
                let WantedMany {
                    ids,
                    access,
                    refresh,
                } = WantedMany::from(keys).at_least(Self::DIALECT.least_keys);
                let rows = self.read_here(on, operation, move |connection| {
                    async move {
                        let rows = session_rows!();
                        if access.is_empty() && refresh.is_empty() {
                            let query = rows.filter(sessions::id.eq_any(ids));
                            return query.load::<SessionRow>(connection).await;
                        }
                        if ids.is_empty() && refresh.is_empty() {
                            let query = rows.filter(sessions::access_jti.eq_any(access));
                            return query.load(connection).await;
                        }
                        let wanted = sessions::id
                            .eq_any(ids)
                            .nullable()
                            .or(sessions::access_jti.eq_any(access))
                            .or(sessions::refresh_token_hash.eq_any(refresh));
                        rows.filter(wanted).load(connection).await
                    }
                    .boxed()
                });
                Ok(rows.await?.into_iter().map(Into::into).collect())
            }

            pub(super) async fn recently_seen(
                &self,
                now: Timestamp,
                limit: u32,
            ) -> Result<Vec<SessionId>, StoreError> {
                let ids = self.run("recent", Sends::Read, move |connection| {
                    let query = sessions::table
                        .filter(sessions::is_active.eq(true))
                        .filter(sessions::revoked_at.is_null())
                        .filter(sessions::expires_at.gt(Time(now)))
                        .order(sessions::last_seen_at.desc())
                        .limit(i64::from(limit))
                        .select(sessions::id);
                    async move { query.load::<Id>(connection).await }.boxed()
                });
                Ok(ids.await?.into_iter().map(|id| id.0).collect())
            }

            pub(super) async fn live_of(
                &self,
                user: UserId,
                now: Timestamp,
                after: Option<Cursor>,
                limit: u32,
            ) -> Result<Vec<Row>, StoreError> {
                let user = bundled("list", user)?;
                let after = after.unwrap_or(Cursor::START);
                let rows = self.run("list", Sends::Read, move |connection| {
                    let seen = || sql::<schema::Instant>(Self::DIALECT.last_seen_at);
                    let query = session_rows!()
                        .filter(sessions::user_id.eq(user))
                        .filter(sessions::is_active.eq(true))
                        .filter(sessions::revoked_at.is_null())
                        .filter(sessions::expires_at.gt(Time(now)))
                        .filter(
                            seen().lt(Time(after.last_seen_at)).or(seen()
                                .eq(Time(after.last_seen_at))
                                .and(sessions::id.lt(Id(after.id)))),
                        )
                        .order((seen().desc(), sessions::id.desc()))
                        .limit(i64::from(limit));
                    async move { query.load::<SessionRow>(connection).await }.boxed()
                });
                Ok(rows.await?.into_iter().map(Into::into).collect())
            }

            pub(super) async fn version_of(
                &self,
                id: SessionId,
            ) -> Result<Option<Version>, StoreError> {
                let version = self.read_here(&self.main, "version", move |connection| {
                    let query = sessions::table
                        .filter(sessions::id.eq(Id(id)))
                        .select(sessions::version);
                    async move { query.get_result::<i64>(connection).await.optional() }.boxed()
                });
                Ok(version.await?.map(Version::new))
            }
        }
    };
}

#[cfg(feature = "postgres")]
reads!(PostgresStore, AsyncPgConnection);
#[cfg(feature = "sqlite")]
reads!(SqliteStore, AsyncSqliteConnection);
