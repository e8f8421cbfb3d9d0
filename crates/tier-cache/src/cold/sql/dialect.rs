//! Where the two databases need different words for the same.

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
use super::super::queries::{
    changes_since, count_live, delete_expired, delete_tombstones, in_scope, revoke_oldest,
};
#[cfg(feature = "sqlite")]
use super::super::sqlite::SqliteStore;
use super::super::stats::stats_of;

/// What is said to one of them.
pub(super) struct Dialect {
    /// Its name, for messages and metrics.
    pub(super) kind: &'static str,
    /// How many keys a list of them names at least.
    pub(super) least_keys: usize,
    /// When a session was last seen, to the millisecond.
    pub(super) last_seen_at: &'static str,
    /// Lets the logins of one user go one after the other. Binds: whose.
    pub(super) lock_user: &'static str,
    /// Locks all that a login may revoke. Binds: which is replaced, whose.
    pub(super) lock_sessions: &'static str,
    /// See [`count_live`].
    pub(super) count_live: &'static str,
    /// See [`revoke_oldest`].
    pub(super) revoke_oldest: &'static str,
    /// Notes when sessions were seen. Binds: which and when, as JSON; after how many milliseconds
    /// that is worth noting.
    pub(super) touch: &'static str,
    /// Revokes what is [`in_scope`], with the same binds.
    pub(super) revoke_all: &'static str,
    /// See [`changes_since`].
    pub(super) changes: &'static str,
    /// Whether it is this transaction's turn to prune.
    pub(super) prune_turn: &'static str,
    /// See [`delete_tombstones`].
    pub(super) delete_tombstones: &'static str,
    /// See [`delete_expired`].
    pub(super) delete_expired: &'static str,
    /// See [`stats_of`].
    pub(super) stats: &'static str,
}

#[cfg(feature = "postgres")]
impl PostgresStore {
    pub(super) const DIALECT: Dialect = {
        /// Binds: when.
        macro_rules! not_idle {
            () => {
                "(idle_seconds IS NULL OR last_seen_at + idle_seconds * interval '1 s' > $1)"
            };
        }
        Dialect {
            kind: "postgres",
            // For a list that it does not know the planner assumes ten keys. One that is shorter it
            // plans anew each time, for what it believes to gain, and that takes longer than reading
            // the rows.
            least_keys: 10,
            // Rows that other programs write are told to the microsecond.
            last_seen_at: "date_trunc('milliseconds', sessions.last_seen_at)",
            lock_user: "SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE",
            lock_sessions: "SELECT id FROM sessions WHERE id = $1 \
                OR (user_id = $2 AND is_active AND revoked_at IS NULL) ORDER BY id FOR UPDATE",
            count_live: count_live!(not_idle!()),
            revoke_oldest: revoke_oldest!(not_idle!()),
            // Who locks many sessions does so in the order of their ids, so that all wait for each
            // other and no more.
            touch: "WITH due AS (\
                SELECT sessions.id, seen.at FROM sessions JOIN (\
                    SELECT id, to_timestamp(at / 1000.0) AS at FROM jsonb_to_recordset($1) AS given(id uuid, at bigint)) seen \
                    ON seen.id = sessions.id \
                WHERE sessions.last_seen_at <= seen.at - $2 * interval '1 ms' \
                ORDER BY sessions.id FOR UPDATE OF sessions) \
                UPDATE sessions SET last_seen_at = due.at FROM due WHERE sessions.id = due.id",
            revoke_all: concat!(
                "WITH chosen AS MATERIALIZED (",
                in_scope!(),
                "), \
                locked AS MATERIALIZED (SELECT sessions.id FROM sessions JOIN chosen USING (id) \
                    WHERE is_active AND revoked_at IS NULL ORDER BY sessions.id FOR UPDATE OF sessions), \
                done AS (UPDATE sessions SET is_active = false, revoked_at = $1 FROM locked \
                    WHERE sessions.id = locked.id RETURNING sessions.id) \
                SELECT chosen.id, done.id IS NOT NULL AS revoked FROM chosen LEFT JOIN done ON done.id = chosen.id"
            ),
            changes: changes_since!(
                mark: "session_mark()",
                horizon: "session_horizon()",
                moved: "session_moved()",
            ),
            prune_turn: "SELECT sessions_prune_turn() AS turn",
            delete_tombstones: delete_tombstones!("session_horizon()"),
            delete_expired: delete_expired!("FOR UPDATE SKIP LOCKED"),
            stats: stats_of!("last_seen_at + idle_seconds * interval '1 second'"),
        }
    };
}

#[cfg(feature = "sqlite")]
impl SqliteStore {
    pub(super) const DIALECT: Dialect = {
        /// Binds: when.
        macro_rules! not_idle {
            () => {
                "(idle_seconds IS NULL OR last_seen_at + idle_seconds * 1000 > $1)"
            };
        }
        Dialect {
            kind: "sqlite",
            least_keys: 1,
            last_seen_at: "sessions.last_seen_at",
            // Writes nothing, but makes the transaction one that writes, before it reads.
            lock_user: "UPDATE users SET is_active = is_active WHERE id = $1",
            // Writers are serial: there is nothing to lock.
            lock_sessions: "SELECT id FROM sessions WHERE id = $1 AND user_id = $2",
            count_live: count_live!(not_idle!()),
            revoke_oldest: revoke_oldest!(not_idle!()),
            touch: "UPDATE sessions SET last_seen_at = seen.at FROM (\
                SELECT value ->> 'id' AS id, value ->> 'at' AS at FROM json_each($1)) seen \
                WHERE seen.id = sessions.id AND sessions.last_seen_at <= seen.at - $2",
            // Writers are serial: nobody is faster.
            revoke_all: concat!(
                "UPDATE sessions SET is_active = false, revoked_at = $1 WHERE id IN (",
                in_scope!(),
                ") \
                RETURNING id, true AS revoked"
            ),
            changes: changes_since!(
                mark: "history.mark + 1",
                horizon: "mark + 1 FROM session_history",
                moved: "CASE \
                    WHEN history.only_row IS NULL THEN 'session_history has no row' \
                    WHEN history.file IS NOT $file || ' ' || (SELECT schema_version FROM pragma_schema_version) \
                        THEN 'the file was replaced, restored or vacuumed, or its schema changed' \
                    WHEN history.tombstones_since > history.mark + 1 \
                        THEN 'session_history.tombstones_since was in the future' \
                END",
            ),
            // And the transaction is the turn.
            prune_turn: "UPDATE session_history SET only_row = only_row RETURNING true AS turn",
            delete_tombstones: delete_tombstones!("mark + 1 FROM session_history"),
            delete_expired: delete_expired!(""),
            stats: stats_of!("last_seen_at + idle_seconds * 1000"),
        }
    };
}
