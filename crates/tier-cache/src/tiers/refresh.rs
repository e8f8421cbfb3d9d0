//! How refresh tokens are traded, once each; and what becomes of one that is used twice.
//!
//! RFC 9700 §4.14.2: each refresh makes a new token and the old one void; if a void one is used,
//! either the thief or the owner does it, and nobody can tell who. So the session ends.

use std::sync::Arc;

use session_core::{KeyHash, Mark, Salt, Token, TokenKind};

use super::admission::AdmissionPermit;
use super::login::prolonged;
use super::verdict::Presented;
use super::{ATTEMPTS, Issued, Shared, Tiers};
use crate::cold::{Change, ColdStore, Rotation, Row};
use crate::data::SessionData;
use crate::error::{Error, Refusal};
use crate::events::{Event, Reason};
use crate::hot::Entry;
use crate::session::{Session, Tier};

impl<D: SessionData> Tiers<D> {
    /// Trades a refresh token for a new pair of tokens and a new term of life, at most until
    /// `session.max_ttl` after the login. The old pair is dead from then on.
    ///
    /// For `session.refresh_grace` the same token is answered with the *same* pair again, on every
    /// node: for tabs that ask at once, and clients whose answer was lost. After that, whoever uses
    /// it has a copy, or the owner has one: the session is revoked, and the audit log told.
    ///
    /// If the future is dropped, the token may have been traded in; it is answered again within the
    /// grace.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`Refusal::Reused`] for a token that was traded in before; with
    /// [`Refusal::Unknown`] for one that is not known, if it may be newer than a backup that was
    /// restored; or with another [`Refusal`] if it is none of ours or the session is no longer accepted;
    /// [`Error::Conflict`], [`Error::Store`].
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub async fn refresh(&self, token: &Token) -> Result<Issued<D>, Error> {
        let refreshed = self.refresh_if(token, |_| true).await?;
        Ok(refreshed.expect("every session was admitted"))
    }

    /// As [`refresh`](Self::refresh), if `admits` says so of the session that the token would get:
    /// else nothing happens, and the answer is `None`. It is asked for a token that comes again within
    /// the grace too, and again where the session changed meanwhile. The session has its body
    /// ([`Session::body_if_here`]). A token whose use ends the session does so whoever shows it.
    ///
    /// For middleware that binds sessions to clients; `SessionLayer::refresh` asks its hook so.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    ///
    /// # Panics
    ///
    /// As [`refresh`](Self::refresh).
    #[tracing::instrument(level = "debug", name = "session.refresh", skip_all, fields(session = %token.id()))]
    pub async fn refresh_if(
        &self,
        token: &Token,
        admits: impl FnMut(&Session<D>) -> bool,
    ) -> Result<Option<Issued<D>>, Error> {
        let refreshed = self.trade(token, admits).await;
        if let Err(Error::Refused(refusal)) = &refreshed {
            self.shared().tell_refused(Some(token.id()), refusal);
        }
        refreshed
    }

    async fn trade(
        &self,
        token: &Token,
        mut admits: impl FnMut(&Session<D>) -> bool,
    ) -> Result<Option<Issued<D>>, Error> {
        let keys = self.keys();
        if token.kind() != TokenKind::Refresh {
            return Err(Refusal::Malformed.into());
        }
        if !keys.verify(token) {
            return Err(self.shared().forged().into());
        }
        let hash = keys.hash(token);
        let shared = self.shared();
        let permit = shared.admit_write()?;
        for _ in 0..ATTEMPTS {
            let row = self.row(token.id()).await?;
            let now = shared.clock.now().wall;
            let replayed = match row.rotation {
                _ if row.head.refresh == Some(hash) => None,
                Some(last)
                    if last.previous == hash
                        && row.read_at.since(last.at) <= self.config().session.refresh_grace =>
                {
                    let pair = keys.succeeded(token, &last.salt, row.head.refresh);
                    // Else a root made it that is accepted no more, or has leaked.
                    Some(pair.ok_or(Refusal::Replaced)?)
                }
                // Anybody may have made it.
                _ if keys.is_of_leaked_root(token) => return Err(Refusal::Replaced.into()),
                _ if self.may_be_newer_than_a_backup(hash, &row).await? => {
                    return Err(Refusal::Unknown.into());
                }
                _ => return Err(self.reused(&permit, token, &row).await?),
            };
            if !admits(&self.as_read(&row)) {
                return Ok(None);
            }
            if let Some(pair) = replayed {
                let traded = Traded::of(self, pair);
                return Ok(Some(self.answer(&permit, token, traded).await?));
            }
            let salt = Salt::random();
            let traded = Traded::new(self, token, salt);
            let change = Change {
                expires_at: Some(prolonged(self, &row, now)),
                last_seen_at: Some(now.max(row.head.last_seen_at)),
                access: Some(traded.hashes.0),
                refresh: Some(traded.hashes.1),
                rotation: Some(Rotation {
                    previous: hash,
                    salt,
                    // By the clock that all nodes share: by another's, a retry might look like reuse.
                    at: row.read_at,
                }),
                ..Change::default()
            };
            let presented = Presented::Refresh(traded.hashes.1);
            let changed = self.change(&permit, token.id(), row.head.version, presented, change);
            if let Some(session) = changed.await? {
                shared.events.tell(Event::Refreshed {
                    session: token.id(),
                    user: session.user().map(|user| user.id),
                });
                return Ok(Some(traded.issued(session)));
            }
        }
        Err(Error::Conflict { attempts: ATTEMPTS })
    }

    /// What was traded for the token a moment ago, by another request or on another node.
    async fn answer(
        &self,
        permit: &AdmissionPermit,
        token: &Token,
        traded: Traded,
    ) -> Result<Issued<D>, Error> {
        let (tiers, id) = (self.clone(), token.id());
        let presented = Presented::Refresh(traded.hashes.1);
        let session = self
            .write(permit, async move |shared: Arc<Shared<D>>| {
                shared.land_written(id, tiers, presented).await
            })
            .await?;
        self.shared().metrics.refresh_replays.increment(1);
        self.shared().events.tell(Event::RefreshReplayed {
            session: id,
            user: session.user().map(|user| user.id),
        });
        Ok(traded.issued(session))
    }

    /// The session of a row, for whoever wants to look at it; no cache hears of it.
    fn as_read(&self, row: &Row) -> Session<D> {
        let shared = self.shared();
        let (now, generation) = (shared.clock.now(), shared.hot.generation());
        let entry = Entry::cold(row.clone(), now, generation, &shared.hot);
        Session::new(
            self.clone(),
            Arc::new(entry),
            Tier::Cold,
            Presented::Nothing,
        )
    }

    /// Whether a token that is not the session's may be newer than the row, which came from a backup. It is
    /// then no sign of theft, and its client has to log in again.
    ///
    /// Every lineage may have begun after a restore. A session that was refreshed since is one of the
    /// lineage itself; and a token that this row names as traded in is an older one in any case.
    async fn may_be_newer_than_a_backup(&self, hash: KeyHash, row: &Row) -> Result<bool, Error> {
        if row.rotation.is_some_and(|last| last.previous == hash) {
            return Ok(false);
        }
        let ask =
            async move |store: Arc<dyn ColdStore>| store.changes(Mark::new(i64::MAX), 1).await;
        let now = self.shared().run_detached(ask).await?;
        let refreshed = row.rotation.map_or(row.body.created_at, |last| last.at);
        // Where it has moved, a lineage is about to begin.
        let before = now.moved.is_some() || now.begun.is_some_and(|begun| refreshed < begun);
        if before {
            tracing::info!(
                session = %row.head.id,
                "a refresh token is not known that may be newer than a restored backup: its client has to log in again"
            );
        }
        Ok(before)
    }

    /// Ends the session of a token that was traded in before.
    async fn reused(
        &self,
        permit: &AdmissionPermit,
        token: &Token,
        row: &Row,
    ) -> Result<Error, Error> {
        let session = token.id();
        self.shared().events.tell(Event::ReuseDetected {
            session,
            user: row.head.user.as_ref().map(|user| user.id),
        });
        self.revoke_from(permit, session, Reason::Reuse).await?;
        Ok(Refusal::Reused.into())
    }
}

/// What a refresh token is traded for, and what is stored of it.
struct Traded {
    access: Token,
    refresh: Token,
    hashes: (KeyHash, KeyHash),
}

impl Traded {
    fn new<D: SessionData>(tiers: &Tiers<D>, token: &Token, salt: Salt) -> Self {
        let keys = tiers.keys();
        let access = keys.succeed(token, &salt, TokenKind::Access);
        let refresh = keys.succeed(token, &salt, TokenKind::Refresh);
        Self::of(tiers, (access, refresh))
    }

    fn of<D: SessionData>(tiers: &Tiers<D>, (access, refresh): (Token, Token)) -> Self {
        let keys = tiers.keys();
        Self {
            hashes: (keys.hash(&access), keys.hash(&refresh)),
            access,
            refresh,
        }
    }

    fn issued<D: SessionData>(self, session: Session<D>) -> Issued<D> {
        Issued {
            session,
            access: self.access,
            refresh: self.refresh,
        }
    }
}
