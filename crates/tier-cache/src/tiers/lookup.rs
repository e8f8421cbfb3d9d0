//! How a session is found: in the hot tier without I/O, else by a [pending lookup](super::pending).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use session_core::{
    ForeignToken, Key, KeyHash, SessionId, Standing, Stem, TokenKind, WrittenToken,
};

use super::credential::{Credential, ForeignKeys};
use super::load::Landed;
use super::pending::{LookupRequest, PendingLookup};
use super::verdict::{Presented, Verdict, verdict};
use super::{Shared, Tiers};
use crate::clock::{Moment, Now};
use crate::cold::ColdStore;
use crate::config::{Promotion, Strictness};
use crate::data::SessionData;
use crate::error::Refusal;
use crate::events::Event;
use crate::hot::Entry;
use crate::session::{Session, Tier};

/// The result of a lookup without I/O: see [`Tiers::look_up`].
pub enum Lookup<D: SessionData> {
    /// The hot tier decided: the session, or the reason of the refusal.
    Ready(Result<Session<D>, Refusal>),
    /// The hot tier cannot decide. The token's MAC is checked already.
    Pending(PendingLookup<D>),
}

impl<D: SessionData> fmt::Debug for Lookup<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(found) => f.debug_tuple("Ready").field(found).finish(),
            Self::Pending(lookup) => f.debug_tuple("Pending").field(lookup).finish(),
        }
    }
}

/// What the hot tier said of a credential.
enum HotLookup<D: SessionData> {
    Decided(Result<Session<D>, Refusal>),
    /// Nothing that decides: the request, and those under the other roots that are accepted.
    Undecided(LookupRequest, Box<[LookupRequest]>),
}

impl<D: SessionData> Tiers<D> {
    /// The session of a token or key, as strict as `session.strictness` of the configuration
    /// says.
    ///
    /// Cancellation-safe: a load from the database that was begun goes on and lands in the hot tier.
    ///
    /// # Errors
    ///
    /// [`Refusal`] says why there is none; [`Refusal::Unavailable`] says nothing of the session.
    pub async fn find(&self, credential: impl Into<Credential>) -> Result<Session<D>, Refusal> {
        self.find_strict(credential, self.config().session.strictness)
            .await
    }

    /// The session of a token or key, as strict as asked for, whatever the configuration says.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find); also [`Refusal::Unavailable`] if the database cannot be asked
    /// although strictness demands it.
    pub async fn find_strict(
        &self,
        credential: impl Into<Credential>,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let credential = credential.into();
        let looked = match strictness {
            Strictness::Row => match self.shared().verify_mac(&credential) {
                Ok(()) => undecided(self.shared().request(&credential), &credential),
                Err(forged) => HotLookup::Decided(Err(forged)),
            },
            Strictness::Trust | Strictness::Version => self.hot(&credential),
        };
        let found = match looked {
            HotLookup::Decided(Ok(session)) => return self.confirm(session, strictness).await,
            HotLookup::Decided(Err(refusal)) => Err(refusal),
            HotLookup::Undecided(request, others) => {
                self.find_pending(&request, &others, strictness).await
            }
        };
        found.inspect_err(|refusal| self.shared().tell_refused(credential.session(), refusal))
    }

    /// The session of someone else's token, as [`find`](Self::find) finds it; also if it was adopted under
    /// another root that is accepted, which costs one more lookup for each.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub async fn find_foreign(
        &self,
        kind: TokenKind,
        token: &ForeignToken<'_>,
    ) -> Result<Session<D>, Refusal> {
        let credential = Credential::foreign(self.keys(), kind, token);
        self.find(credential).await
    }

    /// Looks for a session without I/O, trusting the caches as far as the fence lets them, whatever
    /// the configuration says; for middleware, whose way is a short one if the session is hot.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tier_cache::{Login, Lookup, Tier, TierConfig, Tiers};
    /// # use session_core::TokenKeys;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let mut config = TierConfig::default();
    /// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    /// # let keys = TokenKeys::random();
    /// let here: Tiers<String> = Tiers::open(config.clone(), keys.clone()).await?;
    /// let elsewhere: Tiers<String> = Tiers::open(config, keys).await?;
    /// let issued = here.login(Login::guest()).await?;
    ///
    /// // Another node has not seen it yet, and says so at once.
    /// let token = issued.access.into();
    /// let Lookup::Pending(lookup) = elsewhere.look_up(&token) else {
    ///     panic!("it is not hot there");
    /// };
    /// assert_eq!(lookup.find().await?.tier(), Tier::Cold);
    /// assert!(matches!(elsewhere.look_up(&token), Lookup::Ready(Ok(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn look_up(&self, credential: &Credential) -> Lookup<D> {
        match self.hot(credential) {
            HotLookup::Decided(found) => Lookup::Ready(found.inspect_err(|refusal| {
                self.shared().tell_refused(credential.session(), refusal);
            })),
            HotLookup::Undecided(request, others) => {
                let session = credential.session();
                Lookup::Pending(PendingLookup::new(self.clone(), request, others, session))
            }
        }
    }

    /// The session, or why there is none, if that can be said with no I/O; trusting the caches
    /// as far as the fence lets them, whatever the configuration says.
    pub fn try_hot(&self, credential: &Credential) -> Option<Result<Session<D>, Refusal>> {
        match self.look_up(credential) {
            Lookup::Ready(found) => Some(found),
            Lookup::Pending(_) => None,
        }
    }

    /// The session of an access token as it is written, if this node has accepted that token a moment
    /// ago, and the session is still hot; trusting the caches as [`try_hot`](Self::try_hot) does. The
    /// quickest way, and all of it that is quick: of what is not found so, nothing is said.
    #[inline]
    pub fn try_known(&self, token: WrittenToken<'_>) -> Option<Session<D>> {
        let shared = self.shared();
        let (entry, now) = shared.known_entry(token)?;
        if !entry.is_calm(now, shared.load_micros()) || self.counts_uses(&entry) {
            return self.serve_known(entry, now);
        }
        shared.metrics.hot_hits.increment(1);
        Some(Session::known(self.clone(), entry))
    }

    #[cold]
    fn serve_known(&self, entry: Arc<Entry<D>>, now: Now) -> Option<Session<D>> {
        // For which it was accepted then. A session that gets another token is another entry.
        let presented = Presented::Access(entry.head().access?);
        let valid = entry.standing(now.wall) == Standing::Valid;
        valid.then(|| self.serve_hot(entry, now, presented))
    }

    fn hot(&self, credential: &Credential) -> HotLookup<D> {
        let shared = self.shared();
        let access = credential.access_token();
        // Before moka is asked.
        let access = access.map(|token| (token, shared.hot.glimpse(Stem::of(token.id()))));
        // To be known again a token has to be written down, so only where that may be of use.
        if let Some((token, glimpse)) = access
            && glimpse.may_be_known
            && let Some(written) = WrittenToken::access(&*token.written())
            && let Some(session) = self.try_known(written)
        {
            return HotLookup::Decided(Ok(session));
        }
        let request = shared.request(credential);
        if let Some((entry, now)) = shared.hot_entry(request.key) {
            match verdict(&entry, request.presented, now) {
                Verdict::Accepted => {
                    if let Some((token, glimpse)) = access
                        && let Some(written) = WrittenToken::access(&*token.written())
                    {
                        shared.hot.bring(written, &entry, glimpse.ticket);
                    }
                    return HotLookup::Decided(Ok(self.serve_hot(entry, now, request.presented)));
                }
                Verdict::Refused(refusal) => {
                    shared.metrics.hot_hits.increment(1);
                    return HotLookup::Decided(Err(refusal));
                }
                Verdict::Doubtful(_) => {}
            }
        }
        if let Credential::Foreign(keys) = credential {
            return self.hot_under_other_root(request, keys);
        }
        if let Err(forged) = shared.verify_mac(credential) {
            return HotLookup::Decided(Err(forged));
        }
        match request.minted.and_then(|token| shared.refused(token)) {
            Some(refusal) => HotLookup::Decided(Err(refusal)),
            None => HotLookup::Undecided(request, Box::default()),
        }
    }

    /// Someone else's token that is not hot under the first root.
    #[cold]
    fn hot_under_other_root(&self, first: LookupRequest, keys: &ForeignKeys) -> HotLookup<D> {
        let mut others = Vec::new();
        for key in keys.others() {
            match self.hot(&Credential::Key(key)) {
                HotLookup::Undecided(request, _) => others.push(request),
                here => return here,
            }
        }
        HotLookup::Undecided(first, others.into())
    }

    /// What is done for a session that is accepted.
    #[inline]
    fn serve_hot(&self, entry: Arc<Entry<D>>, now: Now, presented: Presented) -> Session<D> {
        let shared = self.shared();
        shared.metrics.hot_hits.increment(1);
        shared.touch(&entry, now);
        self.promote(&entry, now);
        shared.renew(&entry, now);
        Session::new(self.clone(), entry, Tier::Hot, presented)
    }

    /// Makes sure that a session is still as the database has it, if strictness asks for it.
    ///
    /// Returns the session as it was if it has not changed, else as it is now.
    ///
    /// # Errors
    ///
    /// As [`find_strict`](Self::find_strict).
    pub async fn confirm(
        &self,
        session: Session<D>,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let id = Some(session.id());
        let confirmed = match strictness {
            Strictness::Trust => Ok(session),
            _ => self.wait(self.ask_again(session, strictness)).await,
        };
        confirmed.inspect_err(|refusal| self.shared().tell_refused(id, refusal))
    }

    #[tracing::instrument(level = "debug", name = "session.confirm", skip(self, session), fields(session = %session.id()))]
    pub(super) async fn ask_again(
        &self,
        session: Session<D>,
        strictness: Strictness,
    ) -> Result<Session<D>, Refusal> {
        let shared = self.shared();
        let key = Key::Id(session.id());
        match strictness {
            Strictness::Trust => Ok(session),
            Strictness::Version => {
                let asked = shared.clock.now().moment;
                let id = session.id();
                let version = async move |store: Arc<dyn ColdStore>| store.version(id).await;
                let version = shared.run_detached(version).await;
                let version = version.map_err(|error| shared.unavailable(&error))?;
                if shared.clock.now().moment >= asked + shared.config.fence.staleness_bound {
                    return Err(shared.too_late());
                }
                match version {
                    Some(version) if version == session.version() => Ok(session),
                    _ => self.reread(key, session.presented()).await,
                }
            }
            Strictness::Row => self.reread(key, session.presented()).await,
        }
    }

    /// What is handed out of what was loaded.
    pub(super) fn judge(
        &self,
        landed: Landed<D>,
        presented: Presented,
    ) -> Result<Session<D>, Verdict> {
        let shared = self.shared();
        // It went through the gate when it landed; but this caller may be late to fetch it.
        let trusted_until = shared.fence.trusted_until();
        let head = landed.entry.head();
        let of_database = landed.good_until > Moment::LONG_AGO;
        let admitted = shared.admits(head) || (of_database && shared.fence.is_overtaken_by(head));
        // What the fence knows by now may be another history than this was read from.
        let vouched = shared.hot.is_current(&landed.entry);
        let now = shared.clock.now();
        let trusted = vouched && now.moment < trusted_until;
        if !admitted || (!trusted && now.moment >= landed.good_until) {
            return Err(Verdict::Doubtful(shared.too_late()));
        }
        let verdict = verdict(&landed.entry, presented, now);
        if !matches!(verdict, Verdict::Doubtful(_)) {
            match landed.tier {
                Tier::Hot => shared.metrics.hot_hits.increment(1),
                Tier::Warm => shared.metrics.warm_hits.increment(1),
                Tier::Cold => shared.metrics.cold_hits.increment(1),
            }
        }
        match verdict {
            Verdict::Accepted => {
                shared.touch(&landed.entry, now);
                Ok(Session::new(
                    self.clone(),
                    landed.entry,
                    landed.tier,
                    presented,
                ))
            }
            refused => Err(refused),
        }
    }

    /// Whether there is more to a use than to hand the session out.
    #[inline]
    fn counts_uses(&self, entry: &Entry<D>) -> bool {
        let promotion = &self.config().session.promotion;
        entry.body().is_none() && matches!(promotion, Promotion::Uses { .. })
    }

    /// Counts the use of a head whose body is not here, and fetches it behind the request's back
    /// when the configuration says so.
    fn promote(&self, entry: &Arc<Entry<D>>, now: Now) {
        let shared = self.shared();
        if entry.body().is_none()
            && let Promotion::Uses { count, window } = shared.config.session.promotion
            && entry.used(now.moment, window) == count
        {
            shared.fetch(entry.head().id);
        }
    }
}

/// A lookup that the hot tier is not asked for.
fn undecided<D: SessionData>(request: LookupRequest, credential: &Credential) -> HotLookup<D> {
    let others = match credential {
        Credential::Foreign(keys) => keys.others().map(LookupRequest::of).collect(),
        Credential::Token(_) | Credential::Key(_) => Box::default(),
    };
    HotLookup::Undecided(request, others)
}

impl<D: SessionData> Shared<D> {
    fn request(&self, credential: &Credential) -> LookupRequest {
        match credential {
            Credential::Token(token) => {
                let hash = self.keys.hash(token);
                LookupRequest {
                    key: Key::Id(token.id()),
                    presented: match token.kind() {
                        TokenKind::Access => Presented::Access(hash),
                        TokenKind::Refresh => Presented::Refresh(hash),
                    },
                    minted: Some(hash),
                }
            }
            Credential::Key(key) => LookupRequest::of(*key),
            Credential::Foreign(keys) => LookupRequest::of(keys.first()),
        }
    }

    /// Refuses a token that we did not mint: nobody causes I/O with a made-up one.
    fn verify_mac(&self, credential: &Credential) -> Result<(), Refusal> {
        match credential {
            Credential::Token(token) if !self.keys.verify(token) => Err(self.forged()),
            _ => Ok(()),
        }
    }

    /// Counts a token that we did not mint. At the tenth, hundredth and so on the operator is told: a
    /// node that has another root key than the rest works well, and logs out everybody it meets.
    pub(super) fn forged(&self) -> Refusal {
        let tokens = self.forged.fetch_add(1, Ordering::Relaxed) + 1;
        if tokens >= 10 && 10_u64.pow(tokens.ilog10()) == tokens {
            tracing::warn!(
                tokens,
                "tokens were refused since their signature is not accepted: if users are logged \
                 out, this node's root key is not that of the others, or it lacks a retired one"
            );
        }
        Refusal::Forged
    }

    /// Why a token was refused a moment ago, unless its session has changed since.
    fn refused(&self, token: KeyHash) -> Option<Refusal> {
        let refused = self.hot.refused(token)?;
        // A restore may have put the session there, and no feed tells of new ones.
        let may_be_new =
            matches!(refused.why, Refusal::Unknown) && self.clock.now().moment >= refused.until;
        let changed = may_be_new || self.fence.is_past(refused.session, refused.version);
        (!changed).then_some(refused.why)
    }

    /// For the audit log.
    pub(super) fn tell_refused(&self, session: Option<SessionId>, refusal: &Refusal) {
        if let Some(reason) = refusal.into() {
            self.events.tell(Event::Refused { session, reason });
        }
    }
}
