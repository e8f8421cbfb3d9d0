//! The statement that the cold tier sends, and the one that somebody sends who has no tiers above
//! it, by diesel-async and a pool of as many connections.

use std::sync::Arc;

use diesel::pg::data_types::PgTimestamp;
use diesel::prelude::*;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use session_core::SessionId;
use testbed::Database;
use uuid::Uuid;

use crate::Failure;
use crate::crowd::Asker;
use crate::sessions::Basket;

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        username -> Text,
        is_active -> Bool,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Nullable<BigInt>,
        is_active -> Bool,
        revoked_at -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
        created_at -> Timestamptz,
        last_seen_at -> Timestamptz,
        access_jti -> Nullable<Binary>,
        refresh_token_hash -> Nullable<Binary>,
        ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        label -> Nullable<Text>,
        data -> Jsonb,
        authenticated_at -> Timestamptz,
        assurance -> SmallInt,
        ttl_seconds -> Nullable<Integer>,
        idle_seconds -> Nullable<Integer>,
        previous_refresh_hash -> Nullable<Binary>,
        refresh_salt -> Nullable<Binary>,
        refreshed_at -> Nullable<Timestamptz>,
        version -> BigInt,
        changed_at_mark -> BigInt,
    }
}

diesel::table! {
    session_now (mark) {
        mark -> BigInt,
        lineage -> BigInt,
        wall -> Timestamptz,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(sessions, users, session_now);

/// All that the cold tier reads.
type Whole = (
    (Option<i64>, Option<i64>, Option<PgTimestamp>),
    (
        Uuid,
        Option<i64>,
        Option<String>,
        Option<String>,
        Option<bool>,
    ),
    (bool, Option<PgTimestamp>, PgTimestamp, i64, i64),
    (Option<Vec<u8>>, Option<Vec<u8>>),
    (Option<String>, Option<String>, Option<String>),
    (PgTimestamp, PgTimestamp, serde_json::Value),
    (PgTimestamp, i16, Option<i32>, Option<i32>),
    (Option<Vec<u8>>, Option<Vec<u8>>, Option<PgTimestamp>),
);

/// What authentication needs, and the application's data.
type Plain = (
    Uuid,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<bool>,
    bool,
    Option<PgTimestamp>,
    PgTimestamp,
    Option<Vec<u8>>,
    serde_json::Value,
);

pub(super) async fn askers(
    database: &Database,
    size: usize,
    ids: &Arc<[SessionId]>,
) -> Result<[Asker; 2], Failure> {
    let mut config = ManagerConfig::default();
    // Asking first whether the connection is alive would be another statement.
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(database.url(), config);
    let pool: Pool<AsyncPgConnection> = Pool::builder(manager).max_size(size).build()?;

    let (same, with) = (pool.clone(), Arc::clone(ids));
    let same = Asker::new("the same statement by hand", move || {
        whole(same.clone(), at_random(&with))
    });
    let ids = Arc::clone(ids);
    let plain = Asker::new("a plain `SELECT` by hand", move || {
        plain(pool.clone(), at_random(&ids))
    });
    Ok([same, plain])
}

fn at_random(ids: &[SessionId]) -> Uuid {
    ids[fastrand::usize(..ids.len())].as_uuid()
}

async fn whole(pool: Pool<AsyncPgConnection>, id: Uuid) {
    let mut connection = pool.get().await.expect("a connection");
    let query = sessions::table
        .left_join(users::table)
        .filter(sessions::id.eq(id))
        .select((
            (
                session_now::table.select(session_now::mark).single_value(),
                session_now::table
                    .select(session_now::lineage)
                    .single_value(),
                session_now::table.select(session_now::wall).single_value(),
            ),
            (
                sessions::id,
                sessions::user_id,
                users::email.nullable(),
                users::username.nullable(),
                users::is_active.nullable(),
            ),
            (
                sessions::is_active,
                sessions::revoked_at,
                sessions::expires_at,
                sessions::version,
                sessions::changed_at_mark,
            ),
            (sessions::access_jti, sessions::refresh_token_hash),
            (sessions::ip, sessions::user_agent, sessions::label),
            (sessions::created_at, sessions::last_seen_at, sessions::data),
            (
                sessions::authenticated_at,
                sessions::assurance,
                sessions::ttl_seconds,
                sessions::idle_seconds,
            ),
            (
                sessions::previous_refresh_hash,
                sessions::refresh_salt,
                sessions::refreshed_at,
            ),
        ));
    let row: Whole = query.get_result(&mut connection).await.expect("its row");
    assert_eq!(items(row.5.2), 1);
}

async fn plain(pool: Pool<AsyncPgConnection>, id: Uuid) {
    let mut connection = pool.get().await.expect("a connection");
    let query = sessions::table
        .left_join(users::table)
        .filter(sessions::id.eq(id))
        .select((
            sessions::id,
            sessions::user_id,
            users::email.nullable(),
            users::username.nullable(),
            users::is_active.nullable(),
            sessions::is_active,
            sessions::revoked_at,
            sessions::expires_at,
            sessions::access_jti,
            sessions::data,
        ));
    let row: Plain = query.get_result(&mut connection).await.expect("its row");
    assert_eq!(items(row.9), 1);
}

fn items(data: serde_json::Value) -> u64 {
    serde_json::from_value::<Basket>(data).map_or(0, |basket| basket.items)
}
