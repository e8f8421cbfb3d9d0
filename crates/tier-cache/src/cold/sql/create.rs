//! How a session is added: in place of another one, within a user's limit.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Nullable};
#[cfg(feature = "postgres")]
use diesel_async::AsyncPgConnection;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;
use session_core::{SessionId, Version};

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{CountRow, IdRow, NewRow};
use super::super::schema::sessions;
#[cfg(feature = "sqlite")]
use super::super::sqlite::{AsyncSqliteConnection, SqliteStore};
use super::super::store::{Created, Limit, NewSession, WhenFull};
use super::super::types::{Id, Time, sql};
use super::connections::Sends;
use crate::error::StoreError;

macro_rules! create {
    ($store:ty, $connection:ty) => {
        impl $store {
            pub(super) async fn add(
                &self,
                session: NewSession,
                limit: Option<Limit>,
            ) -> Result<Created, StoreError> {
                let (at, replaces) = (Time(session.last_seen_at), session.replaces);
                let row = NewRow::try_from(session)?;
                if limit.is_none() && replaces.is_none() {
                    let created = self.run("create", Sends::Write, move |connection| {
                        let insert = diesel::insert_into(sessions::table).values(row);
                        async move {
                            match insert.execute(connection).await {
                                Err(error) if is_without_user(&error) => Ok(Created::NoUser),
                                created => created.map(|_| Created::Yes {
                                    revoked: Vec::new(),
                                }),
                            }
                        }
                        .boxed()
                    });
                    return created.await;
                }
                let creating = async move |connection: &mut $connection| {
                    Self::lock(connection, row.user_id, replaces, limit).await?;
                    if let Some(replaced) = replaces
                        && !Self::end(connection, replaced, at).await?
                    {
                        return Ok(Created::Overtaken);
                    }
                    let revoked = match limit.zip(row.user_id) {
                        Some((limit, user)) => Self::make_room(connection, user, limit, at).await?,
                        None => Vec::new(),
                    };
                    diesel::insert_into(sessions::table)
                        .values(row)
                        .execute(connection)
                        .await?;
                    Ok(Created::Yes { revoked })
                };
                self.run("create", Sends::Write, move |connection| {
                    async move {
                        match connection.transaction(creating).await {
                            Err(DieselError::RollbackTransaction) => Ok(Created::Full),
                            Err(error) if is_without_user(&error) => Ok(Created::NoUser),
                            created => created,
                        }
                    }
                    .boxed()
                })
                .await
            }

            /// Locks what creating goes by, so that nobody changes it before it is done.
            async fn lock(
                connection: &mut $connection,
                user: Option<i64>,
                replaces: Option<(SessionId, Version)>,
                limit: Option<Limit>,
            ) -> QueryResult<()> {
                if let Some(user) = user {
                    // Before any session, as a change of the user does it. Logins of one user go
                    // one after the other from here on.
                    diesel::sql_query(Self::DIALECT.lock_user)
                        .bind::<BigInt, _>(user)
                        .execute(connection)
                        .await?;
                }
                if replaces.is_some() && limit.is_some() {
                    // More than one may be revoked below.
                    diesel::sql_query(Self::DIALECT.lock_sessions)
                        .bind::<Nullable<sql::Id>, _>(replaces.map(|(old, _)| Id(old)))
                        .bind::<Nullable<BigInt>, _>(user)
                        .execute(connection)
                        .await?;
                }
                Ok(())
            }

            /// Revokes the session that is replaced; `false` if it is not at that version, or no
            /// longer accepted.
            async fn end(
                connection: &mut $connection,
                (old, version): (SessionId, Version),
                at: Time,
            ) -> QueryResult<bool> {
                let live = sessions::table
                    .filter(sessions::id.eq(Id(old)))
                    .filter(sessions::version.eq(version.get()))
                    .filter(sessions::is_active.eq(true))
                    .filter(sessions::revoked_at.is_null());
                let revoke = diesel::update(live).set((
                    sessions::is_active.eq(false),
                    sessions::revoked_at.eq(Some(at)),
                ));
                Ok(revoke.execute(connection).await? > 0)
            }

            /// Revokes what a user has too many of, for one more; rolls back if that is not allowed.
            async fn make_room(
                connection: &mut $connection,
                user: i64,
                limit: Limit,
                at: Time,
            ) -> QueryResult<Vec<SessionId>> {
                let most = i64::from(limit.most.max(1));
                if limit.when_full == WhenFull::Refuse {
                    let live = diesel::sql_query(Self::DIALECT.count_live)
                        .bind::<sql::Instant, _>(at)
                        .bind::<BigInt, _>(user)
                        .get_result::<CountRow>(connection)
                        .await?;
                    if live.count >= most {
                        return Err(DieselError::RollbackTransaction);
                    }
                }
                let rows = diesel::sql_query(Self::DIALECT.revoke_oldest)
                    .bind::<sql::Instant, _>(at)
                    .bind::<BigInt, _>(user)
                    .bind::<BigInt, _>(most - 1)
                    .load::<IdRow>(connection)
                    .await?;
                Ok(rows.into_iter().map(|row| row.id.0).collect())
            }
        }
    };
}

/// The only foreign key of a session that is added is its user's.
fn is_without_user(error: &DieselError) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
    )
}

#[cfg(feature = "postgres")]
create!(PostgresStore, AsyncPgConnection);
#[cfg(feature = "sqlite")]
create!(SqliteStore, AsyncSqliteConnection);
