use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tier_cache::{Credential, Lookup, Refusal, SessionData, Strictness};
use tower_service::Service;

use crate::absence::Absence;
use crate::binding::{Verdict, revoke, turn_away, whole};
use crate::future::{Finding, ResponseFuture};
use crate::layer::Shared;
use crate::outbound::{Outbound, Shown};
use crate::session::Session;
use crate::source;
use crate::spread::{Apart, Spread};

/// Middleware made by [`SessionLayer`](crate::SessionLayer).
pub struct SessionService<S, D: SessionData> {
    inner: S,
    shared: Spread<Shared<D>>,
}

impl<S, D: SessionData> SessionService<S, D> {
    pub(crate) fn new(inner: S, shared: Spread<Shared<D>>) -> Self {
        Self { inner, shared }
    }
}

impl<S, D, B, ResBody> Service<Request<B>> for SessionService<S, D>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    D: SessionData,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S, D, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Inlined into what boxes its future it would have that copied twice more.
    #[inline(never)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = self.shared.local();
        match known(shared, &request) {
            Some(session) if shared.passes_all(request.extensions()) => {
                request.extensions_mut().insert(Session::from(session));
                let outbound = Outbound::new(Arc::clone(shared), Shown::Nothing);
                ResponseFuture::inner(self.inner.call(request), outbound)
            }
            known => self.call_closely(request, known),
        }
    }
}

impl<S, D: SessionData> SessionService<S, D> {
    /// The long way. Apart, since the code of a router and of a hit are more than the processor's
    /// nearest cache holds as it is; and what both do with a session that passes is written in both,
    /// since a function of it would have the request copied once more.
    #[inline(never)]
    fn call_closely<B>(
        &mut self,
        mut request: Request<B>,
        known: Option<tier_cache::Session<D>>,
    ) -> ResponseFuture<S, D, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let shared = self.shared.local();
        let mut judged = None;
        if let Some(session) = known {
            match shared.judge(&session, request.headers(), request.extensions()) {
                Verdict::Pass => {
                    request.extensions_mut().insert(Session::from(session));
                    let outbound = Outbound::new(Arc::clone(shared), Shown::Nothing);
                    return ResponseFuture::inner(self.inner.call(request), outbound);
                }
                verdict => judged = Some((session, verdict)),
            }
        }
        let (looked_up, shown) = look_up(shared, &request, judged);
        let mut outbound = Outbound::new(Arc::clone(shared), shown);
        let finding = match looked_up {
            LookedUp::Decided(found) => {
                outbound.decided(&found, request.headers());
                return match admit(&mut request, found, shared.required) {
                    Ok(()) => ResponseFuture::inner(self.inner.call(request), outbound),
                    Err(absence) => ResponseFuture::refused(absence, outbound),
                };
            }
            LookedUp::Here => return ResponseFuture::inner(self.inner.call(request), outbound),
            LookedUp::Condemned(session) => {
                turn_away(request.extensions_mut(), session.id(), None);
                Box::pin(revoke(session))
            }
            LookedUp::Finding(finding) => finding,
        };
        // The service that was polled ready goes into the future; a clone of it is polled before the
        // next request.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        ResponseFuture::finding(finding, request, ready, outbound)
    }
}

impl<S: Clone, D: SessionData> Clone for SessionService<S, D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: fmt::Debug, D: SessionData> fmt::Debug for SessionService<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.local();
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .field("sources", &shared.sources)
            .field("strictness", &shared.strictness)
            .field("required", &shared.required)
            .field("demand", &shared.demand)
            .finish()
    }
}

enum LookedUp<D: SessionData> {
    /// With no I/O.
    Decided(Result<Session<D>, Absence>),
    /// By a layer further out; it is in the extensions.
    Here,
    /// It is to be revoked.
    Condemned(tier_cache::Session<D>),
    Finding(Finding<D>),
}

/// The session of a request as most are: of a token that was accepted a moment ago, and hot. Of all
/// others [`look_up`] says what is to be done.
fn known<D: SessionData, B>(
    shared: &Shared<D>,
    request: &Request<B>,
) -> Option<tier_cache::Session<D>> {
    let (headers, extensions) = (request.headers(), request.extensions());
    if shared.strictness != Strictness::Trust
        || shared.tiers.keys().has_retired()
        || extensions.get::<Session<D>>().is_some()
    {
        return None;
    }
    let mut sources = shared.sources.iter();
    let token = sources.find_map(|source| source.written(headers))?;
    shared.tiers.try_known(token?)
}

/// What is to be done with a request, whose session may have been [known] and judged already.
fn look_up<D: SessionData, B>(
    shared: &Arc<Apart<Shared<D>>>,
    request: &Request<B>,
    judged: Option<(tier_cache::Session<D>, Verdict)>,
) -> (LookedUp<D>, Shown) {
    let (headers, extensions) = (request.headers(), request.extensions());
    let outer = extensions.get::<Session<D>>();
    // A session of other tiers that happen to hold the same type of data is none of ours.
    let ours = outer.filter(|session| session.tiers().same_as(&shared.tiers));
    let confirming = |session: &tier_cache::Session<D>| {
        let confirming = confirm(Arc::clone(shared), session.clone());
        LookedUp::Finding(Box::pin(confirming))
    };
    let judge = |session: &tier_cache::Session<D>| shared.judge(session, headers, extensions);
    let barred = |session: &tier_cache::Session<D>, verdict| match verdict {
        Verdict::Pass => None,
        Verdict::Incomplete => Some(confirming(session)),
        Verdict::StepUp(step_up) => Some(LookedUp::Decided(Err(Absence::StepUp(step_up)))),
        Verdict::Revoke => Some(LookedUp::Condemned(session.clone())),
        Verdict::TurnedAway => Some(LookedUp::Decided(Err(Absence::Refused(Refusal::Revoked)))),
    };
    let barred_here = match ours.filter(|_| shared.strictness == Strictness::Trust) {
        None => None,
        Some(session) => match barred(session, judge(session)) {
            None => return (LookedUp::Here, Shown::Nothing),
            barred => barred,
        },
    };
    let found = source::find(&shared.sources, headers, extensions);
    let shown = match (&found, outer) {
        (Some((source, _)), _) if !source.is_cookie(&shared.cookie_name) => Shown::Nothing,
        (Some((_, Ok(Credential::Token(_)))), None) => Shown::Asked,
        (Some((_, Err(Refusal::Ambiguous))), _) => Shown::Several,
        (Some((_, Err(_))), None) => Shown::Refused,
        // What an outer layer accepted is ours to judge only if it did so for this cookie.
        (Some((_, Ok(Credential::Token(token)))), Some(_))
            if ours.is_some_and(|session| session.id() == token.id()) =>
        {
            Shown::Asked
        }
        _ => Shown::Nothing,
    };
    if let Some(barred) = barred_here {
        return (barred, shown);
    }
    if let Some(session) = ours {
        return (confirming(session), shown);
    }
    let credential = match found {
        None => return (LookedUp::Decided(Err(Absence::NoToken)), shown),
        Some((_, Err(refusal))) => {
            // The tiers never see it.
            if let Some(reason) = (&refusal).into() {
                shared.tiers.tell_refused(None, reason);
            }
            return (LookedUp::Decided(Err(Absence::Refused(refusal))), shown);
        }
        Some((_, Ok(credential))) => credential,
    };
    let decided = |session: tier_cache::Session<D>, verdict| {
        let barred = barred(&session, verdict);
        barred.unwrap_or_else(|| LookedUp::Decided(Ok(session.into())))
    };
    let looked_up = match (judged, shared.strictness) {
        (Some((session, verdict)), _) => decided(session, verdict),
        (None, Strictness::Trust) => match shared.tiers.look_up(&credential) {
            Lookup::Ready(Ok(session)) => {
                let verdict = judge(&session);
                decided(session, verdict)
            }
            Lookup::Ready(Err(refusal)) => LookedUp::Decided(Err(Absence::Refused(refusal))),
            Lookup::Pending(lookup) => {
                LookedUp::Finding(Box::pin(find(Arc::clone(shared), lookup.find())))
            }
        },
        (None, strictness) => {
            let tiers = shared.tiers.clone();
            let found = async move { tiers.find_strict(credential, strictness).await };
            LookedUp::Finding(Box::pin(find(Arc::clone(shared), found)))
        }
    };
    (looked_up, shown)
}

async fn confirm<D: SessionData>(
    shared: Arc<Apart<Shared<D>>>,
    session: tier_cache::Session<D>,
) -> Result<tier_cache::Session<D>, Refusal> {
    let confirmed = shared.tiers.confirm(session, shared.strictness).await?;
    whole(&shared, confirmed).await
}

async fn find<D: SessionData>(
    shared: Arc<Apart<Shared<D>>>,
    found: impl Future<Output = Result<tier_cache::Session<D>, Refusal>>,
) -> Result<tier_cache::Session<D>, Refusal> {
    whole(&shared, found.await?).await
}

/// Makes the request what the inner service gets; or says why it gets none.
pub(crate) fn admit<D: SessionData, B>(
    request: &mut Request<B>,
    found: Result<Session<D>, Absence>,
    required: bool,
) -> Result<(), Absence> {
    match found {
        Ok(session) => {
            request.extensions_mut().insert(session);
        }
        Err(absence) if required => return Err(absence),
        Err(absence) => {
            if let Absence::StepUp(step_up) = &absence {
                turn_away(request.extensions_mut(), step_up.session(), Some(*step_up));
            }
            // A session of a layer further out that this layer could not confirm.
            request.extensions_mut().remove::<Session<D>>();
            request.extensions_mut().insert(absence);
        }
    }
    Ok(())
}
