//! The service behind the layer: it shows the session, counts, and logs out.

use std::convert::Infallible;

use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tier_cache::Moment;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_session::{Error, Refusal, Session, SessionId, SessionLayer, Tier, Tiers};

/// The application's data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Basket {
    /// The user whose session it was made for.
    pub(crate) owner: String,
    pub(crate) count: u64,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who is there; the head says it.
    Me,
    /// What is in the basket.
    Basket,
    /// One more in the basket.
    Count,
    Logout,
}

/// The body of a response.
#[derive(Clone, Debug, Default)]
pub(crate) enum Told {
    #[default]
    Nothing,
    Session(Shown),
    /// What went wrong, in words.
    Failure(String),
}

/// What the handler knows of the session.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: SessionId,
    pub(crate) user: String,
    pub(crate) tier: Tier,
    /// Where it was asked for.
    pub(crate) basket: Option<Basket>,
}

/// What a client sees.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When the request was sent.
    pub(crate) asked: Moment,
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    pub(crate) told: Told,
}

impl Answer {
    /// The session, if the request was admitted.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        match &self.told {
            Told::Session(shown) if self.status == StatusCode::OK => Some(shown),
            _ => None,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Service(BoxCloneSyncService<Request<Ask>, Response<Told>, Infallible>);

impl Service {
    pub(crate) fn on(tiers: Tiers<Basket>) -> Self {
        let layer = SessionLayer::new(tiers).required();
        Self(BoxCloneSyncService::new(layer.layer(service_fn(handle))))
    }

    pub(crate) async fn answer(&self, ask: Ask, token: &str) -> Response<Told> {
        let request = Request::builder()
            .header("authorization", format!("Bearer {token}"))
            .body(ask)
            .expect("a token is a header's value");
        let answered = self.0.clone().oneshot(request).await;
        answered.unwrap_or_else(|never| match never {})
    }
}

async fn handle(request: Request<Ask>) -> Result<Response<Told>, Infallible> {
    let session = request.extensions().get::<Session<Basket>>();
    let session = session.expect("it is required");
    let done = match request.body() {
        Ask::Me => Ok(None),
        Ask::Basket => basket(session).await.map(Some),
        Ask::Count => count(session).await.map(Some),
        Ask::Logout => session.tiers().revoke(session.id()).await.map(|_| None),
    };
    Ok(match done {
        Ok(basket) => Response::new(Told::Session(Shown {
            id: session.id(),
            user: session.user().map_or("", |user| &user.username).to_owned(),
            tier: session.tier(),
            basket,
        })),
        Err(error) => failure(&error),
    })
}

async fn basket(session: &Session<Basket>) -> Result<Basket, Error> {
    Ok(session.body().await?.data()?.clone())
}

async fn count(session: &Session<Basket>) -> Result<Basket, Error> {
    let counted = session.update(|basket| basket.count += 1).await?;
    Ok(counted.body().await?.data()?.clone())
}

fn failure(error: &Error) -> Response<Told> {
    let passes = match error {
        Error::Refused(refusal) => matches!(refusal, Refusal::Unavailable { .. }),
        Error::Store(_) | Error::ShuttingDown => true,
        _ => false,
    };
    let response = Response::builder();
    let response = match (passes, error) {
        (true, _) => response
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header(RETRY_AFTER, "1"),
        (false, Error::Refused(_)) => response.status(StatusCode::UNAUTHORIZED),
        (false, _) => response.status(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let told = Told::Failure(error.to_string());
    response.body(told).expect("the headers are well-formed")
}
