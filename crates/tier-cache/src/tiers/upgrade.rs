//! How a login takes the place of a guest's session, and what becomes of a login that is sent twice.

use std::sync::Arc;

use session_core::{Key, SessionId, Standing, Token, TokenKind, UserId};

use super::Tiers;
use super::login::{Issued, Login, Minted};
use crate::cold::{ColdStore, NewSession, Row};
use crate::config::Strictness;
use crate::data::{self, SessionData};
use crate::error::{Error, Refusal};
use crate::events::Renewal;
use crate::session::Session;

impl<D: SessionData> Tiers<D> {
    /// Makes a guest's session a user's, who has just proved to be that user: under a new name and
    /// new tokens, so that whoever knew the old ones has nothing (session fixation; OWASP ASVS 5.0,
    /// V7.2.4). What the login does not say stays as it was, the data above all. The old session
    /// is dead when this returns, as one that was [revoked](Self::revoke) is.
    ///
    /// A user's session may be upgraded too, as when somebody else logs in on the same device.
    ///
    /// # A login that is sent twice
    ///
    /// A client that clicks twice, or whose answer was lost, sends the same guest's session again,
    /// which is dead by then. For `session.refresh_grace` another login of the *same user* with it
    /// begins one more session, with tokens of its own and the data of the first. It does so on every
    /// node, and also where both come at once. See [`upgraded`](Self::upgraded) for requests, which
    /// find no session by a dead token.
    ///
    /// The dead token by itself opens nothing, ever, and neither does another user's login with it:
    /// whoever planted it with a visitor, or stole it, would have to log in as that visitor. Nothing
    /// leads from a guest's session to the user's but a name that needs the keys and the user's id.
    ///
    /// If the future is dropped, it may have happened; nobody has the new tokens then.
    ///
    /// # Errors
    ///
    /// As [`login`](Self::login); [`Error::Refused`] if the guest's session is no longer accepted,
    /// and [`Error::Conflict`] if it was changed again and again meanwhile.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn upgrade(&self, guest: &Session<D>, login: Login<D>) -> Result<Issued<D>, Error> {
        let name = login.user.map(|user| self.name_after(guest.id(), user));
        match self.put_in_place(guest, name, &login).await {
            Err(Error::Refused(Refusal::Revoked)) => {
                let first = self.first_upgrade(guest.id(), login.user).await?;
                let first = first.ok_or(Refusal::Revoked)?;
                self.begin_beside(first, login).await
            }
            // Plain SQL has brought the old session back, so the name is taken.
            Err(Error::Store(error)) if !error.transient && self.is_taken(name).await? => {
                self.put_in_place(guest, None, &login).await
            }
            upgraded => upgraded,
        }
    }

    /// The session that this user's login has put in the place of the one that this access token
    /// opened, if that was at most `session.refresh_grace` ago: for a login that is sent twice, and
    /// shows a token that is dead by then. Log in with this one's
    /// [data](crate::Session::body). `SessionLayer::log_in` does all of it.
    ///
    /// Ask only for a user who has just proved to be that user. `None` for every other user, and
    /// if the session in its place has ended since.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]; [`Error::Refused`] with [`Refusal::Unavailable`].
    pub async fn upgraded(
        &self,
        token: &Token,
        user: impl Into<UserId>,
    ) -> Result<Option<Session<D>>, Error> {
        let keys = self.keys();
        if token.kind() != TokenKind::Access || !keys.verify(token) {
            return Ok(None);
        }
        let Some(old) = self.any_row(token.id()).await? else {
            return Ok(None);
        };
        if old.head.access != Some(keys.hash(token)) || old.head.revoked_at.is_none() {
            return Ok(None);
        }
        let Some(first) = self.first_upgrade(token.id(), Some(user.into())).await? else {
            return Ok(None);
        };
        match self.find_strict(first.head.id, Strictness::Row).await {
            Ok(session) => Ok(Some(session)),
            Err(refusal) if refusal.is_unavailable() => Err(refusal.into()),
            // It has ended this moment.
            Err(_) => Ok(None),
        }
    }

    async fn put_in_place(
        &self,
        guest: &Session<D>,
        name: Option<SessionId>,
        login: &Login<D>,
    ) -> Result<Issued<D>, Error> {
        let new = self.new_session(SessionId::random(), login.clone(), (None, None))?;
        let allowed = self.config().session.max_data.as_u64();
        self.succeed(guest, Renewal::Login, name, move |row| NewSession {
            // By the clock that all nodes share: the grace is counted from it.
            created_at: row.read_at,
            ..taking_over(new.clone(), login, row, allowed)
        })
        .await
    }

    /// One more session with what the first has.
    async fn begin_beside(&self, first: Row, login: Login<D>) -> Result<Issued<D>, Error> {
        let id = SessionId::random();
        let minted = Minted::new(self, id);
        let new = self.new_session(id, login.clone(), minted.hashes)?;
        let permit = self.shared().admit_write()?;
        let allowed = self.config().session.max_data.as_u64();
        let new = taking_over(new, &login, first, allowed);
        let session = self.begin(&permit, new, None).await?;
        Ok(minted.issued(session))
    }

    /// The session that a login of this user put in the place of another a moment ago.
    async fn first_upgrade(
        &self,
        old: SessionId,
        user: Option<UserId>,
    ) -> Result<Option<Row>, Error> {
        let Some(user) = user else {
            return Ok(None);
        };
        let grace = self.config().session.refresh_grace;
        let now = self.now().wall;
        let is_first = |row: &Row| {
            let whose = row.head.user.as_ref().map(|user| user.id);
            whose == Some(user)
                && row.head.standing(now) == Standing::Valid
                && row.read_at.since(row.body.created_at) <= grace
        };
        // A node with another root gave it another name.
        for name in self.names_after(old, user) {
            let row = self.any_row(name).await?;
            if let Some(row) = row.filter(is_first) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    async fn is_taken(&self, name: Option<SessionId>) -> Result<bool, Error> {
        match name {
            Some(name) => Ok(self.any_row(name).await?.is_some()),
            None => Ok(false),
        }
    }

    async fn any_row(&self, id: SessionId) -> Result<Option<Row>, Error> {
        let load = async move |store: Arc<dyn ColdStore>| store.load(Key::Id(id)).await;
        Ok(self.shared().run_detached(load).await?)
    }

    /// The name of the session that a login of this user puts in the place of another. All nodes
    /// come to the same; nobody else can tell it beforehand.
    fn name_after(&self, old: SessionId, user: UserId) -> SessionId {
        let mut names = self.names_after(old, user).into_iter();
        names.next().unwrap_or(old)
    }

    /// The same under each root that is accepted, this node's first.
    fn names_after(&self, old: SessionId, user: UserId) -> Vec<SessionId> {
        const PLACE: &[u8] = b"the session in the place of ";
        let user = match user {
            UserId::Int(id) => [&[0], &id.to_be_bytes()[..]].concat(),
            UserId::Uuid(id) => [&[1], &id.as_bytes()[..]].concat(),
        };
        let name = |mut bytes: [u8; 16]| {
            // A UUID as random ones are (RFC 9562 §5.4).
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            SessionId::from_bytes(bytes)
        };
        let place: [&[u8]; 2] = [PLACE, old.as_bytes()];
        self.keys().seals(&place, &user).map(name).collect()
    }
}

/// A new session, with what the login does not say from the one before it.
fn taking_over<D: SessionData>(
    mut new: NewSession,
    login: &Login<D>,
    before: Row,
    allowed: u64,
) -> NewSession {
    if login.device.is_none() {
        new.device = before.body.device;
    }
    if login.data.is_none() {
        new.data = match login.rewrites {
            true => rewritten::<D>(before.head.id, before.body.data, allowed),
            false => before.body.data,
        };
    }
    new
}

/// Stored data as this release writes it; none in place of data that it cannot read.
fn rewritten<D: SessionData>(of: SessionId, stored: Box<str>, allowed: u64) -> Box<str> {
    match data::read::<D>(&stored) {
        // What was never set stays so. What is too large now was not when it was stored.
        Ok(_) if &*stored == "null" => stored,
        Ok(read) => data::write(&read, allowed).unwrap_or(stored),
        Err(error) => {
            tracing::warn!(%error, session = %of, "unreadable data does not go on in a login");
            "null".into()
        }
    }
}
