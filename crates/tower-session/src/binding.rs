//! What becomes of a session that was found: the application's hook, and what the layer demands.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use session_core::SessionId;
use tier_cache::{Reason, Refusal, Session, SessionData, Strictness};

use crate::layer::Shared;
use crate::step_up::{Demand, StepUp};

/// What the hook of [`SessionLayer::binding`](crate::SessionLayer::binding) makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The request has its session.
    Allow,
    /// The request goes on without its session, until the user has logged in again; it has
    /// [`Absence::StepUp`](crate::Absence::StepUp) in its place. The session and the client's cookie stay.
    Reauthenticate,
    /// The session is revoked before the request goes on, which it does with
    /// [`Refusal::Revoked`](tier_cache::Refusal::Revoked).
    Revoke,
}

/// The application's hook.
pub(crate) type Hook<D> = dyn Fn(&Session<D>, &HeaderMap, &Extensions) -> Binding + Send + Sync;

/// What becomes of a session.
pub(crate) enum Verdict {
    Pass,
    /// The hook cannot be asked before the session's body is here.
    Incomplete,
    StepUp(StepUp),
    Revoke,
    /// A layer further out has revoked it, or tried to.
    TurnedAway,
}

impl<D: SessionData> Shared<D> {
    /// Whether the hook cannot be asked yet.
    pub(crate) fn lacks_body(&self, session: &Session<D>) -> bool {
        self.binding.is_some() && session.body_if_here().is_none()
    }

    /// Whether no session of the tiers is turned away, whichever it is.
    #[inline]
    pub(crate) fn passes_all(&self, extensions: &Extensions) -> bool {
        self.binding.is_none()
            && self.demand == Demand::default()
            && extensions.get::<TurnedAway>().is_none()
    }

    /// What the hook says of a session that a request shows, all of which it may compare; and what a
    /// layer further out has said of it.
    pub(crate) async fn ask_binding(
        &self,
        session: Session<D>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<(Session<D>, Binding), Refusal> {
        let session = whole(self, session).await?;
        let outer = extensions.get::<TurnedAway>();
        let away = outer.and_then(|outer| outer.0.iter().find(|it| it.session == session.id()));
        let binding = match (away, &self.binding) {
            (Some(Away { unless: None, .. }), _) => Binding::Revoke,
            (
                Some(Away {
                    unless: Some(_), ..
                }),
                _,
            ) => Binding::Reauthenticate,
            (None, None) => Binding::Allow,
            (None, Some(hook)) => hook(&session, headers, extensions),
        };
        Ok((session, binding))
    }

    /// Judges a session that the tiers accept. No I/O.
    pub(crate) fn judge(
        &self,
        session: &Session<D>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Verdict {
        if self.lacks_body(session) {
            return Verdict::Incomplete;
        }
        let binding = self.binding.as_deref();
        let step_up = |demand| Verdict::StepUp(StepUp::new(session.id(), demand));
        match binding.map_or(Binding::Allow, |bound| bound(session, headers, extensions)) {
            Binding::Revoke => return Verdict::Revoke,
            Binding::Reauthenticate => return step_up(Demand::default()),
            Binding::Allow => {}
        }
        if !self.demand.is_met_by(session) {
            return step_up(self.demand);
        }
        // What a layer further out demands of this session, this one does not waive.
        let outer = extensions.get::<TurnedAway>();
        match outer.and_then(|outer| outer.0.iter().find(|it| it.session == session.id())) {
            None => Verdict::Pass,
            Some(Away { unless, .. }) => unless.map_or(Verdict::TurnedAway, Verdict::StepUp),
        }
    }
}

/// The sessions that were turned away, in the request's extensions: no layer inside hands them out, be
/// they of several layers, and even if they could not be revoked.
#[derive(Clone, Default)]
struct TurnedAway(Vec<Away>);

#[derive(Clone, Copy)]
struct Away {
    session: SessionId,
    /// What would be enough; nothing for one that is to be revoked.
    unless: Option<StepUp>,
}

/// Has the layers inside turn a session away too.
pub(crate) fn turn_away(extensions: &mut Extensions, session: SessionId, unless: Option<StepUp>) {
    let away = extensions.get_or_insert_default::<TurnedAway>();
    away.0.push(Away { session, unless });
}

/// The session with all that the hook may want to compare. A tier may keep the head of a session
/// alone.
pub(crate) async fn whole<D: SessionData>(
    shared: &Shared<D>,
    mut session: Session<D>,
) -> Result<Session<D>, Refusal> {
    /// A newer head may come to the hot tier before the body that is read.
    const TRIES: u32 = 4;

    for _ in 0..TRIES {
        if !shared.lacks_body(&session) {
            return Ok(session);
        }
        session = shared.tiers.confirm(session, Strictness::Row).await?;
    }
    Err(undecided())
}

/// The body does not come.
pub(crate) fn undecided() -> Refusal {
    let retry_after = Duration::from_secs(1);
    Refusal::Unavailable { retry_after }
}

/// Revokes a session that the hook has turned away. It is refused even if the database fails: the
/// hook will turn it away again.
pub(crate) async fn revoke<D: SessionData>(session: Session<D>) -> Result<Session<D>, Refusal> {
    let tiers = session.tiers();
    let _ = tiers.revoke_for(session.id(), Reason::Binding).await;
    Err(Refusal::Revoked)
}
