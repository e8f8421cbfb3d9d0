//! How sessions are made, changed and revoked: the database first, then the caches.
//!
//! Each write runs in a task of its own, so that a client who goes away between the commit and
//! the caches leaves no cache behind the times for longer than need be. A cache that cannot be
//! written fails nothing: the fence holds without it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use session_core::{
    Device, Head, Key, KeyHash, SessionId, Standing, Timestamp, Token, TokenKind, UserId, Version,
};

use super::load::{From, warm_record};
use super::read::{Shown, Verdict, verdict};
use super::{Shared, Tiers};
use crate::clock::{Clock, Moment};
use crate::cold::{Change, Changed, NewSession, Row};
use crate::data::{self, SessionData};
use crate::error::{Error, Refusal};
use crate::hot::Entry;
use crate::session::{BodyRef, Session, Tier};
use crate::warm::{self, WarmRecord};

/// How often a change is tried against others' changes of the same session.
const ATTEMPTS: u32 = 16;

/// A session to begin.
#[derive(Clone, Debug)]
pub struct Login<D> {
    user: Option<UserId>,
    device: Device,
    data: Option<D>,
    ttl: Option<Duration>,
}

impl<D> Login<D> {
    /// A session of a user, who has just proved to be that user.
    pub fn user(id: impl Into<UserId>) -> Self {
        Self {
            user: Some(id.into()),
            ..Self::guest()
        }
    }

    /// A session of nobody in particular yet.
    pub fn guest() -> Self {
        Self {
            user: None,
            device: Device::default(),
            data: None,
            ttl: None,
        }
    }

    /// The device it is made on; by default nothing is known of it.
    ///
    /// Clients say what they like in these texts, so they are cut to 512 bytes each, and cleared of
    /// U+0000, which PostgreSQL does not store.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// The application's data; by default its type's default.
    #[must_use]
    pub fn data(mut self, data: D) -> Self {
        self.data = Some(data);
        self
    }

    /// How long it lives; by default `session.ttl` of the configuration.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// A session with the tokens that its client needs. They are shown this once; nobody keeps them.
#[derive(Clone, Debug)]
pub struct Issued<D: SessionData> {
    /// The session.
    pub session: Session<D>,
    /// Authenticates requests.
    pub access: Token,
    /// Buys a new pair of tokens, once.
    pub refresh: Token,
}

/// A session as its user sees it in a list of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The session.
    pub id: SessionId,
    /// Its version.
    pub version: Version,
    /// The device it was made on.
    pub device: Device,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// When it was last seen, as far as the database knows.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A committed revocation.
#[derive(Clone, Debug)]
pub struct Receipt {
    effective_at: Moment,
    clock: Clock,
}

impl Receipt {
    /// From then on no node serves the session.
    pub fn effective_at(&self) -> Moment {
        self.effective_at
    }

    /// How long until no node serves the session: at most the staleness bound. Usually the
    /// nodes hear of it within milliseconds.
    pub fn effective_within(&self) -> Duration {
        self.effective_at.since(self.clock.now().moment)
    }

    /// Waits until no node serves the session. Cancellation-safe.
    pub async fn settled(&self) {
        loop {
            let left = self.effective_within();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl<D: SessionData> Tiers<D> {
    /// Begins a session, which is hot here and warm for the other nodes when this returns.
    ///
    /// If the future is dropped, the session may have begun; nobody has its tokens then.
    ///
    /// # Errors
    ///
    /// [`Error::DataTooLarge`], [`Error::Unwritable`], [`Error::Store`] (also if there is no
    /// such user), and [`Error::Refused`] if the user was switched off meanwhile.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn login(&self, login: Login<D>) -> Result<Issued<D>, Error> {
        let keys = self.keys();
        let id = SessionId::random();
        let access = keys.mint(TokenKind::Access, id);
        let refresh = keys.mint(TokenKind::Refresh, id);
        let hashes = (Some(keys.hash(&access)), Some(keys.hash(&refresh)));
        let session = self.begin(id, login, hashes).await?;
        Ok(Issued {
            session,
            access,
            refresh,
        })
    }

    /// Begins a session for tokens that someone else minted, such as JWTs of an identity
    /// provider: it is found by [`Key::AccessJti`] and [`Key::Refresh`].
    ///
    /// # Errors
    ///
    /// As [`login`](Self::login); [`Error::Store`] also if another session has such a key.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn adopt(
        &self,
        login: Login<D>,
        access_jti: Option<&str>,
        refresh: Option<&str>,
    ) -> Result<Session<D>, Error> {
        let foreign = |kind, key| self.keys().hash_foreign(kind, key);
        let hashes = (
            access_jti.map(|jti| foreign(TokenKind::Access, jti)),
            refresh.map(|token| foreign(TokenKind::Refresh, token)),
        );
        self.begin(SessionId::random(), login, hashes).await
    }

    #[tracing::instrument(level = "debug", name = "session.login", skip_all, fields(session = %id))]
    async fn begin(
        &self,
        id: SessionId,
        login: Login<D>,
        (access, refresh): (Option<KeyHash>, Option<KeyHash>),
    ) -> Result<Session<D>, Error> {
        let config = &self.config().session;
        let data = match &login.data {
            Some(data) => data::write(data, config.max_data.as_u64())?,
            None => "null".into(),
        };
        let now = self.now().wall;
        let session = NewSession {
            id,
            user: login.user,
            created_at: now,
            expires_at: now + login.ttl.unwrap_or(config.ttl),
            access,
            refresh,
            device: bounded(login.device),
            data,
        };
        let tiers = self.clone();
        self.write(async move |shared| {
            shared.store.create(session).await?;
            shared.land_written(id, tiers, Shown::Nothing).await
        })
        .await
    }

    /// Changes a session's data, whatever others do to the session at the same time: `change` is
    /// made to what is stored, and made again to the newer data if that was changed meanwhile.
    ///
    /// If the future is dropped, the change may have been made.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if others were faster many times over; [`Error::Refused`] if the
    /// session is no longer accepted; [`Error::Data`] if what is stored does not read as `D`;
    /// [`Error::DataTooLarge`], [`Error::Unwritable`], [`Error::Store`].
    #[tracing::instrument(level = "debug", name = "session.update", skip_all, fields(session = %session.id()))]
    pub async fn update(
        &self,
        session: &Session<D>,
        mut change: impl FnMut(&mut D),
    ) -> Result<Session<D>, Error> {
        let id = session.id();
        let mut body = session.body_if_here();
        let mut version = session.version();
        for _ in 0..ATTEMPTS {
            let (stored, at) = match body.take() {
                Some(body) => (body, version),
                None => {
                    let newest = self.reread(Key::Id(id), session.shown()).await?;
                    let newest = newest.body().await?;
                    // The body's own: it may be a later one than the session's.
                    version = newest.version();
                    (newest, version)
                }
            };
            let mut data = stored.data()?.clone();
            change(&mut data);
            let changed = Change {
                data: Some(data::write(&data, self.config().session.max_data.as_u64())?),
                ..Change::default()
            };
            if let Some(session) = self.change(session, at, changed).await? {
                return Ok(session);
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// Trades a refresh token for a new pair of tokens and a new term of life. The old pair is
    /// dead from then on.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the token is not the session's newest refresh token, or the session
    /// is no longer accepted; [`Error::Conflict`], [`Error::Store`].
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    #[tracing::instrument(level = "debug", name = "session.refresh", skip_all, fields(session = %token.id()))]
    pub async fn refresh(&self, token: &Token) -> Result<Issued<D>, Error> {
        let keys = self.keys();
        if token.kind() != TokenKind::Refresh {
            return Err(Refusal::Malformed.into());
        }
        if !keys.verify(token) {
            return Err(Refusal::Forged.into());
        }
        let shown = Shown::Refresh(keys.hash(token));
        for _ in 0..ATTEMPTS {
            let session = self.reread(Key::Id(token.id()), shown).await?;
            let access = keys.mint(TokenKind::Access, token.id());
            let refresh = keys.mint(TokenKind::Refresh, token.id());
            let change = Change {
                expires_at: Some(self.now().wall + self.config().session.ttl),
                access: Some(keys.hash(&access)),
                refresh: Some(keys.hash(&refresh)),
                ..Change::default()
            };
            if let Some(session) = self.change(&session, session.version(), change).await? {
                return Ok(Issued {
                    session,
                    access,
                    refresh,
                });
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// Revokes a session. When this returns it is committed, and most nodes know of it; after
    /// [`Receipt::settled`] all do. A session that was revoked before, or never was, is no error.
    ///
    /// If the future is dropped, the session may have been revoked.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database could not be written; the session may still be accepted.
    #[tracing::instrument(level = "debug", name = "session.revoke", skip_all, fields(session = %id))]
    pub async fn revoke(&self, id: SessionId) -> Result<Receipt, Error> {
        self.write(async move |shared: Arc<Shared<D>>| {
            shared.store.revoke(id, shared.clock.now().wall).await?;
            let receipt = Receipt {
                effective_at: shared.clock.now().moment + shared.config.fence.staleness_bound,
                clock: shared.clock.clone(),
            };
            shared.bury(id).await;
            Ok(receipt)
        })
        .await
    }

    /// The sessions of a user that can be accepted now, the most recently seen first; at most
    /// 1,000.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn list(&self, user: UserId) -> Result<Vec<Listed>, Error> {
        const MOST: u32 = 1000;
        let shared = self.shared();
        let rows = shared
            .store
            .list(user, shared.clock.now().wall, MOST)
            .await?;
        let listed = rows.into_iter().map(|row| Listed {
            id: row.head.id,
            version: row.head.version,
            device: row.body.device,
            created_at: row.body.created_at,
            last_seen_at: row.body.last_seen_at,
            expires_at: row.head.expires_at,
        });
        Ok(listed.collect())
    }

    /// The body of a session at `version` or newer, from the database if it is not hot.
    pub(crate) async fn whole(
        &self,
        id: SessionId,
        version: Version,
    ) -> Result<BodyRef<D>, Refusal> {
        /// A load that was under way, or a copy of the database, may be older than the version; and
        /// a newer head may have come to the hot tier before the body that was read. The next
        /// load asks the database itself, and knows of all that.
        const TRIES: u32 = 4;

        for attempt in 0..TRIES {
            let loaded = match attempt {
                0 => self.shared().load(Key::Id(id), From::Cold).await.0,
                _ => self.shared().load_fresh(Key::Id(id)).await,
            };
            let session = self
                .judge(loaded?, Shown::Nothing)
                .map_err(Verdict::into_refusal)?;
            if let Some(body) = session.body_if_here()
                && body.version() >= version
            {
                return Ok(body);
            }
        }
        Err(self.shared().too_late())
    }

    /// Makes a change if the session is still at `version`; `None` if it is not.
    async fn change(
        &self,
        session: &Session<D>,
        version: Version,
        change: Change,
    ) -> Result<Option<Session<D>>, Error> {
        let (id, shown) = (session.id(), session.shown());
        let tiers = self.clone();
        self.write(async move |shared: Arc<Shared<D>>| {
            if !shared.store.update(id, version, change).await? {
                return Ok(None);
            }
            shared.land_written(id, tiers, shown).await.map(Some)
        })
        .await
    }

    /// Drives a write to its end even if the caller goes away.
    async fn write<T, F>(&self, work: impl FnOnce(Arc<Shared<D>>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let shared = self.shared();
        if shared.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        match shared.tasks.spawn(work(Arc::clone(shared))).await {
            Ok(result) => result,
            Err(_) => Err(Error::ShuttingDown),
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// Reads back what was written, and makes every cache know it. Read by a statement of its
    /// own, whose snapshot is later than the commit: the one that wrote may have seen an older
    /// user.
    async fn land_written(
        self: &Arc<Self>,
        id: SessionId,
        tiers: Tiers<D>,
        shown: Shown,
    ) -> Result<Session<D>, Error> {
        let generation = self.hot.generation();
        let Some(row) = self.store.load(Key::Id(id)).await? else {
            return Err(Refusal::Unknown.into());
        };
        self.raise_to(&row);
        let now = self.clock.now();
        let record = match row.head.standing(now.wall) {
            Standing::Valid => warm_record(&row, self.config.warm.holds),
            Standing::Expired | Standing::Revoked => tombstone(&row),
        };
        self.tell(&row, record).await;
        let entry = Arc::new(Entry::cold(row, now, generation, &self.config.hot));
        // A floor that was raised meanwhile keeps it out of the cache; it is still what was
        // written.
        self.hot
            .insert(Arc::clone(&entry), |head| self.admits(head));
        match verdict(&entry, Shown::Nothing, now) {
            Verdict::Accepted => Ok(Session::new(tiers, entry, Tier::Cold, shown)),
            refused => Err(refused.into_refusal().into()),
        }
    }

    /// Makes every cache know that a session was revoked. It is committed, so nothing here can
    /// fail it: what does not hear of it now hears of it by the feed.
    async fn bury(self: &Arc<Self>, id: SessionId) {
        match self.store.load(Key::Id(id)).await {
            Ok(Some(row)) => {
                self.raise_to(&row);
                if row.head.standing(self.clock.now().wall) != Standing::Valid {
                    self.tell(&row, tombstone(&row)).await;
                }
            }
            Ok(None) => self.hot.remove_below(id, Version::DELETED),
            Err(error) => {
                self.hot.remove_below(id, Version::DELETED);
                tracing::warn!(%error, session = %id, "revoked; the caches hear of it by the feed");
            }
        }
    }

    /// From now on nothing older than this row is served here.
    fn raise_to(&self, row: &Row) {
        let Head { id, version, .. } = row.head;
        self.fence.saw(row.lineage, row.head.as_of);
        match self.fence.lineage() == Some(row.lineage) {
            true => self.raise(id, version, row.changed_at),
            // The feed has yet to learn where it is.
            false => self.hot.remove_below(id, Version::DELETED),
        }
    }

    /// Applies a row to the warm tier, and pushes its version to the other nodes.
    async fn tell(&self, row: &Row, record: WarmRecord) {
        let Some(warm) = &self.warm else { return };
        let push = Changed {
            id: row.head.id,
            version: row.head.version,
            mark: row.changed_at,
        };
        let keys: Vec<KeyHash> = row.head.foreign_keys().collect();
        let wall = self.clock.now().wall;
        let ttl = warm::ttl(row.head.expires_at, wall, &self.config.warm);
        // Over already: a trace is still left for the loads that are under way.
        let ttl = ttl.unwrap_or(Duration::from_secs(60));
        warm.apply(&record, &keys, push, row.lineage, ttl).await;
    }
}

fn bounded(device: Device) -> Device {
    const MOST: usize = 512;
    let bounded = |text: Box<str>| -> Box<str> {
        if text.len() <= MOST && !text.contains('\0') {
            return text;
        }
        let mut end = MOST.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].replace('\0', "").into()
    };
    Device {
        ip: device.ip,
        user_agent: device.user_agent.map(bounded),
        label: device.label.map(bounded),
    }
}

fn tombstone(row: &Row) -> WarmRecord {
    WarmRecord::Tombstone {
        id: row.head.id,
        version: row.head.version,
        as_of: row.head.as_of,
    }
}
