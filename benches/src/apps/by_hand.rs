//! What one writes who needs no more: a cookie, a moka, and a middleware. It hears of no revocation,
//! keeps the secret itself as the key, and fills the cache from nowhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use foldhash::fast::RandomState;
use http::HeaderMap;
use moka::sync::Cache;

use super::App;
use crate::sessions::Basket;

/// What is kept of a session.
pub(crate) struct Known {
    pub(crate) user: (i64, Box<str>, Box<str>),
    pub(crate) basket: Basket,
}

type Sessions = Cache<u128, Arc<Known>, RandomState>;

/// So many sessions, and their cookies.
pub(crate) fn known(sessions: usize) -> (Sessions, Vec<String>) {
    let cache = Cache::builder()
        .max_capacity(u64::MAX)
        .time_to_live(Duration::from_secs(12 * 60 * 60))
        .build_with_hasher(RandomState::default());
    let mut cookies = Vec::new();
    for number in 0..sessions {
        let secret = fastrand::u128(..);
        let known = Known {
            user: (
                number as i64,
                format!("user{number:07}@example.com").into(),
                format!("user{number:07}").into(),
            ),
            basket: Basket { items: 1 },
        };
        cache.insert(secret, Arc::new(known));
        cookies.push(format!("id={secret:032x}"));
    }
    (cache, cookies)
}

pub(super) fn app(sessions: usize) -> App {
    let (cache, mut cookies) = known(sessions);
    fastrand::shuffle(&mut cookies);
    App {
        router: Router::new()
            .route("/", get(handler))
            .layer(from_fn_with_state(cache, middleware)),
        around: None,
        cookies: cookies.into(),
    }
}

async fn middleware(State(cache): State<Sessions>, mut request: Request, next: Next) -> Response {
    match recognise(&cache, request.headers()) {
        Some(known) => {
            request.extensions_mut().insert(known);
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// The session that a request shows.
pub(crate) fn recognise(cache: &Sessions, headers: &HeaderMap) -> Option<Arc<Known>> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let secret = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("id="))?;
    cache.get(&u128::from_str_radix(secret, 16).ok()?)
}

async fn handler(Extension(known): Extension<Arc<Known>>) -> &'static str {
    assert!(known.user.0 >= 0 && known.basket.items == 1);
    "ok"
}
