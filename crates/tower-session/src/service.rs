use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tier_cache::{Credential, Refusal, SessionData, Strictness};
use tower_service::Service;

use crate::absence::Absence;
use crate::binding::{Verdict, revoke, whole};
use crate::future::{Finding, ResponseFuture};
use crate::layer::Shared;
use crate::outbound::{Outbound, Shown};
use crate::session::Session;
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = self.shared.local();
        if let Some(session) = known(shared, &request) {
            request.extensions_mut().insert(session);
            let outbound = Outbound::new(Arc::clone(shared), Shown::Nothing);
            return ResponseFuture::inner(self.inner.call(request), outbound);
        }
        let (looked_up, shown) = look_up(shared, &request);
        let mut outbound = Outbound::new(Arc::clone(shared), shown);
        match looked_up {
            LookedUp::Decided(found) => {
                outbound.decided(&found, request.headers());
                match admit(&mut request, found, shared.required) {
                    Ok(()) => ResponseFuture::inner(self.inner.call(request), outbound),
                    Err(absence) => ResponseFuture::refused(absence, outbound),
                }
            }
            LookedUp::Here => ResponseFuture::inner(self.inner.call(request), outbound),
            LookedUp::Finding(finding) => {
                // The service that was polled ready goes into the future; a clone of it is
                // polled before the next request.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::finding(finding, request, ready, outbound)
            }
        }
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
    Finding(Finding<D>),
}

/// The session of a request as most are: a token that was accepted a moment ago, of a session that
/// is hot, and nothing to be judged but that. Of all others [`look_up`] says what is to be done.
fn known<D: SessionData, B>(shared: &Shared<D>, request: &Request<B>) -> Option<Session<D>> {
    let (headers, extensions) = (request.headers(), request.extensions());
    if shared.strictness != Strictness::Trust
        || shared.tiers.keys().has_retired()
        || extensions.get::<Session<D>>().is_some()
    {
        return None;
    }
    let token = shared
        .sources
        .iter()
        .find_map(|source| source.written(headers))?;
    let session = shared.tiers.try_known(token?)?;
    let passes = !shared.lacks_body(&session)
        && matches!(shared.judge(&session, headers, extensions), Verdict::Pass);
    passes.then(|| Session::from(session))
}

fn look_up<D: SessionData, B>(
    shared: &Arc<Apart<Shared<D>>>,
    request: &Request<B>,
) -> (LookedUp<D>, Shown) {
    let (headers, extensions) = (request.headers(), request.extensions());
    let outer = extensions.get::<Session<D>>();
    // A session of other tiers that happen to hold the same type of data is none of ours.
    let ours = outer.filter(|session| session.tiers().same_as(&shared.tiers));
    let confirming = |session: &Session<D>| {
        let confirming = confirm(Arc::clone(shared), session.clone().into_inner());
        LookedUp::Finding(Box::pin(confirming))
    };
    let barred = |session: &Session<D>| {
        if shared.lacks_body(session) {
            return Some(confirming(session));
        }
        match shared.judge(session, headers, extensions) {
            Verdict::Pass => None,
            Verdict::StepUp(step_up) => Some(LookedUp::Decided(Err(Absence::StepUp(step_up)))),
            Verdict::Revoke => {
                let revoking = revoke(session.clone().into_inner());
                Some(LookedUp::Finding(Box::pin(revoking)))
            }
        }
    };
    let barred_here = match ours.filter(|_| shared.strictness == Strictness::Trust) {
        None => None,
        Some(session) => match barred(session) {
            None => return (LookedUp::Here, Shown::Nothing),
            barred => barred,
        },
    };
    let mut sources = shared.sources.iter();
    let found = sources.find_map(|source| Some((source, source.find(headers, extensions)?)));
    let shown = match (&found, outer) {
        (Some((source, _)), _) if !source.is_cookie(&shared.cookie_name) => Shown::Nothing,
        (Some((_, Ok(Credential::Token(_)))), None) => Shown::Asked,
        (Some((source, Err(_))), None) if !source.shows_several(headers) => Shown::Refused,
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
    if shared.strictness == Strictness::Trust
        && let Some(found) = shared.tiers.try_hot(&credential)
    {
        let found = found.map(Session::from).map_err(Absence::Refused);
        let barred = found.as_ref().ok().and_then(barred);
        return (barred.unwrap_or(LookedUp::Decided(found)), shown);
    }
    let finding = find(Arc::clone(shared), credential);
    (LookedUp::Finding(Box::pin(finding)), shown)
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
    credential: Credential,
) -> Result<tier_cache::Session<D>, Refusal> {
    let strictness = shared.strictness;
    let found = shared.tiers.find_strict(credential, strictness).await?;
    whole(&shared, found).await
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
            // A session of a layer further out that this layer could not confirm.
            request.extensions_mut().remove::<Session<D>>();
            request.extensions_mut().insert(absence);
        }
    }
    Ok(())
}
