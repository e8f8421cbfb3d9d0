//! What is read and written, as rows and as SQL; the same for both databases.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use session_core::{Device, Head, Key, Lineage, Mark, SessionId, Timestamp, User, UserId, Version};

use super::schema::sessions;
use super::store::{Change, Changed, Changes, NewSession, RawBody, Rotation, Row};
use super::types::{Hash, Id, Json, Salted, Time, sql};
use crate::error::StoreError;

/// Sessions with their users, each with the mark of the snapshot: see [`SessionRow`].
macro_rules! session_rows {
    () => {
        sessions::table.left_join(users::table).select((
            session_now::table.select(session_now::mark).single_value(),
            session_now::table
                .select(session_now::lineage)
                .single_value(),
            session_now::table.select(session_now::wall).single_value(),
            sessions::id,
            sessions::user_id,
            users::email.nullable(),
            users::username.nullable(),
            users::is_active.nullable(),
            sessions::is_active,
            sessions::revoked_at,
            sessions::expires_at,
            sessions::version,
            sessions::changed_at_mark,
            sessions::access_jti,
            sessions::refresh_token_hash,
            sessions::ip,
            sessions::user_agent,
            sessions::label,
            sessions::created_at,
            sessions::last_seen_at,
            sessions::data,
            sessions::authenticated_at,
            sessions::assurance,
            sessions::ttl_seconds,
            sessions::idle_seconds,
            sessions::previous_refresh_hash,
            sessions::refresh_salt,
            sessions::refreshed_at,
        ))
    };
}
pub(super) use session_rows;

/// A row of [`session_rows`].
#[derive(Queryable)]
pub(super) struct SessionRow {
    mark: Option<i64>,
    lineage: Option<i64>,
    wall: Option<Time>,
    id: Id,
    user_id: Option<i64>,
    email: Option<String>,
    username: Option<String>,
    user_is_active: Option<bool>,
    is_active: bool,
    revoked_at: Option<Time>,
    expires_at: Time,
    version: i64,
    changed_at: i64,
    access: Option<Hash>,
    refresh: Option<Hash>,
    ip: Option<String>,
    user_agent: Option<String>,
    label: Option<String>,
    created_at: Time,
    last_seen_at: Time,
    data: Json,
    authenticated_at: Time,
    assurance: i16,
    ttl_seconds: Option<i32>,
    idle_seconds: Option<i32>,
    previous_refresh: Option<Hash>,
    refresh_salt: Option<Salted>,
    refreshed_at: Option<Time>,
}

impl From<SessionRow> for Row {
    fn from(row: SessionRow) -> Self {
        let user = match (row.user_id, row.email, row.username) {
            (Some(id), Some(email), Some(username)) => Some(User {
                id: UserId::Int(id),
                email: email.into(),
                username: username.into(),
            }),
            _ => None,
        };
        // A session whose user is gone is nobody's: it is no guest's either.
        let user_is_active = row.user_id.is_none() || row.user_is_active == Some(true);
        Self {
            head: Head {
                id: row.id.0,
                user,
                is_active: row.is_active && user_is_active,
                revoked_at: row.revoked_at.map(|time| time.0),
                expires_at: row.expires_at.0,
                last_seen_at: row.last_seen_at.0,
                idle_ttl: row.idle_seconds.map(seconds),
                authenticated_at: row.authenticated_at.0,
                assurance: u8::try_from(row.assurance).unwrap_or(0),
                version: Version::new(row.version),
                as_of: row.mark.map_or(Mark::ZERO, Mark::new),
                access: row.access.map(|hash| hash.0),
                refresh: row.refresh.map(|hash| hash.0),
            },
            changed_at: Mark::new(row.changed_at),
            lineage: row.lineage.map_or(Lineage::ONLY, Lineage::new),
            read_at: row
                .wall
                .map_or(Timestamp::from_unix_millis(0), |wall| wall.0),
            ttl: row.ttl_seconds.map(seconds),
            rotation: match (row.previous_refresh, row.refresh_salt, row.refreshed_at) {
                (Some(previous), Some(salt), Some(at)) => Some(Rotation {
                    previous: previous.0,
                    salt: salt.0,
                    at: at.0,
                }),
                _ => None,
            },
            body: RawBody {
                device: Device {
                    ip: row.ip.and_then(|ip| ip.parse().ok()),
                    user_agent: row.user_agent.map(Into::into),
                    label: row.label.map(Into::into),
                },
                created_at: row.created_at.0,
                data: row.data.0,
            },
        }
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What a key is compared with.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Id(Id),
    Access(Hash),
    Refresh(Hash),
}

impl From<Key> for Wanted {
    fn from(key: Key) -> Self {
        match key {
            Key::Id(id) => Self::Id(Id(id)),
            Key::AccessJti(hash) => Self::Access(Hash(hash)),
            Key::Refresh(hash) => Self::Refresh(Hash(hash)),
        }
    }
}

/// What many keys are compared with.
#[derive(Default)]
pub(super) struct WantedMany {
    pub(super) ids: Vec<Id>,
    pub(super) access: Vec<Hash>,
    pub(super) refresh: Vec<Hash>,
}

impl WantedMany {
    /// Each list that names any names so many at least: the last one is named again.
    pub(super) fn at_least(mut self, least: usize) -> Self {
        fill(&mut self.ids, least);
        fill(&mut self.access, least);
        fill(&mut self.refresh, least);
        self
    }
}

fn fill<T: Clone>(list: &mut Vec<T>, least: usize) {
    if let Some(last) = list.last().cloned() {
        list.resize(list.len().max(least), last);
    }
}

impl From<Vec<Key>> for WantedMany {
    fn from(keys: Vec<Key>) -> Self {
        let mut wanted = Self::default();
        for key in keys {
            match key.into() {
                Wanted::Id(id) => wanted.ids.push(id),
                Wanted::Access(hash) => wanted.access.push(hash),
                Wanted::Refresh(hash) => wanted.refresh.push(hash),
            }
        }
        wanted
    }
}

#[derive(Clone, Insertable)]
#[diesel(table_name = sessions)]
pub(super) struct NewRow {
    id: Id,
    pub(super) user_id: Option<i64>,
    created_at: Time,
    last_seen_at: Time,
    expires_at: Time,
    access_jti: Option<Hash>,
    refresh_token_hash: Option<Hash>,
    ip: Option<String>,
    user_agent: Option<String>,
    label: Option<String>,
    data: Json,
    authenticated_at: Time,
    assurance: i16,
    ttl_seconds: Option<i32>,
    idle_seconds: Option<i32>,
}

impl TryFrom<NewSession> for NewRow {
    type Error = StoreError;

    fn try_from(new: NewSession) -> Result<Self, StoreError> {
        Ok(Self {
            id: Id(new.id),
            user_id: new.user.map(|user| bundled("create", user)).transpose()?,
            created_at: Time(new.created_at),
            last_seen_at: Time(new.last_seen_at),
            expires_at: Time(new.expires_at),
            access_jti: new.access.map(Hash),
            refresh_token_hash: new.refresh.map(Hash),
            ip: new.device.ip.map(|ip| ip.to_string()),
            user_agent: new.device.user_agent.map(Into::into),
            label: new.device.label.map(Into::into),
            data: Json(new.data),
            authenticated_at: Time(new.authenticated_at),
            assurance: new.assurance.into(),
            ttl_seconds: new.ttl.map(in_seconds),
            idle_seconds: new.idle_ttl.map(in_seconds),
        })
    }
}

/// Whole seconds, from one to 68 years.
fn in_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// A user's key in the bundled table.
pub(super) fn bundled(operation: &'static str, user: UserId) -> Result<i64, StoreError> {
    match user {
        UserId::Int(id) => Ok(id),
        UserId::Uuid(_) => Err(StoreError::permanent(
            operation,
            "the bundled users table has integer keys, not UUIDs",
        )),
    }
}

#[derive(AsChangeset, Clone)]
#[diesel(table_name = sessions)]
pub(super) struct ChangedColumns {
    expires_at: Option<Time>,
    last_seen_at: Option<Time>,
    access_jti: Option<Hash>,
    refresh_token_hash: Option<Hash>,
    previous_refresh_hash: Option<Hash>,
    refresh_salt: Option<Salted>,
    refreshed_at: Option<Time>,
    label: Option<String>,
    data: Option<Json>,
}

impl ChangedColumns {
    /// The columns that a change names; `None` if it names none, for which there is no SQL.
    pub(super) fn of(change: Change) -> Option<Self> {
        match change {
            Change {
                expires_at: None,
                last_seen_at: None,
                access: None,
                refresh: None,
                rotation: None,
                label: None,
                data: None,
            } => None,
            change => Some(Self {
                expires_at: change.expires_at.map(Time),
                last_seen_at: change.last_seen_at.map(Time),
                access_jti: change.access.map(Hash),
                refresh_token_hash: change.refresh.map(Hash),
                previous_refresh_hash: change.rotation.map(|rotation| Hash(rotation.previous)),
                refresh_salt: change.rotation.map(|rotation| Salted(rotation.salt)),
                refreshed_at: change.rotation.map(|rotation| Time(rotation.at)),
                label: change.label.map(Into::into),
                data: change.data.map(Json),
            }),
        }
    }
}

/// The sessions in a scope that are active, at most so many. Binds: (when, ) whose (or null), which
/// (or null), which not (or null), begun before (or null), the limit.
macro_rules! in_scope {
    () => {
        "SELECT id FROM sessions WHERE is_active AND revoked_at IS NULL \
            AND ($2 IS NULL OR user_id = $2) AND ($3 IS NULL OR id = $3) \
            AND ($4 IS NULL OR id <> $4) AND ($5 IS NULL OR created_at < $5) LIMIT $6"
    };
}
pub(super) use in_scope;

/// A session that was to be revoked.
#[derive(QueryableByName)]
pub(super) struct RevokedRow {
    #[diesel(sql_type = sql::Id)]
    pub(super) id: Id,
    /// Not if another transaction was faster; that may have put a successor in its place, which the
    /// statement did not see.
    #[diesel(sql_type = Bool)]
    pub(super) revoked: bool,
}

/// Counts a user's sessions that can be accepted. Binds: when, whose.
macro_rules! count_live {
    ($not_idle:expr) => {
        concat!(
            "SELECT count(*) AS count FROM sessions WHERE is_active AND revoked_at IS NULL \
                AND expires_at > $1 AND user_id = $2 AND ",
            $not_idle
        )
    };
}
pub(super) use count_live;

/// How many.
#[derive(QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
}

/// Binds: when, whose, how many are to stay. Those that are over count for nothing.
macro_rules! revoke_oldest {
    ($not_idle:expr) => {
        concat!(
            "UPDATE sessions SET is_active = false, revoked_at = $1 WHERE id IN (\
                SELECT id FROM sessions WHERE is_active AND revoked_at IS NULL AND user_id = $2 \
                    AND expires_at > $1 AND ",
            $not_idle,
            " ORDER BY last_seen_at DESC, created_at DESC, id LIMIT 1000000 OFFSET $3) RETURNING id"
        )
    };
}
pub(super) use revoke_oldest;

/// A row of [`revoke_oldest`].
#[derive(QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = sql::Id)]
    pub(super) id: Id,
}

/// Whether it is this transaction's turn to prune.
#[derive(QueryableByName)]
pub(super) struct TurnRow {
    #[diesel(sql_type = Bool)]
    pub(super) turn: bool,
}

/// Asks what changed. Binds: in SQLite first what names the file; then the mark since when, and the limit.
/// (SQLite numbers parameters as they appear, whatever their names.) Newest first, so
/// that what the limit cuts off is the oldest; one statement, so that it is one snapshot.
///
/// No session of the first version is told, since nobody holds an older one; nothing numbered at
/// or above the horizon either: see `session_horizon` in the migration. A tombstone of a session that
/// is there again, from a dump, tells that session's version.
///
/// The one-row tables are read by `LIMIT 1` and scalar sub-selects: in a join PostgreSQL takes a table
/// that was never analysed for a thousand rows, and compiles the statement at every poll.
macro_rules! changes_since {
    (mark: $mark:literal, horizon: $horizon:literal, moved: $moved:literal $(,)?) => {
        concat!(
            "SELECT now.up_to, now.lineage, now.begun, now.moved, now.kept_since, \
                change.id, change.version, change.mark, change.deleted \
            FROM (SELECT ", $mark, " AS up_to, ", $moved, " AS moved, history.lineage, history.begun, \
                    history.tombstones_since AS kept_since \
                FROM (SELECT 1) AS one LEFT JOIN session_history AS history ON 1 = 1 LIMIT 1) AS now \
            LEFT JOIN (\
                SELECT * FROM (SELECT id, version, changed_at_mark AS mark, false AS deleted FROM sessions \
                    WHERE changed_at_mark >= $1 AND changed_at_mark < (SELECT ", $horizon, ") AND version > 1 \
                    ORDER BY changed_at_mark DESC LIMIT $2) AS changed \
                UNION ALL \
                SELECT * FROM (SELECT id, \
                        coalesce((SELECT version FROM sessions WHERE sessions.id = gone.id), 9223372036854775807) AS version, \
                        mark, true AS deleted FROM session_tombstones AS gone \
                    WHERE mark >= $1 AND mark < (SELECT ", $horizon, ") ORDER BY mark DESC LIMIT $2) AS gone\
            ) AS change ON 1 = 1"
        )
    };
}
pub(super) use changes_since;

/// A row of [`changes_since`]; without a change there is one with the first five columns alone.
#[derive(QueryableByName)]
pub(super) struct ChangeRow {
    #[diesel(sql_type = BigInt)]
    up_to: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    lineage: Option<i64>,
    /// When that began.
    #[diesel(sql_type = Nullable<sql::Instant>)]
    begun: Option<Time>,
    /// Why the database may lack what its lineage had.
    #[diesel(sql_type = Nullable<Text>)]
    moved: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    kept_since: Option<i64>,
    #[diesel(sql_type = Nullable<sql::Id>)]
    id: Option<Id>,
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mark: Option<i64>,
    /// Whether a tombstone tells it.
    #[diesel(sql_type = Nullable<Bool>)]
    deleted: Option<bool>,
}

/// Binds: the instant before which tombstones may go. Never beyond the present mark: what may
/// still be committed below it must not be taken for known.
pub(super) const FORGET_TOMBSTONES: &str = "\
    UPDATE session_history SET tombstones_since = cut.mark FROM (\
        SELECT max(mark) + 1 AS mark FROM session_tombstones \
        WHERE deleted_at < $1 AND mark < (SELECT mark FROM session_now)) cut \
    WHERE cut.mark > session_history.tombstones_since";

/// Deletes tombstones that nobody needs, and those that another server numbered. Binds: the limit.
/// After [`FORGET_TOMBSTONES`], never before: nobody may miss a trace that is said to be kept.
macro_rules! delete_tombstones {
    ($horizon:literal) => {
        concat!(
            "DELETE FROM session_tombstones WHERE (mark, id) IN (SELECT mark, id FROM session_tombstones \
                WHERE mark < (SELECT tombstones_since FROM session_history) OR mark >= (SELECT ",
            $horizon,
            ") ORDER BY mark LIMIT $1)"
        )
    };
}
pub(super) use delete_tombstones;

/// Begins the text that deletes expired sessions, which `skip_locked` ends.
///
/// Binds: the instant before which they may go, the limit. The database's clock has its say too, so
/// that a node whose clock is wrong deletes no living session.
macro_rules! delete_expired {
    ($skip_locked:literal) => {
        concat!(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions \
                WHERE expires_at < $1 AND expires_at < (SELECT wall FROM session_now) \
                ORDER BY expires_at LIMIT $2 ",
            $skip_locked,
            ")"
        )
    };
}
pub(super) use delete_expired;

/// Reads the feed's answer.
pub(super) fn changes(since: Mark, limit: u32, rows: &[ChangeRow]) -> Result<Changes, StoreError> {
    let Some(first) = rows.first() else {
        return Err(StoreError::transient("changes", "the answer is empty"));
    };
    let mut complete_since = since.max(first.kept_since.map_or(Mark::ZERO, Mark::new));
    // Where the limit cut, the oldest mark that is left may itself be cut in two.
    for deleted in [false, true] {
        let marks = || {
            rows.iter()
                .filter(|row| row.deleted == Some(deleted))
                .filter_map(|row| row.mark)
        };
        if marks().count() >= limit as usize
            && let Some(oldest) = marks().min()
        {
            complete_since = complete_since.max(Mark::new(oldest.saturating_add(1)));
        }
    }
    let sessions = rows.iter().filter_map(|row| {
        Some(Changed {
            id: SessionId::from(row.id?.0.as_uuid()),
            version: Version::new(row.version?),
            mark: Mark::new(row.mark?),
        })
    });
    Ok(Changes {
        up_to: Mark::new(first.up_to),
        complete_since,
        sessions: sessions.collect(),
        lineage: first.lineage.map_or(Lineage::ONLY, Lineage::new),
        begun: first.begun.map(|begun| begun.0),
        moved: first.moved.as_deref().map(Into::into),
    })
}
