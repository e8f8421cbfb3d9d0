//! A session that is not hot: what Redis has of it, else what the database has.

use std::fmt;

use session_core::{Key, KeyHash, SessionId, Version};

use super::read::{Shown, Verdict, verdict};
use super::{Shared, Tiers};
use crate::config::Strictness;
use crate::data::SessionData;
use crate::error::Refusal;
use crate::hot::{Asked, Refused};
use crate::session::{Session, Tier};

/// What a credential asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) shown: Shown,
    /// The hash of what it shows, if that is a token that we minted.
    pub(super) minted: Option<KeyHash>,
}

impl Wanted {
    /// The session of a key that the caller vouches for.
    pub(super) fn of(key: Key) -> Self {
        let shown = match key {
            Key::Id(_) => Shown::Nothing,
            Key::AccessJti(hash) => Shown::Access(hash),
            Key::Refresh(hash) => Shown::Refresh(hash),
        };
        let minted = None;
        Self { key, shown, minted }
    }
}

/// A session that cannot be had from the hot tier, and is yet to be found: see [`Tiers::look_up`].
#[must_use]
pub struct Below<D: SessionData> {
    tiers: Tiers<D>,
    wanted: Wanted,
    /// What else the credential may stand for, under other roots.
    others: Box<[Wanted]>,
    /// What the credential names, if it does.
    session: Option<SessionId>,
}

impl<D: SessionData> Below<D> {
    pub(super) fn new(
        tiers: Tiers<D>,
        wanted: Wanted,
        others: Box<[Wanted]>,
        session: Option<SessionId>,
    ) -> Self {
        Self {
            tiers,
            wanted,
            others,
            session,
        }
    }

    /// Finds it, as [`Tiers::find_strict`] with [`Strictness::Trust`] does, but that it takes for
    /// certain what was seen of the hot tier when it was looked up: to be called soon.
    ///
    /// Cancellation-safe: a load from the database that was begun goes on and lands in the hot tier.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why there is none; [`Refusal::Unavailable`] says nothing of the session.
    pub async fn find(self) -> Result<Session<D>, Refusal> {
        let (tiers, trust) = (&self.tiers, Strictness::Trust);
        let found = tiers.find_any_below(&self.wanted, &self.others, trust);
        let found = found.await;
        found.inspect_err(|refusal| self.tiers.shared().tell_refused(self.session, refusal))
    }
}

impl<D: SessionData> fmt::Debug for Below<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl<D: SessionData> Tiers<D> {
    /// The session from below the hot tier, of what is wanted or of what else the credential may stand
    /// for.
    pub(super) async fn find_any_below(
        &self,
        wanted: &Wanted,
        others: &[Wanted],
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let mut found = Err(Refusal::Unknown);
        for wanted in std::iter::once(wanted).chain(others) {
            found = self.find_below(wanted, strictness).await;
            if !matches!(found, Err(Refusal::Unknown)) {
                break;
            }
        }
        found.or_else(|refusal| match strictness {
            Strictness::Trust if refusal.is_unavailable() => {
                let blind = others.iter().find_map(|wanted| self.blind(wanted));
                blind.ok_or(refusal)
            }
            _ => Err(refusal),
        })
    }

    /// The session from below the hot tier.
    async fn find_below(
        &self,
        wanted: &Wanted,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let found = match self.shared().place_to_wait() {
            Ok(_place) => self.load(wanted, strictness).await,
            Err(refusal) => Err(refusal),
        };
        found.or_else(|refusal| match strictness {
            Strictness::Trust if refusal.is_unavailable() => self.blind(wanted).ok_or(refusal),
            _ => Err(refusal),
        })
    }

    async fn load(&self, wanted: &Wanted, strictness: Strictness) -> Result<Session<D>, Refusal> {
        let shared = self.shared();
        let Wanted { key, shown, .. } = *wanted;
        let deadline = shared.deadline();
        let asked = shared.hot.asking();
        if strictness == Strictness::Row {
            return shared.in_time(deadline, self.reread(key, shown)).await;
        }
        let (loaded, joined) = shared.load(key, deadline).await;
        let found = loaded
            .map_err(Verdict::Refused)
            .and_then(|landed| self.judge(landed, shown));
        match found {
            Ok(session) if strictness == Strictness::Trust => Ok(session),
            Ok(session) => {
                let confirmed = self.ask_again(session, strictness);
                shared.in_time(deadline, confirmed).await
            }
            Err(doubt) => {
                let settled = self.settle(wanted, doubt, joined, asked);
                shared.in_time(deadline, settled).await
            }
        }
    }

    /// What becomes of a request for which no session was loaded that it may have.
    async fn settle(
        &self,
        wanted: &Wanted,
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
                self.reread_at_version(wanted.key, wanted.shown).await
            }
        };
        found.map_err(|(why, version)| {
            if let (Some(token), Key::Id(session)) = (wanted.minted, wanted.key) {
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
    fn blind(&self, wanted: &Wanted) -> Option<Session<D>> {
        let shared = self.shared();
        let later = shared.config.fence.on_blind.serves_for();
        if later.is_zero() {
            return None;
        }
        let Wanted { key, shown, .. } = *wanted;
        let (entry, now) = shared.hot_entry_until(key, later)?;
        let accepted = matches!(verdict(&entry, shown, now), Verdict::Accepted);
        accepted.then(|| {
            shared.metrics.blind_hits.increment(1);
            Session::new(self.clone(), entry, Tier::Hot, shown)
        })
    }

    /// The session read from the database by a statement that began after this was called: a load
    /// that was already under way may have been asked before the change that the caller wants to
    /// know of.
    pub(super) async fn reread(&self, key: Key, shown: Shown) -> Result<Session<D>, Refusal> {
        let read = self.reread_at_version(key, shown).await;
        read.map_err(|(refusal, _)| refusal)
    }

    /// Like [`reread`](Self::reread); a refusal comes with the version that was refused, which is
    /// [`Version::DELETED`] if there was no session.
    async fn reread_at_version(
        &self,
        key: Key,
        shown: Shown,
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
            match self.judge(landed, shown) {
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
