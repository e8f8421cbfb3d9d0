//! How sessions begin, and go on under another name.

use std::sync::Arc;
use std::time::Duration;

use session_core::{
    Device, ForeignToken, Key, KeyHash, SessionId, Standing, Timestamp, Token, TokenKind, UserId,
};

use super::admission::AdmissionPermit;
use super::verdict::Presented;
use super::{ATTEMPTS, Shared, Tiers};
use crate::cold::{ColdStore, Created, Limit, NewSession, Row};
use crate::data::{self, SessionData};
use crate::error::{Error, Refusal, StoreError};
use crate::events::{Event, Reason, Renewal};
use crate::session::Session;
use crate::touch;

/// A session to begin.
#[derive(Clone, Debug)]
pub struct Login<D> {
    pub(super) user: Option<UserId>,
    pub(super) device: Option<Device>,
    pub(super) data: Option<D>,
    pub(super) rewrites: bool,
    ttl: Option<Duration>,
    idle_ttl: Option<Duration>,
    assurance: u8,
}

impl<D> Login<D> {
    /// A session of a user, who has just proved to be that user.
    pub fn user(id: impl Into<UserId>) -> Self {
        Self {
            user: Some(id.into()),
            ..Self::guest()
        }
    }

    /// A session of nobody in particular yet; see [`Tiers::upgrade`].
    pub fn guest() -> Self {
        Self {
            user: None,
            device: None,
            data: None,
            rewrites: false,
            ttl: None,
            idle_ttl: None,
            assurance: 0,
        }
    }

    /// Whose it is; `None` for a guest's.
    pub fn user_id(&self) -> Option<UserId> {
        self.user
    }

    /// Whether it brings data of its own.
    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// The device it is made on; by default nothing is known of it.
    ///
    /// Clients say what they like in these texts, so they are cut to 512 bytes each, and cleared of
    /// U+0000, which PostgreSQL does not store.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The application's data; by default its type's default.
    #[must_use]
    pub fn data(mut self, data: D) -> Self {
        self.data = Some(data);
        self
    }

    /// In an [upgrade](Tiers::upgrade), writes the data that goes on as this release reads it, and
    /// the default in place of data that does not read as `D`. Without this the data goes on as it is
    /// stored, byte for byte, also to the login service of an application whose data it does not know.
    ///
    /// See [`SessionData`] for data of other releases.
    #[must_use]
    pub fn rewrite_data(mut self) -> Self {
        self.rewrites = true;
        self
    }

    /// How long it lives, to the second, and anew after each refresh or re-authentication; by default
    /// `session.ttl` of the configuration, and at most `session.max_ttl`.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long it may go unused, to the second; by default `session.idle_ttl` of the
    /// configuration, and at most `session.max_ttl`.
    #[must_use]
    pub fn idle_ttl(mut self, ttl: Duration) -> Self {
        self.idle_ttl = Some(ttl);
        self
    }

    /// How well the user proved to be that user, as the application counts; by default 0. For
    /// instance the authentication assurance level of NIST SP 800-63B, 1 to 3.
    #[must_use]
    pub fn assurance(mut self, level: u8) -> Self {
        self.assurance = level;
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

impl<D: SessionData> Tiers<D> {
    /// Begins a session, which is hot here and warm for the other nodes when this returns.
    ///
    /// If the future is dropped, the session may have begun; nobody has its tokens then.
    ///
    /// # Errors
    ///
    /// [`Error::TooManySessions`] if the user has as many as allowed and the configuration refuses
    /// more; [`Error::NoSuchUser`]; [`Error::DataTooLarge`], [`Error::Unwritable`], [`Error::Store`], and
    /// [`Error::Refused`] if the user is switched off.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn login(&self, login: Login<D>) -> Result<Issued<D>, Error> {
        let id = SessionId::random();
        let minted = Minted::new(self, id);
        let new = self.new_session(id, login, minted.hashes)?;
        let permit = self.shared().admit_write()?;
        let session = self.begin(&permit, new, None).await?;
        Ok(minted.issued(session))
    }

    /// Begins a session for tokens that someone else minted, such as JWTs of an identity
    /// provider: it is found by [`Key::AccessJti`] and [`Key::Refresh`]. Each token is named by its issuer
    /// too, since an id is unique for its issuer alone.
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
        access: Option<ForeignToken<'_>>,
        refresh: Option<ForeignToken<'_>>,
    ) -> Result<Session<D>, Error> {
        let foreign = |kind, token: &ForeignToken<'_>| self.keys().hash_foreign(kind, token);
        let hashes = (
            access.map(|token| foreign(TokenKind::Access, &token)),
            refresh.map(|token| foreign(TokenKind::Refresh, &token)),
        );
        let new = self.new_session(SessionId::random(), login, hashes)?;
        let permit = self.shared().admit_write()?;
        self.begin(&permit, new, None).await
    }

    /// The same session under a new name and new tokens, as is due when its user gains privileges.
    /// The old name and tokens are dead when this returns.
    ///
    /// If the future is dropped, it may have happened; nobody has the new tokens then.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the session is no longer accepted; [`Error::Conflict`],
    /// [`Error::Store`].
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn rotate(&self, session: &Session<D>) -> Result<Issued<D>, Error> {
        self.succeed(session, Renewal::Rotation, None, same).await
    }

    /// The same session after its user has proved again to be that user, this `well`: under a new
    /// name and new tokens, and with a new term of life (step-up; OWASP ASVS 5.0, V7.5.3).
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn reauthenticate(&self, session: &Session<D>, well: u8) -> Result<Issued<D>, Error> {
        let now = self.now().wall;
        let (ttl, max_ttl) = (self.config().session.ttl, self.config().session.max_ttl);
        self.succeed(session, Renewal::Reauthentication, None, move |row| {
            NewSession {
                expires_at: (now + row.ttl.unwrap_or(ttl).min(max_ttl)).max(row.head.expires_at),
                authenticated_at: now,
                assurance: well,
                ..same(row)
            }
        })
        .await
    }

    /// Puts another session in a session's place, if given under this name.
    #[tracing::instrument(level = "debug", name = "session.succeed", skip_all, fields(session = %session.id()))]
    pub(super) async fn succeed(
        &self,
        session: &Session<D>,
        why: Renewal,
        name: Option<SessionId>,
        next: impl Fn(Row) -> NewSession,
    ) -> Result<Issued<D>, Error> {
        let old = session.id();
        let permit = self.shared().admit_write()?;
        for _ in 0..ATTEMPTS {
            let row = self.row(old).await?;
            let id = name.unwrap_or_else(SessionId::random);
            let minted = Minted::new(self, id);
            let replaces = Some((old, row.head.version));
            let renewed = Renewed {
                was: row.head.user.as_ref().map(|user| user.id),
                why,
            };
            let new = NewSession {
                id,
                replaces,
                last_seen_at: self.now().wall,
                access: minted.hashes.0,
                refresh: minted.hashes.1,
                ..next(row)
            };
            match self.begin(&permit, new, Some(renewed)).await {
                Ok(session) => return Ok(minted.issued(session)),
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// The row of a session, if that can be accepted now.
    pub(super) async fn row(&self, id: SessionId) -> Result<Row, Error> {
        let shared = self.shared();
        let load = async move |store: Arc<dyn ColdStore>| store.load(Key::Id(id)).await;
        let Some(row) = shared.run_detached(load).await? else {
            return Err(Refusal::Unknown.into());
        };
        match row.head.standing(shared.clock.now().wall) {
            Standing::Valid => Ok(row),
            Standing::Expired => Err(Refusal::Expired.into()),
            Standing::Idle => Err(Refusal::Idle.into()),
            Standing::Revoked => Err(Refusal::Revoked.into()),
        }
    }

    pub(super) fn new_session(
        &self,
        id: SessionId,
        login: Login<D>,
        (access, refresh): (Option<KeyHash>, Option<KeyHash>),
    ) -> Result<NewSession, Error> {
        const SECOND: Duration = Duration::from_secs(1);
        let config = &self.config().session;
        let data = match &login.data {
            Some(data) => data::write(data, config.max_data.as_u64())?,
            None => "null".into(),
        };
        let now = self.now().wall;
        let at_most = |ttl: Duration| ttl.min(config.max_ttl);
        let ttl = login.ttl.map(at_most);
        Ok(NewSession {
            id,
            user: login.user,
            replaces: None,
            created_at: now,
            last_seen_at: now,
            expires_at: now + ttl.unwrap_or(config.ttl),
            ttl: ttl.map(|ttl| whole_seconds(ttl).max(SECOND)),
            // Its use is noted so much late, and nobody is to be logged out early for that.
            idle_ttl: login
                .idle_ttl
                .or(config.idle_ttl)
                .map(at_most)
                .map(|ttl| ttl.saturating_add(touch::lateness(config.touch_interval)))
                .map(whole_seconds),
            authenticated_at: now,
            assurance: login.assurance,
            access,
            refresh,
            device: bounded(login.device.unwrap_or_default()),
            data,
        })
    }

    #[tracing::instrument(level = "debug", name = "session.login", skip_all, fields(session = %new.id))]
    pub(super) async fn begin(
        &self,
        permit: &AdmissionPermit,
        new: NewSession,
        renewed: Option<Renewed>,
    ) -> Result<Session<D>, Error> {
        let config = &self.config().session;
        let limit = config.max_per_user.map(|most| Limit {
            most,
            when_full: config.when_full,
        });
        // One that takes the place of another of the same user makes no more of them.
        let limit = limit.filter(|_| {
            let was = renewed.as_ref().and_then(|renewed| renewed.was);
            was.is_none() || was != new.user
        });
        let tiers = self.clone();
        self.write(permit, async move |shared: Arc<Shared<D>>| {
            let (id, user, replaces) = (new.id, new.user, new.replaces);
            let revoked = match shared.store.create(new, limit).await? {
                Created::Yes { revoked } => revoked,
                Created::Full => {
                    return Err(Error::TooManySessions {
                        allowed: limit.map_or(0, |limit| limit.most),
                    });
                }
                Created::Overtaken => return Err(Error::Conflict { attempts: 1 }),
                Created::NoUser => match user {
                    Some(user) => return Err(Error::NoSuchUser { user }),
                    None => {
                        let reason =
                            "the store says that the user of a guest's session does not exist";
                        return Err(StoreError::permanent("create", reason).into());
                    }
                },
            };
            if let Some(((old, _), renewed)) = replaces.zip(renewed) {
                shared.bury(old).await;
                shared.events.tell(Event::Rotated {
                    from: old,
                    was: renewed.was,
                    to: id,
                    user,
                    why: renewed.why,
                });
            } else {
                let session = id;
                shared.events.tell(Event::Created { session, user });
            }
            if !revoked.is_empty() {
                shared.bury_all(revoked, Reason::Limit).await;
            }
            shared.land_written(id, tiers, Presented::Nothing).await
        })
        .await
    }
}

/// What the audit log tells of a session that takes another's place.
pub(super) struct Renewed {
    was: Option<UserId>,
    why: Renewal,
}

/// A new pair of tokens, and what is stored of it.
pub(super) struct Minted {
    access: Token,
    refresh: Token,
    pub(super) hashes: (Option<KeyHash>, Option<KeyHash>),
}

impl Minted {
    pub(super) fn new<D: SessionData>(tiers: &Tiers<D>, id: SessionId) -> Self {
        let keys = tiers.keys();
        let access = keys.mint(TokenKind::Access, id);
        let refresh = keys.mint(TokenKind::Refresh, id);
        Self {
            hashes: (Some(keys.hash(&access)), Some(keys.hash(&refresh))),
            access,
            refresh,
        }
    }

    pub(super) fn issued<D: SessionData>(self, session: Session<D>) -> Issued<D> {
        Issued {
            session,
            access: self.access,
            refresh: self.refresh,
        }
    }
}

/// All that a session has but its name and tokens.
fn same(row: Row) -> NewSession {
    NewSession {
        id: row.head.id,
        user: row.head.user.map(|user| user.id),
        replaces: None,
        created_at: row.body.created_at,
        last_seen_at: row.head.last_seen_at,
        expires_at: row.head.expires_at,
        ttl: row.ttl,
        idle_ttl: row.head.idle_ttl,
        authenticated_at: row.head.authenticated_at,
        assurance: row.head.assurance,
        access: None,
        refresh: None,
        device: row.body.device,
        data: row.body.data,
    }
}

/// Rounded up, from a millisecond on.
fn whole_seconds(duration: Duration) -> Duration {
    let more = u64::from(duration.subsec_millis() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(more))
}

fn bounded(device: Device) -> Device {
    Device {
        ip: device.ip,
        user_agent: device.user_agent.map(bounded_text),
        label: device.label.map(bounded_text),
    }
}

/// What a client says, as far as it is kept.
pub(super) fn bounded_text(text: Box<str>) -> Box<str> {
    const MOST: usize = 512;
    if text.len() <= MOST && !text.contains('\0') {
        return text;
    }
    let mut end = MOST.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "").into()
}

/// A new end after a refresh at `now`: a new term, but within the longest time after the login.
pub(super) fn prolonged<D: SessionData>(tiers: &Tiers<D>, row: &Row, now: Timestamp) -> Timestamp {
    let config = &tiers.config().session;
    let longest = row.head.authenticated_at + config.max_ttl;
    let ttl = row.ttl.unwrap_or(config.ttl);
    (now + ttl).min(longest).max(row.head.expires_at)
}
