//! The same application over each contender: one route, whose handler reads the user and one typed
//! field of the session.

mod axum_session;
mod by_hand;
mod least;
mod ours;
mod tower_sessions;

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use clap::ValueEnum;
use tower_session::SessionLayer;

use crate::Failure;
use crate::sessions::Basket;

pub(crate) use self::axum_session::over as axum_session_over;
pub(crate) use self::by_hand::{Known, known, recognise};
pub(crate) use self::ours::{layer, read};
pub(crate) use self::tower_sessions::record;

/// An application in axum, and the cookies of its sessions.
pub(crate) struct App {
    pub(crate) router: Router,
    /// A layer around the whole router, in place of one within.
    pub(crate) around: Option<SessionLayer<Basket>>,
    pub(crate) cookies: Arc<[String]>,
}

/// Who finds the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Nobody.
    Bare,
    /// Nobody; but something is put into the extensions.
    Extension,
    /// Nobody; but all that cannot be left out is done.
    Least,
    Ours,
    OursAround,
    ByHand,
    TowerSessions,
    AxumSession,
}

impl Kind {
    /// The application with so many sessions.
    pub(crate) async fn app(self, sessions: usize) -> Result<App, Failure> {
        match self {
            Self::Bare => Ok(without(Router::new().route("/", get(ok)), sessions)),
            Self::Extension => Ok(without(extension(), sessions)),
            Self::Least => Ok(without(least::router(), sessions)),
            Self::Ours => ours::app(sessions).await,
            Self::OursAround => ours::app_around(sessions).await,
            Self::ByHand => Ok(by_hand::app(sessions)),
            Self::TowerSessions => tower_sessions::app(sessions).await,
            Self::AxumSession => axum_session::app(sessions).await,
        }
    }
}

/// One that does not look at its cookies.
fn without(router: Router, sessions: usize) -> App {
    App {
        router,
        around: None,
        cookies: cookies(sessions),
    }
}

/// Cookies as ours, of nobody.
pub(crate) fn cookies(count: usize) -> Arc<[String]> {
    let (_, tokens) = crate::sessions::Sessions::with_tokens(count);
    tokens.iter().map(crate::sessions::cookie).collect()
}

fn extension() -> Router {
    Router::new()
        .route("/", get(async |Extension(_): Extension<Arc<()>>| "ok"))
        .layer(Extension(Arc::new(())))
}

async fn ok() -> &'static str {
    "ok"
}
