use axum::Router;
use axum::routing::get;
use bytesize::ByteSize;
use tower_session::{Session, SessionLayer, TierConfig};

use super::App;
use crate::Failure;
use crate::sessions::{Basket, Sessions, cookie};

/// Our layer with so many sessions, all of them hot, and their cookies.
pub(crate) async fn layer(sessions: usize) -> Result<(SessionLayer<Basket>, Vec<String>), Failure> {
    /// Bytes of a session, with some to spare.
    const SESSION: u64 = 800;
    let mut config = TierConfig::default();
    let needed = ByteSize(sessions as u64 * SESSION);
    config.hot.capacity = config.hot.capacity.max(needed);
    let (sessions, tokens) = Sessions::with_tokens(sessions);
    config.hot.ttl = std::time::Duration::from_secs(12 * 60 * 60);
    let tiers = sessions.cached(config).await?;
    Ok((
        SessionLayer::new(tiers),
        tokens.iter().map(cookie).collect(),
    ))
}

pub(super) async fn app(sessions: usize) -> Result<App, Failure> {
    let (layer, mut cookies) = layer(sessions).await?;
    // Not in the order in which they came into the cache.
    fastrand::shuffle(&mut cookies);
    Ok(App {
        router: Router::new().route("/", get(handler)).layer(layer),
        around: None,
        cookies: cookies.into(),
    })
}

/// The same with the layer around the router, where axum boxes no future for it.
pub(super) async fn app_around(sessions: usize) -> Result<App, Failure> {
    let (layer, mut cookies) = layer(sessions).await?;
    fastrand::shuffle(&mut cookies);
    Ok(App {
        router: Router::new().route("/", get(handler)),
        around: Some(layer),
        cookies: cookies.into(),
    })
}

async fn handler(session: Session<Basket>) -> &'static str {
    assert_eq!(read(&session), 1);
    "ok"
}

/// What each handler does.
pub(crate) fn read(session: &Session<Basket>) -> u64 {
    let body = session.body_if_here().expect("it is hot");
    let items = body.data().expect("it reads").items;
    assert!(session.user().is_some());
    items
}
