//! How a lineage begins: by the feed that notices that the history has moved, or by hand.
//!
//! Of several nodes that notice at once, one begins it: each names the lineage that is over, and
//! nothing happens if another has begun since.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use session_core::Lineage;

#[cfg(feature = "postgres")]
use super::super::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use super::super::sqlite::SqliteStore;
use super::connections::Sends;
use crate::error::StoreError;

/// What keeps the database from numbering changes, and what to do about it.
#[derive(diesel::QueryableByName)]
struct Fault {
    #[diesel(sql_type = Nullable<Text>)]
    fault: Option<String>,
}

impl Fault {
    /// No lineage can begin where changes are not numbered: nobody would hear of them.
    fn refuse(self) -> Result<(), StoreError> {
        match self.fault {
            Some(fault) => Err(StoreError::permanent("renew_lineage", fault)),
            None => Ok(()),
        }
    }
}

#[cfg(feature = "postgres")]
impl PostgresStore {
    pub(super) async fn begin_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        let begun = self.run_in(
            &self.feed,
            "renew_lineage",
            Sends::Write,
            move |connection| {
                let query = diesel::sql_query("SELECT sessions_begin_lineage($1) AS fault")
                    .bind::<BigInt, _>(lost.get());
                async move { query.get_result::<Fault>(connection).await }.boxed()
            },
        );
        begun.await?.refuse()
    }
}

/// The triggers of the migrations that are missing.
#[cfg(feature = "sqlite")]
macro_rules! missing {
    () => {
        "(SELECT 'sessions_keep_id' AS name UNION ALL SELECT 'sessions_keep_row' \
            UNION ALL SELECT 'sessions_keep_rowid' UNION ALL SELECT 'sessions_use_id_once' \
            UNION ALL SELECT 'sessions_keep_others' UNION ALL SELECT 'sessions_number_insert' \
            UNION ALL SELECT 'sessions_number_update' UNION ALL SELECT 'sessions_leave_tombstone' \
            UNION ALL SELECT 'session_tombstones_stay' UNION ALL SELECT 'session_tombstones_keep' \
            UNION ALL SELECT 'users_touch_sessions' \
            UNION ALL SELECT 'users_end_sessions' UNION ALL SELECT 'users_begin_inactive' \
            UNION ALL SELECT 'sessions_begin_inactive' UNION ALL SELECT 'sessions_become_inactive' UNION ALL SELECT 'users_replace' \
            UNION ALL SELECT 'users_replace_others' UNION ALL SELECT 'users_delete_sessions' \
            UNION ALL SELECT 'session_history_begin' UNION ALL SELECT 'session_history_goes_on' \
            UNION ALL SELECT 'session_history_stays' \
            UNION ALL SELECT 'session_history_begun') AS wanted \
        WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND sqlite_schema.name = wanted.name)"
    };
}
#[cfg(feature = "sqlite")]
pub(in crate::cold) use missing;

#[cfg(feature = "sqlite")]
const FAULT: &str = concat!(
    "SELECT 'the trigger ' || min(wanted.name) || ' is missing: restore it from the migration' AS fault FROM ",
    missing!()
);

/// Binds: what names the file, the lineage that is over. Nothing if a trigger is missing: in one statement,
/// so that none is dropped in between. Tombstones of before are void, since no record of the new lineage
/// holds their sessions.
#[cfg(feature = "sqlite")]
const BEGIN: &str = concat!(
    "INSERT INTO session_history (only_row, mark, tombstones_since, lineage, file) \
        SELECT 1, mark, mark + 1, random(), $file || ' ' || (SELECT schema_version FROM pragma_schema_version) FROM (\
            SELECT coalesce((SELECT mark FROM session_history), \
                (SELECT max(mark) FROM (SELECT max(changed_at_mark) AS mark FROM sessions \
                    UNION ALL SELECT max(mark) FROM session_tombstones UNION ALL SELECT 1))) AS mark) \
        WHERE NOT EXISTS (SELECT 1 FROM ",
    missing!(),
    ") ON CONFLICT (only_row) DO UPDATE SET tombstones_since = excluded.tombstones_since, \
        lineage = excluded.lineage, file = excluded.file \
        WHERE session_history.lineage = $lost"
);

#[cfg(feature = "sqlite")]
impl SqliteStore {
    pub(super) async fn begin_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        let (file, swaps) = (self.file.name()?, self.file.swaps());
        let begun = self.run_in(
            &self.feed,
            "renew_lineage",
            Sends::Write,
            move |connection| {
                async move {
                    diesel::sql_query(BEGIN)
                        .bind::<Text, _>(file)
                        .bind::<BigInt, _>(lost.get())
                        .execute(connection)
                        .await?;
                    // A trigger that is dropped from here on is another version of the schema.
                    diesel::sql_query(FAULT)
                        .get_result::<Fault>(connection)
                        .await
                }
                .boxed()
            },
        );
        begun.await?.refuse()?;
        self.file.swap_is_known(swaps);
        Ok(())
    }
}
