//! A lookup that the hot tier could not decide: Redis is asked, then the database.

use std::fmt;

use session_core::{Key, KeyHash, SessionId, Version};

use super::verdict::{Presented, Verdict, verdict};
use super::{Shared, Tiers};
use crate::config::Strictness;
use crate::data::SessionData;
use crate::error::Refusal;
use crate::hot::{Asked, Refused};
use crate::session::{Session, Tier};

/// The key to look up, and what the session must hold to be served.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookupRequest {
    pub(super) key: Key,
    pub(super) presented: Presented,
    /// The hash of the token, if it is one that we minted.
    pub(super) minted: Option<KeyHash>,
}

impl LookupRequest {
    /// The session of a key that the caller vouches for.
    pub(super) fn of(key: Key) -> Self {
        let presented = match key {
            Key::Id(_) => Presented::Nothing,
            Key::AccessJti(hash) => Presented::Access(hash),
            Key::Refresh(hash) => Presented::Refresh(hash),
        };
        let minted = None;
        Self {
            key,
            presented,
            minted,
        }
    }
}

/// A lookup that the hot tier could not decide: see [`Tiers::look_up`].
#[must_use]
pub struct PendingLookup<D: SessionData> {
    tiers: Tiers<D>,
    request: LookupRequest,
    /// The same credential under the other roots that are accepted.
    others: Box<[LookupRequest]>,
    /// The session's id, if the credential holds it.
    session: Option<SessionId>,
}

impl<D: SessionData> PendingLookup<D> {
    pub(super) fn new(
        tiers: Tiers<D>,
        request: LookupRequest,
        others: Box<[LookupRequest]>,
        session: Option<SessionId>,
    ) -> Self {
        Self {
            tiers,
            request,
            others,
            session,
        }
    }

    /// Finds the session like [`Tiers::find_strict`] with [`Strictness::Trust`]. The hot tier is not asked
    /// again, so call this soon after [`Tiers::look_up`].
    ///
    /// Cancellation-safe: a load that was started goes on, and its result becomes hot.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why there is none; [`Refusal::Unavailable`] says nothing of the session.
    pub async fn find(self) -> Result<Session<D>, Refusal> {
        let (tiers, trust) = (&self.tiers, Strictness::Trust);
        let found = tiers.find_pending(&self.request, &self.others, trust);
        let found = found.await;
        found.inspect_err(|refusal| self.tiers.shared().tell_refused(self.session, refusal))
    }
}

impl<D: SessionData> fmt::Debug for PendingLookup<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLookup")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl<D: SessionData> Tiers<D> {
    /// Finds the session under `request`, or else under one of `others`.
    pub(super) async fn find_pending(
        &self,
        request: &LookupRequest,
        others: &[LookupRequest],
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let mut found = Err(Refusal::Unknown);
        for request in std::iter::once(request).chain(others) {
            found = self.find_one_pending(request, strictness).await;
            if !matches!(found, Err(Refusal::Unknown)) {
                break;
            }
        }
        found.or_else(|refusal| match strictness {
            Strictness::Trust if refusal.is_unavailable() => {
                let blind = others.iter().find_map(|request| self.blind(request));
                blind.ok_or(refusal)
            }
            _ => Err(refusal),
        })
    }

    /// Finds the session under one request.
    async fn find_one_pending(
        &self,
        request: &LookupRequest,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let found = match self.shared().admit_read() {
            Ok(_permit) => self.load(request, strictness).await,
            Err(refusal) => Err(refusal),
        };
        found.or_else(|refusal| match strictness {
            Strictness::Trust if refusal.is_unavailable() => self.blind(request).ok_or(refusal),
            _ => Err(refusal),
        })
    }

    async fn load(
        &self,
        request: &LookupRequest,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let shared = self.shared();
        let LookupRequest { key, presented, .. } = *request;
        let deadline = shared.deadline();
        let asked = shared.hot.asking();
        if strictness == Strictness::Row {
            return shared.in_time(deadline, self.reread(key, presented)).await;
        }
        let (loaded, joined) = shared.load(key, deadline).await;
        let found = loaded
            .map_err(Verdict::Refused)
            .and_then(|landed| self.judge(landed, presented));
        match found {
            Ok(session) if strictness == Strictness::Trust => Ok(session),
            Ok(session) => {
                let confirmed = self.ask_again(session, strictness);
                shared.in_time(deadline, confirmed).await
            }
            Err(doubt) => {
                let settled = self.settle(request, doubt, joined, asked);
                shared.in_time(deadline, settled).await
            }
        }
    }

    /// Decides on a request whose loaded session may not be served: refuses it, or asks the database.
    async fn settle(
        &self,
        request: &LookupRequest,
        doubt: Verdict,
        joined: bool,
        asked: Asked,
    ) -> Result<Session<D>, Refusal> {
        let shared = self.shared();
        let found = match doubt {
            Verdict::Refused(refusal) if !joined || refusal.is_unavailable() => {
                shared.count_miss(&refusal);
                Err((refusal, Version::DELETED))
            }
            // A cache may say yes on its own; its no is confirmed before anyone is logged out.
            // So is that of a load begun before this request, whose token may be newer.
            doubt => {
                tracing::trace!(?doubt, "asking the database to confirm a refusal");
                self.reread_at_version(request.key, request.presented).await
            }
        };
        found.map_err(|(why, version)| {
            if let (Some(token), Key::Id(session)) = (request.minted, request.key) {
                let refused = Refused {
                    asked,
                    why: why.clone(),
                    session,
                    version,
                    until: shared.clock.now().moment + shared.config.fence.staleness_bound,
                };
                shared.hot.refuse(token, refused);
            }
            why
        })
    }

    /// What is hot, where the database can neither be heard nor asked, and the configuration has it
    /// served all the same.
    fn blind(&self, request: &LookupRequest) -> Option<Session<D>> {
        let shared = self.shared();
        let later = shared.config.fence.on_blind.serves_for();
        if later.is_zero() {
            return None;
        }
        let LookupRequest { key, presented, .. } = *request;
        let (entry, now) = shared.hot_entry_until(key, later)?;
        let accepted = matches!(verdict(&entry, presented, now), Verdict::Accepted);
        accepted.then(|| {
            shared.metrics.blind_hits.increment(1);
            Session::new(self.clone(), entry, Tier::Hot, presented)
        })
    }

    /// The session read from the database by a statement that began after this was called: a load
    /// that was already under way may have been asked before the change that the caller wants to
    /// know of.
    pub(super) async fn reread(
        &self,
        key: Key,
        presented: Presented,
    ) -> Result<Session<D>, Refusal> {
        let read = self.reread_at_version(key, presented).await;
        read.map_err(|(refusal, _)| refusal)
    }

    /// Like [`reread`](Self::reread); a refusal comes with the version that was refused, which is
    /// [`Version::DELETED`] if there was no session.
    async fn reread_at_version(
        &self,
        key: Key,
        presented: Presented,
    ) -> Result<Session<D>, (Refusal, Version)> {
        /// A session that many change at once may have changed again before it is collected.
        const TRIES: u32 = 64;
        let shared = self.shared();
        let give_up = shared.clock.now().moment + shared.config.fence.staleness_bound;
        let mut tries = 1;
        loop {
            let landed = shared.load_fresh(key).await;
            let landed = landed.map_err(|refusal| {
                shared.count_miss(&refusal);
                (refusal, Version::DELETED)
            })?;
            let version = landed.entry.head().version;
            match self.judge(landed, presented) {
                Err(Verdict::Doubtful(doubt))
                    if doubt.is_unavailable()
                        && tries < TRIES
                        && shared.clock.now().moment < give_up =>
                {
                    tries += 1;
                }
                judged => return judged.map_err(|verdict| (verdict.into_refusal(), version)),
            }
        }
    }
}

impl<D: SessionData> Shared<D> {
    fn count_miss(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::Unknown) {
            self.metrics.misses.increment(1);
        }
    }
}
