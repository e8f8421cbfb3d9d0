//! What happened to sessions, for whoever keeps watch: a typed stream, and the log.

use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use session_core::{SessionId, UserId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::error::Refusal;

/// Something that this node did to a session, or refused a request for (OWASP ASVS 5.0, V16.3).
///
/// Names, never secrets: an event may be kept as it is. Each is also written to the log, with the
/// target `session_audit`: at level warn what points to an attack, at debug what was refused,
/// which any client can cause at will, and the rest at info.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A session began.
    Created {
        /// Which.
        session: SessionId,
        /// Whose; none of a guest's.
        user: Option<UserId>,
    },
    /// A session goes on under another name, after a login or a change of privileges.
    Rotated {
        /// The session that ended with this.
        from: SessionId,
        /// Whose that was; none of a guest's.
        was: Option<UserId>,
        /// The one in its place.
        to: SessionId,
        /// Whose.
        user: Option<UserId>,
        /// What made it so.
        why: Renewal,
    },
    /// A refresh token was traded for a new pair of tokens.
    Refreshed {
        /// The session.
        session: SessionId,
        /// Whose.
        user: Option<UserId>,
    },
    /// A refresh token came again within `session.refresh_grace` of its trade, and was answered with
    /// the same pair of tokens: a tab that asked at once, an answer that was lost, or somebody with a
    /// copy.
    RefreshReplayed {
        /// The session.
        session: SessionId,
        /// Whose.
        user: Option<UserId>,
    },
    /// A session was revoked.
    Revoked {
        /// Which.
        session: SessionId,
        /// Whose, if that was looked up.
        user: Option<UserId>,
        /// Why.
        reason: Reason,
    },
    /// A refresh token was used that had been traded in before: somebody has a copy. Its session
    /// is revoked.
    ReuseDetected {
        /// The session.
        session: SessionId,
        /// Whose.
        user: Option<UserId>,
    },
    /// A request showed something that is not accepted.
    Refused {
        /// The session that it names, if it names one; there may be none of that name.
        session: Option<SessionId>,
        /// Why.
        reason: Reason,
    },
    /// The receiver was too slow for this many events, which it will not see.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Why a session goes on under another name, in a word that stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Renewal {
    /// A user logged in where a guest, or another user, was before.
    Login,
    /// The application asked for it, as when its user gains privileges.
    Rotation,
    /// Its user proved again to be that user.
    Reauthentication,
}

/// Why a session was revoked or a request refused, in a word that stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The application asked for it: a logout, or an operator.
    Asked,
    /// The user had as many sessions as allowed, and this one was not used for longest.
    Limit,
    /// A refresh token was used twice.
    Reuse,
    /// The application's hook did not accept the request.
    Binding,
    /// Not a token of this service.
    Malformed,
    /// Several different tokens in one place.
    Ambiguous,
    /// A signature that is not accepted.
    Forged,
    /// No such session.
    Unknown,
    /// The token was replaced by a newer one.
    Replaced,
    /// The session's time was over.
    Expired,
    /// The session was not used for too long.
    Idle,
    /// The session, or its user, was switched off.
    Revoked,
    /// A more recent or a stronger login is demanded.
    StepUp,
}

impl From<&Refusal> for Option<Reason> {
    /// None if the refusal is no verdict.
    fn from(refusal: &Refusal) -> Self {
        Some(match refusal {
            Refusal::Malformed => Reason::Malformed,
            Refusal::Ambiguous => Reason::Ambiguous,
            Refusal::Forged => Reason::Forged,
            Refusal::Unknown => Reason::Unknown,
            Refusal::Replaced => Reason::Replaced,
            Refusal::Reused => Reason::Reuse,
            Refusal::Expired => Reason::Expired,
            Refusal::Idle => Reason::Idle,
            Refusal::Revoked => Reason::Revoked,
            Refusal::Unavailable { .. } => return None,
        })
    }
}

/// Where events go. Nothing waits for whoever listens.
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        /// What a receiver may be behind.
        const KEPT: usize = 4096;
        Self(broadcast::Sender::new(KEPT))
    }

    pub(crate) fn tell(&self, event: Event) {
        log(&event);
        // An error says that nobody listens.
        let _ = self.0.send(event);
    }

    pub(crate) fn listen(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        Box::pin(unfold(self.0.subscribe(), async |mut receiver| {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => Event::Missed { count },
                Err(RecvError::Closed) => return None,
            };
            Some((event, receiver))
        }))
    }
}

fn log(event: &Event) {
    fn named(user: &Option<UserId>) -> Option<tracing::field::DisplayValue<&UserId>> {
        user.as_ref().map(tracing::field::display)
    }
    match event {
        Event::Created { session, user } => {
            tracing::info!(target: "session_audit", %session, user = named(user), "created");
        }
        Event::Rotated {
            from,
            was,
            to,
            user,
            why,
        } => {
            let (was, user) = (named(was), named(user));
            tracing::info!(target: "session_audit", %from, was, %to, user, ?why, "rotated");
        }
        Event::Refreshed { session, user } => {
            tracing::info!(target: "session_audit", %session, user = named(user), "refreshed");
        }
        Event::RefreshReplayed { session, user } => {
            let user = named(user);
            tracing::info!(target: "session_audit", %session, user, "a refresh token came again within the grace");
        }
        Event::Revoked {
            session,
            user,
            reason,
        } => {
            let user = named(user);
            tracing::info!(target: "session_audit", %session, user, ?reason, "revoked");
        }
        Event::ReuseDetected { session, user } => {
            let user = named(user);
            tracing::warn!(target: "session_audit", %session, user, "a refresh token was used twice");
        }
        Event::Refused { session, reason } => {
            let session = session.as_ref().map(tracing::field::display);
            tracing::debug!(target: "session_audit", session, ?reason, "refused");
        }
        Event::Missed { .. } => {}
    }
}
