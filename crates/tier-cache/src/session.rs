//! A session in a request's hands.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use session_core::{Body, Head, SessionId, Timestamp, User, Version};

use crate::data::SessionData;
use crate::error::{Error, Refusal};
use crate::hot::Entry;
use crate::tiers::{Presented, Tiers};

/// A session that was found valid, as it was at that moment.
///
/// Cheap to clone: two counted references. What authentication needs is here at once; the rest
/// is fetched by [`body`](Self::body) if it is not here yet.
pub struct Session<D: SessionData> {
    tiers: Tiers<D>,
    entry: Arc<Entry<D>>,
    tier: Tier,
    held: Held,
}

/// What was presented for a session, and that the session holds it: small enough to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Access,
    Refresh,
    /// It got other tokens, while it was being changed by whoever showed one.
    NoLonger,
}

/// The tier that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The process.
    Hot,
    /// Redis.
    Warm,
    /// The database.
    Cold,
}

impl Tier {
    /// `"hot"`, `"warm"` or `"cold"`, as in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<D: SessionData> Session<D> {
    pub(crate) fn new(
        tiers: Tiers<D>,
        entry: Arc<Entry<D>>,
        tier: Tier,
        presented: Presented,
    ) -> Self {
        Self {
            held: Held::of(presented, entry.head()),
            tiers,
            entry,
            tier,
        }
    }

    /// One that is hot, for an access token that it was accepted for before.
    #[inline]
    pub(crate) fn known(tiers: Tiers<D>, entry: Arc<Entry<D>>) -> Self {
        Self {
            tiers,
            entry,
            tier: Tier::Hot,
            held: Held::Access,
        }
    }

    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.head().id
    }

    /// Whose session it is; `None` for a guest's.
    pub fn user(&self) -> Option<&User> {
        self.head().user.as_ref()
    }

    /// The version of the session's row that this is.
    pub fn version(&self) -> Version {
        self.head().version
    }

    /// When it ends.
    pub fn expires_at(&self) -> Timestamp {
        self.head().expires_at
    }

    /// When it was last used before this request, as far as this node knows; to the second here,
    /// up to `session.touch_interval` late of other nodes.
    pub fn last_seen_at(&self) -> Timestamp {
        self.entry.seen()
    }

    /// When its user last proved to be that user.
    pub fn authenticated_at(&self) -> Timestamp {
        self.head().authenticated_at
    }

    /// How well, as the application counts: see [`Login::assurance`](crate::Login::assurance).
    pub fn assurance(&self) -> u8 {
        self.head().assurance
    }

    /// All that authentication needs.
    pub fn head(&self) -> &Head {
        self.entry.head()
    }

    /// The tier that answered.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The tiers that it came from.
    pub fn tiers(&self) -> &Tiers<D> {
        &self.tiers
    }

    /// The rest of the session, if it is here already; no I/O.
    pub fn body_if_here(&self) -> Option<&Body<D>> {
        self.entry.body()
    }

    pub(crate) fn body_ref(&self) -> Option<BodyRef<D>> {
        BodyRef::of(&self.entry)
    }

    /// The rest of the session: device and application data. Fetched from the database if it is
    /// not here yet, after which the session is wholly hot.
    ///
    /// Cancellation-safe.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the session is no longer accepted by the time it is fetched, or cannot be
    /// fetched.
    pub async fn body(&self) -> Result<BodyRef<D>, Refusal> {
        match self.body_ref() {
            Some(body) => Ok(body),
            None => {
                let body = self.tiers.whole(self.id(), self.version());
                self.tiers.wait(body).await
            }
        }
    }

    /// Changes the application's data; see [`Tiers::update`].
    ///
    /// # Errors
    ///
    /// As [`Tiers::update`].
    pub async fn update(&self, change: impl FnMut(&mut D)) -> Result<Self, Error> {
        self.tiers.update(self, change).await
    }

    /// Replaces the application's data, whether or not what is stored reads as `D`; see
    /// [`Tiers::replace_data`].
    ///
    /// # Errors
    ///
    /// As [`Tiers::replace_data`].
    pub async fn replace_data(&self, data: D) -> Result<Self, Error> {
        self.tiers.replace_data(self, data).await
    }

    pub(crate) fn presented(&self) -> Presented {
        self.held.presented(self.head())
    }
}

impl Held {
    fn of(presented: Presented, head: &Head) -> Self {
        match presented {
            Presented::Nothing => Self::Nothing,
            Presented::Access(hash) if head.access == Some(hash) => Self::Access,
            Presented::Refresh(hash) if head.refresh == Some(hash) => Self::Refresh,
            Presented::Access(_) | Presented::Refresh(_) | Presented::Replaced => Self::NoLonger,
        }
    }

    fn presented(self, head: &Head) -> Presented {
        let presented = match self {
            Self::Nothing => Some(Presented::Nothing),
            Self::Access => head.access.map(Presented::Access),
            Self::Refresh => head.refresh.map(Presented::Refresh),
            Self::NoLonger => None,
        };
        presented.unwrap_or(Presented::Replaced)
    }
}

impl<D: SessionData> Clone for Session<D> {
    fn clone(&self) -> Self {
        Self {
            tiers: self.tiers.clone(),
            entry: Arc::clone(&self.entry),
            ..*self
        }
    }
}

impl<D: SessionData> fmt::Debug for Session<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("version", &self.version())
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

/// A session's body, shared with the hot tier.
pub struct BodyRef<D> {
    /// Always one with a body.
    entry: Arc<Entry<D>>,
}

impl<D> BodyRef<D> {
    pub(crate) fn of(entry: &Arc<Entry<D>>) -> Option<Self> {
        entry.body().is_some().then(|| Self {
            entry: Arc::clone(entry),
        })
    }

    /// The version of the session's row that it is of.
    pub(crate) fn version(&self) -> Version {
        self.entry.head().version
    }
}

impl<D> Deref for BodyRef<D> {
    type Target = Body<D>;

    fn deref(&self) -> &Body<D> {
        self.entry
            .body()
            .expect("`of` makes no reference to an entry without a body")
    }
}

impl<D: fmt::Debug> fmt::Debug for BodyRef<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use session_core::KeyHash;

    use super::*;

    #[test]
    fn who_has_shown_a_token_goes_on_with_that_one_alone() {
        let now = Timestamp::from_unix_millis(0);
        let [access, refresh, other] = [1, 2, 3].map(|byte| KeyHash::from_bytes([byte; 16]));
        let head = Head {
            access: Some(access),
            refresh: Some(refresh),
            ..Head::new(SessionId::random(), now, now)
        };
        let again = |presented| Held::of(presented, &head).presented(&head);
        for presented in [
            Presented::Nothing,
            Presented::Access(access),
            Presented::Refresh(refresh),
        ] {
            assert_eq!(again(presented), presented);
        }
        for replaced in [
            Presented::Access(other),
            Presented::Access(refresh),
            Presented::Refresh(other),
            Presented::Replaced,
        ] {
            assert_eq!(again(replaced), Presented::Replaced);
        }
    }
}
