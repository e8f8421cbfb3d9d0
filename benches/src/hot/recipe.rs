//! How each contender is made.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use clap::ValueEnum;
use futures_util::FutureExt as _;
use http::{Request, Response};
use tower::util::MapRequest;
use tower::{Layer as _, Service, service_fn};
use tower_session::Session;

use crate::Failure;
use crate::apps::{self, Kind, Known};
use crate::measure::Run;
use crate::sessions::Basket;

/// A contender; the word is its name for `once`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub(super) enum Recipe {
    TowerBare,
    Tower,
    TowerByHand,
    AxumBare,
    AxumExtension,
    Axum,
    AxumAround,
    AxumByHand,
    AxumTowerSessions,
    AxumAxumSession,
}

/// Makes another one that does the same for the same sessions, for another thread.
pub(super) type Kit = Box<dyn Fn() -> Run>;

impl Recipe {
    pub(super) fn key(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().to_owned()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TowerBare => "tower: bare service",
            Self::Tower => "tower: **ours**",
            Self::TowerByHand => "tower: moka by hand",
            Self::AxumBare => "axum: bare router",
            Self::AxumExtension => "axum: `Extension`",
            Self::Axum => "axum: **ours**",
            Self::AxumAround => "axum: **ours**, around the router",
            Self::AxumByHand => "axum: moka by hand",
            Self::AxumTowerSessions => "axum: tower-sessions, moka",
            Self::AxumAxumSession => "axum: axum_session, in memory",
        }
    }

    /// What it is measured over.
    pub(super) fn base(self) -> Self {
        match self.kind() {
            Some(_) => Self::AxumBare,
            None => Self::TowerBare,
        }
    }

    /// Ours in the same place.
    pub(super) fn ours(self) -> Self {
        match self.kind() {
            Some(_) => Self::Axum,
            None => Self::Tower,
        }
    }

    /// The application, if it is one in axum.
    fn kind(self) -> Option<Kind> {
        match self {
            Self::TowerBare | Self::Tower | Self::TowerByHand => None,
            Self::AxumBare => Some(Kind::Bare),
            Self::AxumExtension => Some(Kind::Extension),
            Self::Axum => Some(Kind::Ours),
            Self::AxumAround => Some(Kind::OursAround),
            Self::AxumByHand => Some(Kind::ByHand),
            Self::AxumTowerSessions => Some(Kind::TowerSessions),
            Self::AxumAxumSession => Some(Kind::AxumSession),
        }
    }

    /// With so many sessions.
    pub(super) async fn prepare(self, sessions: usize) -> Result<Kit, Failure> {
        if let Some(kind) = self.kind() {
            let app = kind.app(sessions).await?;
            let (router, cookies) = (app.router, app.cookies);
            return Ok(match app.around {
                Some(layer) => kit(move || layer.layer(router.clone()), cookies, Body::empty),
                None => kit(move || router.clone(), cookies, Body::empty),
            });
        }
        Ok(match self {
            Self::Tower => {
                let (layer, mut cookies) = apps::layer(sessions).await?;
                fastrand::shuffle(&mut cookies);
                let service = move || layer.layer(service_fn(with_ours));
                kit(service, cookies.into(), || ())
            }
            Self::TowerByHand => {
                let (cache, mut cookies) = apps::known(sessions);
                fastrand::shuffle(&mut cookies);
                let service = move || {
                    let cache = cache.clone();
                    MapRequest::new(service_fn(with_known), move |mut request: Request<()>| {
                        if let Some(known) = apps::recognise(&cache, request.headers()) {
                            request.extensions_mut().insert(known);
                        }
                        request
                    })
                };
                kit(service, cookies.into(), || ())
            }
            _ => kit(|| service_fn(bare), apps::cookies(sessions), || ()),
        })
    }
}

fn kit<S, B, R>(service: impl Fn() -> S + 'static, cookies: Arc<[String]>, body: fn() -> B) -> Kit
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Send + 'static,
    B: 'static,
{
    Box::new(move || one_after_another(service(), Arc::clone(&cookies), body))
}

/// One request after another, each with the next cookie; from any one on, so that threads which do
/// the same are not all at one session.
pub(super) fn one_after_another<S, B, R>(
    mut service: S,
    cookies: Arc<[String]>,
    body: fn() -> B,
) -> Run
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Send + 'static,
    B: 'static,
{
    let mut next = fastrand::usize(..cookies.len());
    Box::new(move || {
        next = (next + 1) % cookies.len();
        let request = Request::builder()
            .header("cookie", cookies[next].as_str())
            .body(body())
            .expect("a request");
        let response = service
            .call(request)
            .now_or_never()
            .expect("it waits for nothing");
        assert!(response.expect("infallible").status().is_success());
    })
}

pub(super) async fn bare(_: Request<()>) -> Result<Response<u64>, Infallible> {
    Ok(Response::new(1))
}

pub(super) async fn with_ours(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let session = request.extensions().get::<Session<Basket>>();
    Ok(Response::new(apps::read(session.expect("a session"))))
}

async fn with_known(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let known = request.extensions().get::<Arc<Known>>();
    let known = known.expect("a session");
    assert!(known.user.0 >= 0);
    Ok(Response::new(known.basket.items))
}
