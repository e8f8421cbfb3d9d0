//! How sessions are revoked, and listed for whoever may revoke them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use session_core::{Key, SessionId, Version};

use super::admission::AdmissionPermit;
use super::{Shared, Tiers};
use crate::clock::{Clock, Moment};
use crate::cold::Scope;
use crate::data::SessionData;
use crate::error::Error;
use crate::events::{Event, Reason};
use crate::session::Session;

/// A committed revocation.
#[derive(Clone, Debug)]
pub struct Receipt {
    effective_at: Moment,
    clock: Clock,
    revoked: u64,
}

impl Receipt {
    fn now<D: SessionData>(shared: &Shared<D>, revoked: u64) -> Self {
        Self {
            effective_at: shared.clock.now().moment + shared.config.fence.longest(),
            clock: shared.clock.clone(),
            revoked,
        }
    }

    /// From then on no node serves what was revoked.
    pub fn effective_at(&self) -> Moment {
        self.effective_at
    }

    /// How long until no node serves what was revoked: at most the staleness bound, and what
    /// `fence.on_blind` adds to it. Usually the nodes hear of it within milliseconds.
    pub fn effective_within(&self) -> Duration {
        self.effective_at.since(self.clock.now().moment)
    }

    /// Waits until no node serves what was revoked. Cancellation-safe.
    pub async fn settled(&self) {
        loop {
            let left = self.effective_within();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Both revocations as one: it is settled when both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            effective_at: self.effective_at.max(other.effective_at),
            revoked: self.revoked + other.revoked,
            clock: self.clock,
        }
    }

    /// How many sessions were active until then; also those whose time was over, if they had not been
    /// removed yet.
    pub fn revoked(&self) -> u64 {
        self.revoked
    }
}

impl<D: SessionData> Tiers<D> {
    /// Revokes a session. When this returns it is committed, and most nodes know of it; after
    /// [`Receipt::settled`] all do. A session that was revoked before, or never was, is no error.
    ///
    /// If the future is dropped, the session may have been revoked.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database could not be written; the session may still be accepted.
    pub async fn revoke(&self, id: SessionId) -> Result<Receipt, Error> {
        self.revoke_for(id, Reason::Asked).await
    }

    /// The same, for a reason that the audit log will tell.
    ///
    /// # Errors
    ///
    /// As [`revoke`](Self::revoke).
    #[tracing::instrument(level = "debug", name = "session.revoke", skip_all, fields(session = %id))]
    pub async fn revoke_for(&self, id: SessionId, reason: Reason) -> Result<Receipt, Error> {
        let permit = self.shared().admit_write()?;
        self.revoke_from(&permit, id, reason).await
    }

    pub(super) async fn revoke_from(
        &self,
        permit: &AdmissionPermit,
        id: SessionId,
        reason: Reason,
    ) -> Result<Receipt, Error> {
        self.write(permit, async move |shared: Arc<Shared<D>>| {
            let revoked = shared.store.revoke(id, shared.clock.now().wall).await;
            let was_active = revoked.inspect_err(|error| {
                tracing::warn!(%error, session = %id, ?reason, "a session could not be revoked");
            })?;
            let receipt = Receipt::now(&shared, u64::from(was_active));
            let user = shared.bury(id).await;
            if was_active {
                shared.events.tell(Event::Revoked {
                    session: id,
                    user,
                    reason,
                });
            }
            Ok(receipt)
        })
        .await
    }

    /// Revokes every session in a scope: all others of a user, all of a user, all that began before
    /// an instant, all there are. In batches, each of which is a transaction, until there is none
    /// left: sessions that begin meanwhile may be among them, unless the scope ends before. One that
    /// goes on under a new name meanwhile is, but for a scope of [one](Scope::only) name.
    ///
    /// If the future is dropped, it goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database could not be written; some may have been revoked. It may
    /// be called again.
    #[tracing::instrument(level = "debug", name = "session.revoke_all", skip_all)]
    pub async fn revoke_all(&self, scope: Scope) -> Result<Receipt, Error> {
        /// Sessions in a transaction, so that none locks many for long.
        const BATCH: u32 = 500;
        let permit = self.shared().admit_write()?;
        self.write(&permit, async move |shared: Arc<Shared<D>>| {
            let mut revoked = 0;
            loop {
                let now = shared.clock.now().wall;
                let ids = shared.store.revoke_all(scope, now, BATCH).await?;
                let receipt = Receipt::now(&shared, revoked + ids.len() as u64);
                if ids.is_empty() {
                    return Ok(receipt);
                }
                revoked += ids.len() as u64;
                shared.bury_all(ids, Reason::Asked).await;
            }
        })
        .await
    }
}

impl<D: SessionData> Session<D> {
    /// Revokes this session: a logout.
    ///
    /// # Errors
    ///
    /// As [`Tiers::revoke`].
    pub async fn revoke(&self) -> Result<Receipt, Error> {
        self.tiers().revoke(self.id()).await
    }

    /// Revokes all other sessions of the same user; of a guest there are none.
    ///
    /// # Errors
    ///
    /// As [`Tiers::revoke_all`].
    pub async fn revoke_others(&self) -> Result<Receipt, Error> {
        match self.user() {
            Some(user) => {
                let others = Scope::user(user.id).except(self.id());
                self.tiers().revoke_all(others).await
            }
            None => Ok(Receipt::now(self.tiers().shared(), 0)),
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// Makes every cache know that these were revoked; see [`bury`](Self::bury).
    pub(super) async fn bury_all(self: &Arc<Self>, ids: Vec<SessionId>, reason: Reason) {
        /// Told to Redis at once.
        const AT_ONCE: usize = 64;
        let keys = ids.iter().copied().map(Key::Id).collect();
        match self.store.load_many(keys).await {
            Ok(rows) => {
                let tell = iter(&rows).for_each_concurrent(AT_ONCE, |row| self.bury_row(row));
                tell.await;
                for row in rows {
                    self.events.tell(Event::Revoked {
                        session: row.head.id,
                        user: row.head.user.map(|user| user.id),
                        reason,
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "revoked; the caches hear of it by the feed");
                for session in ids {
                    self.hot.remove_below(session, Version::DELETED);
                    self.events.tell(Event::Revoked {
                        session,
                        user: None,
                        reason,
                    });
                }
                self.told.notify_one();
            }
        }
    }
}
