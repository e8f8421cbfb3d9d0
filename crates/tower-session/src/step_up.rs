//! What a route may demand of a session's last authentication.

use std::time::Duration;

use session_core::SessionId;
use tier_cache::Session;

/// Why a valid session is not enough: its user is to prove again, or better, to be that user
/// (RFC 9470; OWASP ASVS 5.0, V7.5.1 and V7.5.3).
///
/// The client keeps its token: [`Tiers::reauthenticate`](tier_cache::Tiers::reauthenticate) puts
/// another session in this one's place once its user has done so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepUp {
    session: SessionId,
    demand: Demand,
}

impl StepUp {
    pub(crate) fn new(session: SessionId, demand: Demand) -> Self {
        Self { session, demand }
    }

    /// The session, which is valid.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How long ago its user may have logged in, if that is demanded.
    pub fn max_age(&self) -> Option<Duration> {
        self.demand.within
    }

    /// How well its user must have logged in, as the application counts; 0 if that is not demanded.
    pub fn assurance(&self) -> u8 {
        self.demand.assurance
    }

    /// What the client, or its developer, is told.
    pub(crate) fn message(&self) -> String {
        let seconds = self.demand.within.map(|within| within.as_secs());
        match (self.demand.assurance, seconds) {
            (0, None) => "this request needs a new login: log in again".into(),
            (0, Some(seconds)) => format!(
                "the last login must be at most {seconds} seconds old: log in again, then repeat \
                 the request"
            ),
            (level, None) => format!(
                "a login of level {level} is needed: log in with one more factor, then repeat the \
                 request"
            ),
            (level, Some(seconds)) => format!(
                "a login of level {level} is needed that is at most {seconds} seconds old: log in \
                 again, then repeat the request"
            ),
        }
    }

    /// The value of `WWW-Authenticate` (RFC 9470 §3). It names no `acr_values`: levels have names
    /// in the application alone.
    pub(crate) fn challenge(&self) -> String {
        let mut challenge = String::from("Bearer error=\"insufficient_user_authentication\"");
        if let Some(within) = self.demand.within {
            challenge += &format!(", max_age=\"{}\"", within.as_secs());
        }
        challenge
    }
}

/// What a session's last authentication must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) within: Option<Duration>,
    pub(crate) assurance: u8,
}

impl Demand {
    /// Whether the session's user has logged in so recently and so well. A guest never has.
    #[inline]
    pub(crate) fn is_met_by<D: tier_cache::SessionData>(&self, session: &Session<D>) -> bool {
        if self.within.is_none() && self.assurance == 0 {
            return true;
        }
        let recent = |within| {
            let now = session.tiers().now().wall;
            now.since(session.authenticated_at()) <= within
        };
        session.user().is_some()
            && session.assurance() >= self.assurance
            && self.within.is_none_or(recent)
    }
}
