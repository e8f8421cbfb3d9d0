use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tier_cache::{Refusal, SessionData};
use tower_service::Service;

use crate::absence::Absence;
use crate::binding::{Verdict, revoke, turn_away, undecided};
use crate::outbound::Outbound;
use crate::service::admit;
use crate::session::Session;

/// A session being found below the hot tier; or revoked, which finds none.
pub(crate) type Finding<D> =
    Pin<Box<dyn Future<Output = Result<tier_cache::Session<D>, Refusal>> + Send>>;

pin_project! {
    /// Response future of [`SessionService`](crate::SessionService).
    pub struct ResponseFuture<S, D: SessionData, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, D, B>,
        outbound: Outbound<D>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateReplaced]
    enum State<S, D: SessionData, B>
    where
        S: Service<Request<B>>,
    {
        /// The session is asked of the lower tiers, or revoked; the rest waits.
        Finding {
            finding: Finding<D>,
            // Apart, so that it does not make the future of each hot hit larger.
            waiting: Box<Waiting<S, B>>,
        },
        /// The inner service has the request.
        Inner {
            #[pin]
            future: S::Future,
        },
        /// The request goes no further.
        Refused { absence: Absence },
        /// The response was handed out.
        Done,
    }
}

struct Waiting<S, B> {
    request: Request<B>,
    inner: S,
}

impl<S, D: SessionData, B> ResponseFuture<S, D, B>
where
    S: Service<Request<B>>,
{
    pub(crate) fn inner(future: S::Future, outbound: Outbound<D>) -> Self {
        let state = State::Inner { future };
        Self { state, outbound }
    }

    pub(crate) fn refused(absence: Absence, outbound: Outbound<D>) -> Self {
        let state = State::Refused { absence };
        Self { state, outbound }
    }

    pub(crate) fn finding(
        finding: Finding<D>,
        request: Request<B>,
        inner: S,
        outbound: Outbound<D>,
    ) -> Self {
        let waiting = Box::new(Waiting { request, inner });
        let state = State::Finding { finding, waiting };
        Self { state, outbound }
    }
}

impl<S, D, B, ResBody> Future for ResponseFuture<S, D, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    D: SessionData,
    ResBody: Default,
{
    type Output = Result<Response<ResBody>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut answered = match this.state.as_mut().project() {
            StateProj::Inner { future } => future.poll(cx),
            _ => this.state.find(this.outbound, cx),
        };
        if let Poll::Ready(Ok(response)) = &mut answered {
            this.outbound.write(response);
        }
        answered
    }
}

impl<S, D, B, ResBody> State<S, D, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    D: SessionData,
    ResBody: Default,
{
    /// What comes before the inner service has the request: its session is found, or it is refused.
    #[inline(never)]
    fn find(
        mut self: Pin<&mut Self>,
        outbound: &mut Outbound<D>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<ResBody>, S::Error>> {
        loop {
            match self.as_mut().project() {
                StateProj::Finding { finding, waiting } => {
                    let found = match ready!(finding.as_mut().poll(cx)) {
                        Err(refusal) => Err(Absence::Refused(refusal)),
                        Ok(session) => {
                            let request = &mut waiting.request;
                            let (headers, extensions) = (request.headers(), request.extensions());
                            match outbound.shared.judge(&session, headers, extensions) {
                                Verdict::Pass => Ok(Session::from(session)),
                                Verdict::Incomplete => Err(Absence::Refused(undecided())),
                                Verdict::StepUp(step_up) => Err(Absence::StepUp(step_up)),
                                Verdict::TurnedAway => Err(Absence::Refused(Refusal::Revoked)),
                                Verdict::Revoke => {
                                    turn_away(request.extensions_mut(), session.id(), None);
                                    *finding = Box::pin(revoke(session));
                                    continue;
                                }
                            }
                        }
                    };
                    let StateReplaced::Finding { waiting, .. } =
                        self.as_mut().project_replace(State::Done)
                    else {
                        unreachable!("it was `Finding` above");
                    };
                    let Waiting {
                        mut request,
                        mut inner,
                    } = *waiting;
                    outbound.decided(&found, request.headers());
                    let required = outbound.shared.required;
                    self.set(match admit(&mut request, found, required) {
                        Ok(()) => State::Inner {
                            future: inner.call(request),
                        },
                        Err(absence) => State::Refused { absence },
                    });
                }
                StateProj::Inner { future } => return future.poll(cx),
                StateProj::Refused { absence } => {
                    let mut response = Response::new(ResBody::default());
                    *response.status_mut() = absence.status();
                    absence.write_headers(response.headers_mut());
                    self.set(State::Done);
                    return Poll::Ready(Ok(response));
                }
                StateProj::Done => panic!("polled after it was ready"),
            }
        }
    }
}

impl<S, D: SessionData, B> fmt::Debug for ResponseFuture<S, D, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
