//! How a session is found: hot with no I/O, else [below](super::below).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use session_core::{
    ForeignToken, Key, KeyHash, SessionId, Standing, Stem, Token, TokenKeys, TokenKind,
    WrittenToken,
};

use super::below::{Below, Wanted};
use super::load::{From, Landed};
use super::{Shared, Tiers};
use crate::clock::{Moment, Now};
use crate::cold::ColdStore;
use crate::config::{Promotion, Strictness};
use crate::data::SessionData;
use crate::error::Refusal;
use crate::events::Event;
use crate::hot::{Entry, Hot};
use crate::session::{Session, Tier};

/// What a session is asked for with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A token that we minted. It proves itself: its MAC is checked before any tier below the
    /// hot one is asked, and its secret against the session.
    Token(Token),
    /// A key that the caller vouches for: an id out of a trusted place, or the `jti` of a token
    /// whose signature the caller has checked.
    Key(Key),
    /// Someone else's token, where several roots are accepted: see [`foreign`](Self::foreign).
    Foreign(ForeignKeys),
}

/// What someone else's token may be stored as, under each root that is accepted.
#[derive(Clone, Debug)]
pub struct ForeignKeys(Arc<[Key]>);

impl std::convert::From<Token> for Credential {
    fn from(token: Token) -> Self {
        Self::Token(token)
    }
}

impl std::convert::From<Key> for Credential {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}

impl std::convert::From<SessionId> for Credential {
    fn from(id: SessionId) -> Self {
        Self::Key(Key::Id(id))
    }
}

impl Credential {
    /// Someone else's token, whose signature the caller has checked. The session is found under each
    /// root that these keys accept, so it survives a [rotation of the root](TokenKeys#rotation-of-the-root).
    ///
    /// With one root it is one key. Each further root costs one more lookup where the session is not hot.
    ///
    /// ```
    /// use session_core::{ForeignToken, TokenKeys, TokenKind};
    /// use tier_cache::Credential;
    ///
    /// let (new, old) = (TokenKeys::random(), TokenKeys::random());
    /// let token = ForeignToken::new("https://login.example", "af0ifjsldkj")?;
    /// let one = Credential::foreign(&new, TokenKind::Access, &token);
    /// assert!(matches!(one, Credential::Key(_)));
    /// let rotated = new.retire_root(old)?;
    /// let both = Credential::foreign(&rotated, TokenKind::Access, &token);
    /// assert!(matches!(both, Credential::Foreign(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn foreign(keys: &TokenKeys, kind: TokenKind, token: &ForeignToken<'_>) -> Self {
        let key = match kind {
            TokenKind::Access => Key::AccessJti,
            TokenKind::Refresh => Key::Refresh,
        };
        let mut hashes = keys.hashes_foreign(kind, token).map(key);
        match (hashes.next(), hashes.next()) {
            (Some(only), None) => Self::Key(only),
            (first, second) => {
                let first = first.into_iter().chain(second);
                Self::Foreign(ForeignKeys(first.chain(hashes).collect()))
            }
        }
    }

    /// The session that it names, if it names one.
    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Token(token) => Some(token.id()),
            Self::Key(Key::Id(id)) => Some(*id),
            Self::Key(_) | Self::Foreign(_) => None,
        }
    }

    fn access_token(&self) -> Option<&Token> {
        match self {
            Self::Token(token) => (token.kind() == TokenKind::Access).then_some(token),
            Self::Key(_) | Self::Foreign(_) => None,
        }
    }
}

/// What came of looking for a session without I/O: see [`Tiers::look_up`].
pub enum Lookup<D: SessionData> {
    /// The session, or why there is none.
    Here(Result<Session<D>, Refusal>),
    /// It is not here, or what is here does not say enough; and the credential is not made up.
    Below(Below<D>),
}

impl<D: SessionData> fmt::Debug for Lookup<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(found) => f.debug_tuple("Here").field(found).finish(),
            Self::Below(below) => f.debug_tuple("Below").field(below).finish(),
        }
    }
}

/// The same for our own use.
enum Looked<D: SessionData> {
    Here(Result<Session<D>, Refusal>),
    /// What is wanted; and what else the credential may stand for, under other roots.
    Below(Wanted, Box<[Wanted]>),
}

/// What a session must hold to be the one that was asked for.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Shown {
    /// Found by its id alone.
    Nothing,
    Access(KeyHash),
    Refresh(KeyHash),
    /// A token that it had, and has no longer.
    Replaced,
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
            Strictness::Row => match self.shared().genuine(&credential) {
                Ok(()) => below(self.shared().wanted(&credential), &credential),
                Err(forged) => Looked::Here(Err(forged)),
            },
            Strictness::Trust | Strictness::Version => self.hot(&credential),
        };
        let found = match looked {
            Looked::Here(Ok(session)) => return self.confirm(session, strictness).await,
            Looked::Here(Err(refusal)) => Err(refusal),
            Looked::Below(wanted, others) => {
                self.find_any_below(&wanted, &others, strictness).await
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
    /// let Lookup::Below(below) = elsewhere.look_up(&token) else {
    ///     panic!("it is not hot there");
    /// };
    /// assert_eq!(below.find().await?.tier(), Tier::Cold);
    /// assert!(matches!(elsewhere.look_up(&token), Lookup::Here(Ok(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn look_up(&self, credential: &Credential) -> Lookup<D> {
        match self.hot(credential) {
            Looked::Here(found) => Lookup::Here(found.inspect_err(|refusal| {
                self.shared().tell_refused(credential.session(), refusal);
            })),
            Looked::Below(wanted, others) => {
                let session = credential.session();
                Lookup::Below(Below::new(self.clone(), wanted, others, session))
            }
        }
    }

    /// The session, or why there is none, if that can be said with no I/O; trusting the caches
    /// as far as the fence lets them, whatever the configuration says.
    pub fn try_hot(&self, credential: &Credential) -> Option<Result<Session<D>, Refusal>> {
        match self.look_up(credential) {
            Lookup::Here(found) => Some(found),
            Lookup::Below(_) => None,
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
        let shown = Shown::Access(entry.head().access?);
        let valid = entry.standing(now.wall) == Standing::Valid;
        valid.then(|| self.serve_hot(entry, now, shown))
    }

    fn hot(&self, credential: &Credential) -> Looked<D> {
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
            return Looked::Here(Ok(session));
        }
        let wanted = shared.wanted(credential);
        if let Some((entry, now)) = shared.hot_entry(wanted.key) {
            match verdict(&entry, wanted.shown, now) {
                Verdict::Accepted => {
                    if let Some((token, glimpse)) = access
                        && let Some(written) = WrittenToken::access(&*token.written())
                    {
                        shared.hot.bring(written, &entry, glimpse.ticket);
                    }
                    return Looked::Here(Ok(self.serve_hot(entry, now, wanted.shown)));
                }
                Verdict::Refused(refusal) => {
                    shared.metrics.hot_hits.increment(1);
                    return Looked::Here(Err(refusal));
                }
                Verdict::Doubtful(_) => {}
            }
        }
        if let Credential::Foreign(keys) = credential {
            return self.hot_under_other_root(wanted, keys);
        }
        if let Err(forged) = shared.genuine(credential) {
            return Looked::Here(Err(forged));
        }
        match wanted.minted.and_then(|token| shared.refused(token)) {
            Some(refusal) => Looked::Here(Err(refusal)),
            None => Looked::Below(wanted, Box::default()),
        }
    }

    /// Someone else's token that is not hot under the first root.
    #[cold]
    fn hot_under_other_root(&self, first: Wanted, keys: &ForeignKeys) -> Looked<D> {
        let mut others = Vec::new();
        for key in keys.others() {
            match self.hot(&Credential::Key(key)) {
                Looked::Below(wanted, _) => others.push(wanted),
                here => return here,
            }
        }
        Looked::Below(first, others.into())
    }

    /// What is done for a session that is accepted.
    #[inline]
    fn serve_hot(&self, entry: Arc<Entry<D>>, now: Now, shown: Shown) -> Session<D> {
        let shared = self.shared();
        shared.metrics.hot_hits.increment(1);
        shared.touch(&entry, now);
        self.promote(&entry, now);
        shared.renew(&entry, now);
        Session::new(self.clone(), entry, Tier::Hot, shown)
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
                let version = shared.ask(version).await;
                let version = version.map_err(|error| shared.unavailable(&error))?;
                if shared.clock.now().moment >= asked + shared.config.fence.staleness_bound {
                    return Err(shared.too_late());
                }
                match version {
                    Some(version) if version == session.version() => Ok(session),
                    _ => self.reread(key, session.shown()).await,
                }
            }
            Strictness::Row => self.reread(key, session.shown()).await,
        }
    }

    /// What is handed out of what was loaded.
    pub(super) fn judge(&self, landed: Landed<D>, shown: Shown) -> Result<Session<D>, Verdict> {
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
        let verdict = verdict(&landed.entry, shown, now);
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
                Ok(Session::new(self.clone(), landed.entry, landed.tier, shown))
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

impl ForeignKeys {
    fn first(&self) -> Key {
        self.0[0]
    }

    fn others(&self) -> impl Iterator<Item = Key> {
        self.0.iter().skip(1).copied()
    }
}

/// What is to be looked for below the hot tier.
fn below<D: SessionData>(wanted: Wanted, credential: &Credential) -> Looked<D> {
    let others = match credential {
        Credential::Foreign(keys) => keys.others().map(Wanted::of).collect(),
        Credential::Token(_) | Credential::Key(_) => Box::default(),
    };
    Looked::Below(wanted, others)
}

impl<D: SessionData> Shared<D> {
    fn wanted(&self, credential: &Credential) -> Wanted {
        match credential {
            Credential::Token(token) => {
                let hash = self.keys.hash(token);
                Wanted {
                    key: Key::Id(token.id()),
                    shown: match token.kind() {
                        TokenKind::Access => Shown::Access(hash),
                        TokenKind::Refresh => Shown::Refresh(hash),
                    },
                    minted: Some(hash),
                }
            }
            Credential::Key(key) => Wanted::of(*key),
            Credential::Foreign(keys) => Wanted::of(keys.first()),
        }
    }

    /// Refuses a token that we did not mint: nobody causes I/O with a made-up one.
    fn genuine(&self, credential: &Credential) -> Result<(), Refusal> {
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

    /// A session that is hot and may be served, and the instant at which that was so. The order
    /// of the three readings matters: see [`Fence::trusted_until`](crate::fence::Fence).
    pub(super) fn hot_entry(&self, key: Key) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_entry_until(key, Duration::ZERO)
    }

    /// The same for one who has looked in vain a moment ago.
    pub(super) fn hot_entry_after_all(&self, key: Key) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(Duration::ZERO, |hot| match key {
            Key::Id(id) => hot.peek(id),
            Key::AccessJti(hash) | Key::Refresh(hash) => hot.get_by(hash),
        })
    }

    /// The same for a token that was accepted before.
    #[inline]
    pub(super) fn known_entry(&self, token: WrittenToken<'_>) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(Duration::ZERO, |hot| hot.get_known(token))
    }

    /// The same so much later. Where the trust was taken away, and has not merely run out, there is
    /// none.
    pub(super) fn hot_entry_until(
        &self,
        key: Key,
        later: Duration,
    ) -> Option<(Arc<Entry<D>>, Now)> {
        self.hot_until(later, |hot| match key {
            Key::Id(id) => hot.get(id),
            Key::AccessJti(hash) | Key::Refresh(hash) => hot.get_by(hash),
        })
    }

    /// The same, however the hot tier is asked.
    #[inline]
    fn hot_until(
        &self,
        later: Duration,
        get: impl FnOnce(&Hot<D>) -> Option<Arc<Entry<D>>>,
    ) -> Option<(Arc<Entry<D>>, Now)> {
        let trusted_until = self.fence.trusted_until() + later;
        let entry = get(&self.hot)?;
        let now = self.clock.now();
        (now.moment < trusted_until.min(entry.hot_until())).then_some((entry, now))
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

    /// Loads a session anew behind the request's back, shortly before it would no longer be hot; the
    /// sooner, the longer loads take, and by chance, so that not all who use it do so at once (XFetch;
    /// Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention, 2015).
    fn renew(self: &Arc<Self>, entry: &Entry<D>, now: Now) {
        if entry.is_due(now.moment, self.load_took()) {
            self.fetch(entry.head().id);
        }
    }

    /// Loads a session anew that was used, and would not be hot any more in `time`. Such loads are
    /// begun together, so few statements read them.
    pub(crate) fn renew_in_use(self: &Arc<Self>, id: SessionId, time: Duration) {
        if let Some((entry, now)) = self.hot_entry(Key::Id(id))
            && entry.ends_by(now.moment + time)
        {
            self.fetch(id);
        }
    }

    /// Loads a session from below the caches, behind the request's back; not where that would keep
    /// requests out, or for a node that is stopped.
    pub(super) fn fetch(self: &Arc<Self>, id: SessionId) {
        if self.loads.has_room() && !self.stop.is_cancelled() {
            drop(self.flight_behind(Key::Id(id), From::Cold));
        }
    }
}

/// Whether an entry may be handed out.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    Refused(Refusal),
    /// Refused for all that this cache knows, which may be behind the times.
    Doubtful(Refusal),
}

impl Verdict {
    pub(super) fn into_refusal(self) -> Refusal {
        match self {
            Self::Accepted => Refusal::Unknown,
            Self::Refused(refusal) | Self::Doubtful(refusal) => refusal,
        }
    }
}

pub(super) fn verdict<D>(entry: &Entry<D>, shown: Shown, now: Now) -> Verdict {
    let head = entry.head();
    let standing = entry.standing(now.wall);
    let refusal = match standing {
        Standing::Valid => None,
        Standing::Revoked => return Verdict::Refused(Refusal::Revoked),
        Standing::Expired => Some(Refusal::Expired),
        Standing::Idle => Some(Refusal::Idle),
    };
    if let Some(refusal) = refusal {
        // It may have been prolonged, or used, on another node.
        return match entry.stood(standing) {
            true => Verdict::Refused(refusal),
            false => Verdict::Doubtful(refusal),
        };
    }
    let shows = match shown {
        Shown::Nothing => true,
        Shown::Access(hash) => head.access == Some(hash),
        Shown::Refresh(hash) => head.refresh == Some(hash),
        Shown::Replaced => false,
    };
    if shows {
        Verdict::Accepted
    } else {
        // It may have got new tokens a moment ago, on another node.
        Verdict::Doubtful(Refusal::Replaced)
    }
}
