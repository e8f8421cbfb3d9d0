//! The bundled cold tier: the same code for both databases, which differ only in how one
//! connects to them.

use std::fmt;
use std::future::Future;
#[cfg(feature = "postgres")]
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use session_core::{Key, Lineage, Mark, SessionId, Timestamp, UserId, Version};

use super::queries::{
    CHANGES, ChangeRow, ChangedColumns, CountRow, DELETE_TOMBSTONES, FORGET_TOMBSTONES, IdRow,
    NewRow, RevokedRow, SessionRow, TurnRow, Wanted, WantedMany, bundled, changes, count_live,
    delete_expired, in_scope, moved, revoke_oldest, session_rows,
};
use super::schema::{session_history, session_now, sessions, users};
use super::stats::{StatsRow, stats_of};
use super::store::{
    Change, Changes, ColdStore, Created, Limit, NewSession, Pruned, Retention, Row, Scope,
    StoreStats, WhenFull,
};
use super::types::{Id, Json, Time, sql};
use crate::error::StoreError;
use crate::metrics::Meter;

/// Makes a store of a kind of connection: the struct, and its [`ColdStore`](super::ColdStore).
macro_rules! sql_store {
    (
        $(#[$doc:meta])* $store:ident, $connection:ty, $kind:literal,
        least_keys: $least_keys:literal,
        lock_user: $lock_user:literal, lock_sessions: $lock_sessions:literal,
        not_idle: $not_idle:literal, touch: $touch:literal,
        revoke_all: $revoke_all:expr,
        prune_turn: $prune_turn:literal, skip_locked: $skip_locked:literal,
        idle_since: $idle_since:literal
        $(, listener: $listener:ty, replica: $replica:ty)?
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $store {
            pub(super) pool: Pool<$connection>,
            /// The feed's own connection. In one queue with the loads it would come too late just
            /// when there are many, the node would go blind, and all its hits would be loads too.
            pub(super) feed: Pool<$connection>,
            pub(super) deadlines: Deadlines,
            pub(super) meter: Meter,
            $(
                /// Where the database tells of changes by itself.
                pub(super) listener: $listener,
                /// A copy that takes cold reads, if there is one.
                pub(super) replica: Option<Arc<$replica>>,
                /// The schema that the tables are in, if not the connection's own.
                pub(super) namespace: Option<crate::config::Namespace>,
            )?
        }

        impl $store {
            /// The pool, for an application that keeps tables of its own beside the sessions.
            pub fn pool(&self) -> &Pool<$connection> {
                &self.pool
            }

            /// Runs one statement in a task of its own, which owns the connection until the
            /// database has answered, so that a caller who goes away changes nothing.
            pub(super) async fn run<T, F>(&self, operation: &'static str, statement: F) -> Result<T, StoreError>
            where
                T: Send + 'static,
                F: for<'c> FnOnce(&'c mut $connection) -> BoxFuture<'c, QueryResult<T>>,
                F: Send + 'static,
            {
                self.run_in(&self.pool, operation, statement).await
            }

            async fn run_in<T, F>(
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
                let (pool, deadlines) = (pool.clone(), self.deadlines);
                in_task(operation, async move {
                    Self::ask(&pool, deadlines, operation, statement).await
                })
                .await
            }

            /// The same in the caller's own task. One who goes away costs a connection, so this is for
            /// what is driven to its end in any case; and for reading, since what comes of it nobody
            /// knows.
            async fn run_here<T, F>(
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

            async fn load_from(
                &self,
                pool: &Pool<$connection>,
                operation: &'static str,
                key: Key,
            ) -> Result<Option<Row>, StoreError> {
                let wanted = Wanted::from(key);
                let row = self.run_here(pool, operation, move |connection| {
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

            async fn load_many_from(
                &self,
                pool: &Pool<$connection>,
                operation: &'static str,
                keys: Vec<Key>,
            ) -> Result<Vec<Row>, StoreError> {
                let WantedMany { ids, access, refresh } =
                    WantedMany::from(keys).at_least($least_keys);
                let rows = self.run_here(pool, operation, move |connection| {
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
        }

        #[async_trait]
        impl ColdStore for $store {
            async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
                self.load_from(&self.pool, "load", key).await
            }

            $(
                async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
                    let replica: &Option<Arc<$replica>> = &self.replica;
                    let Some(replica) = replica else {
                        return Vec::new();
                    };
                    if !replica.circuit.may_ask() {
                        return Vec::new();
                    }
                    let (store, pool) = (self.clone(), replica.pool.clone());
                    // It goes on when we do not wait any longer.
                    let load = in_task("load_replica", async move {
                        match keys[..] {
                            [key] => {
                                let row = store.load_from(&pool, "load_replica", key);
                                Ok(Vec::from_iter(row.await?))
                            }
                            _ => store.load_many_from(&pool, "load_replica", keys).await,
                        }
                    });
                    let rows = match tokio::time::timeout(replica.patience, load).await {
                        Ok(answer) => answer,
                        Err(_) => Err(StoreError::transient(
                            "load_replica",
                            "no answer within cold.replica_timeout",
                        )),
                    };
                    match rows {
                        Ok(rows) => {
                            replica.circuit.answered();
                            rows
                        }
                        Err(reason) => {
                            replica.circuit.failed(&reason);
                            Vec::new()
                        }
                    }
                }
            )?

            async fn recent(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>, StoreError> {
                let ids = self.run("recent", move |connection| {
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

            async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
                let version = self.run("version", move |connection| {
                    let query = sessions::table
                        .filter(sessions::id.eq(Id(id)))
                        .select(sessions::version);
                    async move { query.get_result::<i64>(connection).await.optional() }.boxed()
                });
                Ok(version.await?.map(Version::new))
            }

            async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
                self.load_many_from(&self.pool, "load_many", keys).await
            }

            async fn create(
                &self,
                session: NewSession,
                limit: Option<Limit>,
            ) -> Result<Created, StoreError> {
                let (at, replaces) = (Time(session.last_seen_at), session.replaces);
                let row = NewRow::try_from(session)?;
                if limit.is_none() && replaces.is_none() {
                    let created = self.run("create", move |connection| {
                        let insert = diesel::insert_into(sessions::table).values(row);
                        async move { insert.execute(connection).await }.boxed()
                    });
                    created.await?;
                    return Ok(Created::Yes { revoked: Vec::new() });
                }
                let creating = async move |connection: &mut $connection| {
                    if let Some(user) = row.user_id {
                        // Before any session, as a change of the user does it. Logins of one user
                        // go one after the other from here on.
                        diesel::sql_query($lock_user)
                            .bind::<BigInt, _>(user)
                            .execute(connection)
                            .await?;
                    }
                    if replaces.is_some() && limit.is_some() {
                        // More than one may be revoked below.
                        diesel::sql_query($lock_sessions)
                            .bind::<Nullable<sql::Id>, _>(replaces.map(|(old, _)| Id(old)))
                            .bind::<Nullable<BigInt>, _>(row.user_id)
                            .execute(connection)
                            .await?;
                    }
                    if let Some((old, version)) = replaces {
                        let live = sessions::table
                            .filter(sessions::id.eq(Id(old)))
                            .filter(sessions::version.eq(version.get()))
                            .filter(sessions::is_active.eq(true))
                            .filter(sessions::revoked_at.is_null());
                        let revoke = diesel::update(live).set((
                            sessions::is_active.eq(false),
                            sessions::revoked_at.eq(Some(at)),
                        ));
                        if revoke.execute(connection).await? == 0 {
                            return Ok(Created::Overtaken);
                        }
                    }
                    let mut revoked = Vec::new();
                    if let Some((limit, user)) = limit.zip(row.user_id) {
                        let most = i64::from(limit.most.max(1));
                        if limit.when_full == WhenFull::Refuse {
                            let live = diesel::sql_query(count_live!($not_idle))
                                .bind::<sql::Instant, _>(at)
                                .bind::<BigInt, _>(user)
                                .get_result::<CountRow>(connection)
                                .await?;
                            if live.count >= most {
                                return Err(DieselError::RollbackTransaction);
                            }
                        }
                        let rows = diesel::sql_query(revoke_oldest!($not_idle))
                            .bind::<sql::Instant, _>(at)
                            .bind::<BigInt, _>(user)
                            .bind::<BigInt, _>(most - 1)
                            .load::<IdRow>(connection)
                            .await?;
                        revoked.extend(rows.into_iter().map(|row| row.id.0));
                    }
                    diesel::insert_into(sessions::table)
                        .values(row)
                        .execute(connection)
                        .await?;
                    Ok(Created::Yes { revoked })
                };
                self.run("create", move |connection| {
                    async move {
                        match connection.transaction(creating).await {
                            Err(DieselError::RollbackTransaction) => Ok(Created::Full),
                            created => created,
                        }
                    }
                    .boxed()
                })
                .await
            }

            async fn update(
                &self,
                id: SessionId,
                version: Version,
                change: Change,
            ) -> Result<bool, StoreError> {
                let Some(columns) = ChangedColumns::of(change) else {
                    return Ok(self.version(id).await? == Some(version));
                };
                let changed = self.run("update", move |connection| {
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

            async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
                let revoked = self.run("revoke", move |connection| {
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

            async fn revoke_all(
                &self,
                scope: Scope,
                at: Timestamp,
                limit: u32,
            ) -> Result<Vec<SessionId>, StoreError> {
                let user = scope.user.map(|user| bundled("revoke_all", user)).transpose()?;
                loop {
                    let rows = self.run("revoke_all", move |connection| {
                        let update = diesel::sql_query($revoke_all)
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

            async fn touch(
                &self,
                seen: Vec<(SessionId, Timestamp)>,
                interval: Duration,
            ) -> Result<u64, StoreError> {
                let seen = seen.into_iter().map(|(id, at)| {
                    serde_json::json!({ "id": id.to_string(), "at": at.unix_millis() })
                });
                let seen = Json(serde_json::Value::from_iter(seen).to_string().into());
                let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
                let noted = self.run("touch", move |connection| {
                    let update = diesel::sql_query($touch)
                        .bind::<sql::Json, _>(seen)
                        .bind::<BigInt, _>(interval);
                    async move { update.execute(connection).await }.boxed()
                });
                Ok(noted.await? as u64)
            }

            async fn list(
                &self,
                user: UserId,
                now: Timestamp,
                limit: u32,
            ) -> Result<Vec<Row>, StoreError> {
                let user = bundled("list", user)?;
                let rows = self.run("list", move |connection| {
                    let query = session_rows!()
                        .filter(sessions::user_id.eq(user))
                        .filter(sessions::is_active.eq(true))
                        .filter(sessions::revoked_at.is_null())
                        .filter(sessions::expires_at.gt(Time(now)))
                        .order(sessions::last_seen_at.desc())
                        .limit(i64::from(limit));
                    async move { query.load::<SessionRow>(connection).await }.boxed()
                });
                Ok(rows.await?.into_iter().map(Into::into).collect())
            }

            async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
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
                    self.renew_lineage(left).await?;
                    rows = ask().await?;
                }
                changes(since, limit, rows)
            }

            async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
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

            $(
                async fn listen(&self, changed: &(dyn Fn() + Send + Sync)) {
                    <$listener>::listen(&self.listener, changed).await
                }
            )?

            async fn prune(
                &self,
                now: Timestamp,
                keep: Retention,
                limit: u32,
            ) -> Result<Pruned, StoreError> {
                let forget = Time(now - keep.tombstones);
                let expired = Time(now - keep.expired);
                let limit = i64::from(limit);
                let pruning = async move |connection: &mut $connection| {
                    let turn = diesel::sql_query($prune_turn)
                        .get_result::<TurnRow>(connection)
                        .await?;
                    if !turn.turn {
                        return Ok(Pruned::default());
                    }
                    diesel::sql_query(FORGET_TOMBSTONES)
                        .bind::<sql::Instant, _>(forget)
                        .execute(connection)
                        .await?;
                    let tombstones = diesel::sql_query(DELETE_TOMBSTONES)
                        .bind::<BigInt, _>(limit)
                        .execute(connection)
                        .await?;
                    let sessions = diesel::sql_query(delete_expired!($skip_locked))
                        .bind::<sql::Instant, _>(expired)
                        .bind::<BigInt, _>(limit)
                        .execute(connection)
                        .await?;
                    Ok(Pruned {
                        tombstones: tombstones as u64,
                        sessions: sessions as u64,
                    })
                };
                self.run("prune", move |connection| {
                    async move { connection.transaction(pruning).await }.boxed()
                })
                .await
            }

            async fn stats(&self, now: Timestamp) -> Result<Option<StoreStats>, StoreError> {
                let counted = self.run("stats", move |connection| {
                    let query = diesel::sql_query(stats_of!($idle_since))
                        .bind::<sql::Instant, _>(Time(now));
                    async move { query.get_result::<StatsRow>(connection).await }.boxed()
                });
                Ok(Some(counted.await?.into()))
            }

            fn kind(&self) -> &'static str {
                $kind
            }
        }

        impl fmt::Debug for $store {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($store))
                    .field("pool", &self.pool.status())
                    .field("deadlines", &self.deadlines)
                    .finish()
            }
        }
    };
}
#[cfg(feature = "postgres")]
sql_store!(
    /// Sessions in PostgreSQL 13 or newer, spoken in Rust.
    PostgresStore,
    diesel_async::AsyncPgConnection,
    "postgres",
    // For a list that it does not know the planner assumes ten keys. One that is shorter it plans
    // anew each time, for what it believes to gain, and that takes longer than reading the rows.
    least_keys: 10,
    lock_user: "SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE",
    lock_sessions: "SELECT id FROM sessions WHERE id = $1 \
        OR (user_id = $2 AND is_active AND revoked_at IS NULL) ORDER BY id FOR UPDATE",
    not_idle: "(idle_seconds IS NULL OR last_seen_at + idle_seconds * interval '1 s' > $1)",
    // Who locks many sessions does so in the order of their ids, so that all wait for each other and no
    // more.
    touch: "WITH due AS (\
        SELECT sessions.id, seen.at FROM sessions JOIN (\
            SELECT id, to_timestamp(at / 1000.0) AS at FROM jsonb_to_recordset($1) AS given(id uuid, at bigint)) seen \
            ON seen.id = sessions.id \
        WHERE sessions.last_seen_at <= seen.at - $2 * interval '1 ms' \
        ORDER BY sessions.id FOR UPDATE OF sessions) \
        UPDATE sessions SET last_seen_at = due.at FROM due WHERE sessions.id = due.id",
    revoke_all: concat!(
        "WITH chosen AS MATERIALIZED (", in_scope!(), "), \
        locked AS MATERIALIZED (SELECT sessions.id FROM sessions JOIN chosen USING (id) \
            WHERE is_active AND revoked_at IS NULL ORDER BY sessions.id FOR UPDATE OF sessions), \
        done AS (UPDATE sessions SET is_active = false, revoked_at = $1 FROM locked \
            WHERE sessions.id = locked.id RETURNING sessions.id) \
        SELECT chosen.id, done.id IS NOT NULL AS revoked FROM chosen LEFT JOIN done ON done.id = chosen.id"
    ),
    prune_turn: "SELECT sessions_prune_turn() AS turn",
    skip_locked: "FOR UPDATE SKIP LOCKED",
    idle_since: "last_seen_at + idle_seconds * interval '1 second'",
    listener: super::listen::Listener,
    replica: super::replica::Replica
);

#[cfg(feature = "sqlite")]
sql_store!(
    /// Sessions in a SQLite file, for one machine: all processes open the same file.
    SqliteStore,
    diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>,
    "sqlite",
    least_keys: 1,
    // Writes nothing, but makes the transaction one that writes, before it reads.
    lock_user: "UPDATE users SET is_active = is_active WHERE id = $1",
    // Writers are serial: there is nothing to lock.
    lock_sessions: "SELECT id FROM sessions WHERE id = $1 AND user_id = $2",
    not_idle: "(idle_seconds IS NULL OR last_seen_at + idle_seconds * 1000 > $1)",
    touch: "UPDATE sessions SET last_seen_at = seen.at FROM (\
        SELECT value ->> 'id' AS id, value ->> 'at' AS at FROM json_each($1)) seen \
        WHERE seen.id = sessions.id AND sessions.last_seen_at <= seen.at - $2",
    // Writers are serial: nobody is faster.
    revoke_all: concat!(
        "UPDATE sessions SET is_active = false, revoked_at = $1 WHERE id IN (", in_scope!(), ") \
        RETURNING id, true AS revoked"
    ),
    // And the transaction is the turn.
    prune_turn: "UPDATE session_history SET only_row = only_row RETURNING true AS turn",
    skip_locked: "",
    idle_since: "last_seen_at + idle_seconds * 1000"
);

/// How long a store waits for its database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) statement: Duration,
}

impl Deadlines {
    /// A connection: free in the pool, or newly made.
    pub(super) async fn connected<T, E: fmt::Display>(
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

    async fn answered<T>(
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
pub(super) async fn in_task<T: Send + 'static>(
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
