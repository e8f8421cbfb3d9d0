use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use session_core::{
    Device, Head, Key, KeyHash, Lineage, Mark, Salt, SessionId, Timestamp, UserId, Version,
};

use super::cursor::Cursor;
use crate::error::StoreError;

/// What the tiers ask of the database.
///
/// # What an implementation must keep
///
/// The promise of the whole library rests on these rules; the bundled migrations keep them with
/// triggers, so that plain SQL by any program keeps them too.
///
/// 1. **Each change that matters raises the row's version**, which begins at [`Version::FIRST`]:
///    activity, revocation, expiry, lookup keys, user, device, data; not `last_seen_at`. A change of the user's summary
///    (e-mail, name, activity) changes that user's sessions.
/// 2. **Each change is numbered** by the transaction that made it. Reads carry a mark, taken in
///    their own snapshot, below which every change is visible to them ([`Head::as_of`]);
///    a store whose writers are serial uses a counter.
/// 3. **[`changes`](Self::changes) leaves nothing out**: every session whose last change is
///    numbered at or above [`Changes::complete_since`] is in it, deleted ones included. (One that is
///    still as it was added may be left out: nobody holds an older one.)
/// 4. **Numbers that mean something else belong to another [`Lineage`].** Where commits can be
///    lost, by a restore from a backup or a failover to a copy that lacked them, what is numbered
///    afterwards is of a new one.
///
/// Each call is one attempt with the store's own deadline; the tiers repeat nothing that is not
/// safe to repeat. Calls are made in tasks of their own (but see
/// [`begins_in_turn`](Self::begins_in_turn)), which are driven to their end, so an
/// implementation need not be cancellation-safe; [`listen`](Self::listen) alone is dropped.
///
/// # A home-made store
///
/// In memory, with one lock for a transaction: the least that keeps the rules.
///
/// ```
#[doc = include_str!("../../examples/home_made_store.rs")]
/// ```
#[async_trait]
pub trait ColdStore: fmt::Debug + Send + Sync + 'static {
    /// The session that a key leads to, with its user, read by one statement; revoked and
    /// expired ones too.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError>;

    /// As [`load_many`](Self::load_many), but from a copy of the database that takes reads off it and
    /// may be behind the times; of what that does not have, and where it cannot answer quickly or does
    /// not exist, nothing. The tiers believe it as they believe a cache, and ask the database where it says
    /// nothing, or no.
    ///
    /// A copy's rows carry marks and the lineage as the copy's own snapshot shows them, which is
    /// all that rules 2 and 4 need.
    async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        let _ = keys;
        Vec::new()
    }

    /// The sessions that these keys lead to, each once, in any order, as [`load`](Self::load) reads
    /// them.
    ///
    /// The default loads them one by one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(self.load(key).await?);
        }
        Ok(rows)
    }

    /// The sessions that were seen last and can be accepted at `now`, the last first; at most `limit`.
    ///
    /// For [`Tiers::warm_up`](crate::Tiers::warm_up); the default knows of none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn recent(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let _ = (now, limit);
        Ok(Vec::new())
    }

    /// The session's version, by one cheap statement; `None` if there is no such session.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError>;

    /// Adds a session, in one transaction with all that comes with it: if it
    /// [replaces](NewSession::replaces) another, that is revoked, and its user's live sessions
    /// are kept within the limit, if there is one, however many are added at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also if there is no such user or the id or a key is taken; then nothing
    /// has happened.
    async fn create(
        &self,
        session: NewSession,
        limit: Option<Limit>,
    ) -> Result<Created, StoreError>;

    /// Changes a session that is neither revoked nor switched off, if it is still at `version`.
    /// Returns whether it was.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after a timeout the change may have been made or not.
    async fn update(
        &self,
        id: SessionId,
        version: Version,
        change: Change,
    ) -> Result<bool, StoreError>;

    /// Revokes a session. Returns whether it was active before.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after a timeout the session may have been revoked or not.
    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError>;

    /// Revokes those sessions in `scope` that are active, at most `limit`, and returns which. The
    /// caller goes on until there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after a timeout they may have been revoked or not.
    async fn revoke_all(
        &self,
        scope: Scope,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// Notes when sessions were last seen, in one statement, where that was noted longer than
    /// `interval` before. Returns how many were. It is no change that matters.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    async fn touch(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        interval: Duration,
    ) -> Result<u64, StoreError>;

    /// A user's sessions that can be accepted at `now`, at most `limit`, the most recently seen
    /// first; of those seen in the same millisecond the one with the greater id. With `after` those that come
    /// after it in this order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn list(
        &self,
        user: UserId,
        now: Timestamp,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError>;

    /// What changed at or above `since`, the newest `limit` of it, read in one snapshot.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError>;

    /// Begins a new [`Lineage`], unless another than `lost` has begun already: what was committed in that
    /// one may not all be there any more. [`Lineage::ONLY`] where the database names none.
    ///
    /// The default does nothing, which is right for [`Lineage::ONLY`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be written; it is asked for again at the next poll.
    async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        let _ = lost;
        Ok(())
    }

    /// Calls `changed` as soon as it is known that sessions changed, whoever changed them; the
    /// feed then asks for the [`changes`](Self::changes) at once. New sessions are none.
    ///
    /// It goes on until it is dropped, by itself connecting again where it must, and calls
    /// `changed` also whenever something may have been missed, as after connecting. Nothing rests
    /// on it: a call too many costs a poll, however many come together, and one too few is made
    /// up for by the feed's next. The default tells nothing.
    ///
    /// Called once, unless `cold.notify` is off.
    ///
    /// # Cancellation safety
    ///
    /// When the tiers stop it is dropped at whatever await it has reached, and must leave nothing
    /// behind that goes on.
    async fn listen(&self, changed: &(dyn Fn() + Send + Sync)) {
        let _ = changed;
        std::future::pending().await
    }

    /// Removes what nobody needs any more: old tombstones and long expired sessions, at most
    /// `limit` of each. Nothing if another node is doing so.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn prune(
        &self,
        now: Timestamp,
        keep: Retention,
        limit: u32,
    ) -> Result<Pruned, StoreError>;

    /// How many sessions of which standing there are at `now`, counted in one snapshot. It reads all
    /// of them, so it is for operators and not for requests.
    ///
    /// For [`Tiers::stats`](crate::Tiers::stats); the default does not count.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database could not answer in time.
    async fn stats(&self, now: Timestamp) -> Result<Option<StoreStats>, StoreError> {
        let _ = now;
        Ok(None)
    }

    /// Whether what is before the database shares its connections between transactions, so that
    /// [`listen`](Self::listen) hears nothing. Asked once at the start, for a warning. By default `false`,
    /// as if it is not known.
    async fn shares_connections(&self) -> bool {
        false
    }

    /// Whether a load, of the copy too, may run in the turn of the request that asks for it, until it
    /// waits for the first time; from there on it has a task of its own in any case. That takes a turn of
    /// the runtime less, and demands that loads do not block before they wait, and do not rely on being
    /// in a task. And each wait must be one that a runtime which goes down ends, outside of any lock that
    /// the load takes to be dropped: for a timer or a socket of Tokio's, or for something else within a
    /// timeout.
    ///
    /// The bundled stores say yes; the default is no.
    fn begins_in_turn(&self) -> bool {
        false
    }

    /// What kind of store it is, for messages and metrics: `"postgres"`, `"sqlite"`.
    fn kind(&self) -> &'static str;
}

/// A session's row with its user, as one statement read it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What authentication needs.
    pub head: Head,
    /// The number of the row's last change.
    pub changed_at: Mark,
    /// What the numbers are of.
    pub lineage: Lineage,
    /// When it was read, by the database's clock: of several nodes it is the one that they share.
    pub read_at: Timestamp,
    /// How long a refresh makes it live, if not as long as the configuration says.
    pub ttl: Option<Duration>,
    /// The refresh token before this one, if there was one.
    pub rotation: Option<Rotation>,
    /// The rest.
    pub body: RawBody,
}

/// A session's body as the tiers outside the process hold it, its data still unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBody {
    /// The device the session was made on.
    pub device: Device,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// The application's data, as JSON text; `null` if it has none.
    pub data: Box<str>,
}

/// A session to add.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its name.
    pub id: SessionId,
    /// Whose it is; `None` for a guest's.
    pub user: Option<UserId>,
    /// The session that ends with this, if it is neither revoked nor switched off, and still at
    /// this version.
    pub replaces: Option<(SessionId, Version)>,
    /// When it begins; that of the one it replaces, where it is the same but for its name.
    pub created_at: Timestamp,
    /// Now.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How long a refresh is to make it live, if not as long as the configuration says; in whole
    /// seconds.
    pub ttl: Option<Duration>,
    /// Unused for this long it ends too; in whole seconds.
    pub idle_ttl: Option<Duration>,
    /// When its user last proved to be that user.
    pub authenticated_at: Timestamp,
    /// How well.
    pub assurance: u8,
    /// Hash of the access token's secret, or of a foreign `jti`.
    pub access: Option<KeyHash>,
    /// Hash of the refresh token's secret.
    pub refresh: Option<KeyHash>,
    /// The device it is made on.
    pub device: Device,
    /// The application's data, as JSON text.
    pub data: Box<str>,
}

impl NewSession {
    /// A guest's, with no keys, no device and no data.
    pub fn new(id: SessionId, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id,
            user: None,
            replaces: None,
            created_at: now,
            last_seen_at: now,
            expires_at,
            ttl: None,
            idle_ttl: None,
            authenticated_at: now,
            assurance: 0,
            access: None,
            refresh: None,
            device: Device::default(),
            data: "null".into(),
        }
    }
}

/// What to change of a session; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// A new end.
    pub expires_at: Option<Timestamp>,
    /// When it was used.
    pub last_seen_at: Option<Timestamp>,
    /// A new access key.
    pub access: Option<KeyHash>,
    /// A new refresh key.
    pub refresh: Option<KeyHash>,
    /// What the new refresh key follows on.
    pub rotation: Option<Rotation>,
    /// A new name of the device.
    pub label: Option<Box<str>>,
    /// New application data, as JSON text.
    pub data: Option<Box<str>>,
}

/// The trade of a refresh token for the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The hash of the one that was traded in.
    pub previous: KeyHash,
    /// The random part of what it was traded for.
    pub salt: Salt,
    /// When.
    pub at: Timestamp,
}

/// How many live sessions a user may have, the new one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At least 1.
    pub most: u32,
    /// What becomes of a session too many.
    pub when_full: WhenFull,
}

/// What becomes of a login by a user who has as many sessions as allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The session that was not used for longest is revoked.
    #[default]
    RevokeOldest,
    /// The login is refused.
    Refuse,
}

/// Whether a session was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was; and these were revoked to make room for it.
    Yes {
        /// Which.
        revoked: Vec<SessionId>,
    },
    /// The user has as many sessions as allowed.
    Full,
    /// The session to replace is not at that version, or no longer accepted.
    Overtaken,
    /// There is no such user.
    NoUser,
}

/// Which sessions to revoke. Every condition narrows it; without any it is all there are.
///
/// ```
/// use tier_cache::cold::{Scope, SessionId, Timestamp};
///
/// let this = SessionId::random();
/// let log_out_elsewhere = Scope::user(7).except(this);
/// let after_a_breach = Scope::everyone().begun_before(Timestamp::from_unix_millis(1_800_000_000_000));
/// assert_ne!(log_out_elsewhere, after_a_breach);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Of this user alone.
    pub user: Option<UserId>,
    /// This one alone: with a user, only if it is theirs.
    pub only: Option<SessionId>,
    /// Not this one.
    pub except: Option<SessionId>,
    /// Those alone that began before this instant.
    pub begun_before: Option<Timestamp>,
}

impl Scope {
    /// All sessions of all users, and of guests.
    pub const fn everyone() -> Self {
        Self {
            user: None,
            only: None,
            except: None,
            begun_before: None,
        }
    }

    /// All sessions of a user.
    pub fn user(id: impl Into<UserId>) -> Self {
        Self {
            user: Some(id.into()),
            ..Self::everyone()
        }
    }

    /// Of these one alone, if it is among them: what a user may revoke in a list of devices.
    #[must_use]
    pub const fn only(mut self, id: SessionId) -> Self {
        self.only = Some(id);
        self
    }

    /// All of these but one.
    #[must_use]
    pub const fn except(mut self, id: SessionId) -> Self {
        self.except = Some(id);
        self
    }

    /// Those of these that began before an instant.
    #[must_use]
    pub const fn begun_before(mut self, instant: Timestamp) -> Self {
        self.begun_before = Some(instant);
        self
    }
}

/// What changed since a mark.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The mark of the snapshot that this was read in: the next `since`.
    pub up_to: Mark,
    /// The mark since which nothing is missing: the `since` that was asked for, or a later one
    /// if there was more than `limit`, or if the tombstones since then are no longer kept.
    pub complete_since: Mark,
    /// Each session with its version now.
    pub sessions: Vec<Changed>,
    /// What all these numbers are of.
    pub lineage: Lineage,
    /// When that began, by the database's clock; `None` if it never did, since the history of this database
    /// never goes back.
    pub begun: Option<Timestamp>,
    /// Why the database may lack something that this lineage had: it was restored, swapped for a copy, or
    /// recovered from a crash. Nothing else here is believed then; the node starts over and
    /// has a [new lineage](ColdStore::renew_lineage) begun. `None` if it has all of it.
    pub moved: Option<Box<str>>,
}

/// One changed session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which one.
    pub id: SessionId,
    /// Its version now; [`Version::DELETED`] if its row is gone.
    pub version: Version,
    /// The number of the change.
    pub mark: Mark,
}

/// How long to keep what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Tombstones of deleted sessions. A node that was blind for longer starts over.
    pub tombstones: Duration,
    /// Sessions after their expiry.
    pub expired: Duration,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Tombstones.
    pub tombstones: u64,
    /// Expired sessions.
    pub sessions: u64,
}

/// How many sessions a database holds, each counted once by its standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Those that can be accepted.
    pub live: u64,
    /// Those of the live ones that are guests'.
    pub guests: u64,
    /// Users with a live session.
    pub users: u64,
    /// Those that were switched off, or whose user was.
    pub revoked: u64,
    /// Those of the others whose time is over.
    pub expired: u64,
    /// Those of the others that were not used for too long.
    pub idle: u64,
    /// Traces of deleted sessions.
    pub tombstones: u64,
    /// The mark since which these traces are complete.
    pub tombstones_since: Mark,
    /// The mark of the snapshot.
    pub mark: Mark,
    /// What the marks are of.
    pub lineage: Lineage,
}
