//! How many sessions of which standing there are.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use session_core::{Lineage, Mark};

use super::store::StoreStats;

/// Counts by the rules of [`Head::standing`](session_core::Head::standing), in one statement, so
/// that it is one snapshot. Binds: now. `idle_since` is the instant from which a session is idle.
macro_rules! stats_of {
    ($idle_since:literal) => {
        concat!(
            "SELECT now.mark, now.lineage, history.tombstones_since, \
                (SELECT count(*) FROM session_tombstones) AS tombstones, counted.* \
            FROM session_now now CROSS JOIN session_history history CROSS JOIN (\
                SELECT count(*) FILTER (WHERE standing = 'live') AS live, \
                    count(*) FILTER (WHERE standing = 'live' AND user_id IS NULL) AS guests, \
                    count(DISTINCT user_id) FILTER (WHERE standing = 'live') AS users, \
                    count(*) FILTER (WHERE standing = 'revoked') AS revoked, \
                    count(*) FILTER (WHERE standing = 'expired') AS expired, \
                    count(*) FILTER (WHERE standing = 'idle') AS idle \
                FROM (SELECT user_id, CASE \
                        WHEN NOT sessions.is_active OR revoked_at IS NOT NULL \
                            OR (user_id IS NOT NULL AND users.is_active IS NOT TRUE) THEN 'revoked' \
                        WHEN expires_at <= $1 THEN 'expired' \
                        WHEN ",
            $idle_since,
            " <= $1 THEN 'idle' ELSE 'live' END AS standing \
                    FROM sessions LEFT JOIN users ON users.id = user_id) standings) counted"
        )
    };
}
pub(super) use stats_of;

/// What [`stats_of`] answers.
#[derive(QueryableByName)]
pub(super) struct StatsRow {
    #[diesel(sql_type = BigInt)]
    mark: i64,
    #[diesel(sql_type = BigInt)]
    lineage: i64,
    #[diesel(sql_type = BigInt)]
    tombstones_since: i64,
    #[diesel(sql_type = BigInt)]
    tombstones: i64,
    #[diesel(sql_type = BigInt)]
    live: i64,
    #[diesel(sql_type = BigInt)]
    guests: i64,
    #[diesel(sql_type = BigInt)]
    users: i64,
    #[diesel(sql_type = BigInt)]
    revoked: i64,
    #[diesel(sql_type = BigInt)]
    expired: i64,
    #[diesel(sql_type = BigInt)]
    idle: i64,
}

impl From<StatsRow> for StoreStats {
    fn from(row: StatsRow) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            live: count(row.live),
            guests: count(row.guests),
            users: count(row.users),
            revoked: count(row.revoked),
            expired: count(row.expired),
            idle: count(row.idle),
            tombstones: count(row.tombstones),
            tombstones_since: Mark::new(row.tombstones_since),
            mark: Mark::new(row.mark),
            lineage: Lineage::new(row.lineage),
        }
    }
}
