use std::fmt;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use axum_session::{
    DatabasePool, Session, SessionConfig, SessionLayer, SessionNullPool, SessionStore,
};
use http::{Request, header};
use tower::Service as _;

use super::App;
use crate::Failure;
use crate::sessions::Basket;

pub(super) async fn app(sessions: usize) -> Result<App, Failure> {
    // Without it each request hashes its address and its user agent.
    let config = SessionConfig::default().with_ip_and_user_agent(false);
    over::<SessionNullPool>(None, config, sessions).await
}

/// The application over a pool, with so many sessions in it.
pub(crate) async fn over<P>(
    pool: Option<P>,
    config: SessionConfig,
    sessions: usize,
) -> Result<App, Failure>
where
    P: DatabasePool + Clone + fmt::Debug + Send + Sync + 'static,
{
    let store = SessionStore::new(pool, config).await?;
    let mut router = Router::new()
        .route("/", get(handler::<P>))
        .route("/login", get(login::<P>))
        .layer(SessionLayer::new(store));
    let mut cookies = Vec::new();
    for _ in 0..sessions {
        let request = Request::builder().uri("/login").body(Body::empty())?;
        let response = router.call(request).await?;
        let mut set = response.headers().get_all(header::SET_COOKIE).iter();
        let cookie = set.find_map(|set| {
            let (cookie, _) = set.to_str().ok()?.split_once(';')?;
            cookie.starts_with("session=").then(|| cookie.to_owned())
        });
        cookies.push(cookie.ok_or("axum_session sets no cookie")?);
    }
    fastrand::shuffle(&mut cookies);
    Ok(App {
        router,
        around: None,
        cookies: cookies.into(),
    })
}

async fn login<P>(session: Session<P>) -> &'static str
where
    P: DatabasePool + Clone + fmt::Debug + Send + Sync + 'static,
{
    session.set("user", 1);
    session.set("basket", Basket { items: 1 });
    "ok"
}

async fn handler<P>(session: Session<P>) -> &'static str
where
    P: DatabasePool + Clone + fmt::Debug + Send + Sync + 'static,
{
    let user: Option<u64> = session.get("user");
    let basket: Option<Basket> = session.get("basket");
    assert!(user.is_some() && basket.is_some_and(|basket| basket.items == 1));
    "ok"
}
