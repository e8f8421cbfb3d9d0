//! The tables of `migrations/`, as both databases hold them.

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        username -> Text,
        is_active -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text};
    use crate::cold::types::sql::{Id, Instant, Json};

    sessions (id) {
        id -> Id,
        user_id -> Nullable<BigInt>,
        is_active -> Bool,
        revoked_at -> Nullable<Instant>,
        expires_at -> Instant,
        created_at -> Instant,
        last_seen_at -> Instant,
        access_jti -> Nullable<Binary>,
        refresh_token_hash -> Nullable<Binary>,
        ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        label -> Nullable<Text>,
        data -> Json,
        authenticated_at -> Instant,
        assurance -> SmallInt,
        ttl_seconds -> Nullable<Integer>,
        idle_seconds -> Nullable<Integer>,
        previous_refresh_hash -> Nullable<Binary>,
        refresh_salt -> Nullable<Binary>,
        refreshed_at -> Nullable<Instant>,
        version -> BigInt,
        changed_at_mark -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::BigInt;
    use crate::cold::types::sql::{Id, Instant};

    session_tombstones (mark, id) {
        id -> Id,
        mark -> BigInt,
        deleted_at -> Instant,
    }
}

diesel::table! {
    session_history (only_row) {
        only_row -> Bool,
        tombstones_since -> BigInt,
        lineage -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::BigInt;
    use crate::cold::types::sql::Instant;

    // A view: the mark of the snapshot that reads it, the lineage that it is of, and the database's clock.
    session_now (mark) {
        mark -> BigInt,
        lineage -> BigInt,
        wall -> Instant,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(
    sessions,
    users,
    session_tombstones,
    session_history,
    session_now
);
