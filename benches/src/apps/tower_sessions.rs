use axum::Router;
use axum::routing::get;
use tower_sessions::cookie::time::{Duration, OffsetDateTime};
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::SessionStore as _;
use tower_sessions::{Session, SessionManagerLayer};
use tower_sessions_moka_store::MokaStore;

use super::App;
use crate::Failure;
use crate::sessions::Basket;

pub(super) async fn app(sessions: usize) -> Result<App, Failure> {
    let store = MokaStore::new(None);
    let mut cookies = Vec::new();
    for number in 0..sessions {
        let mut record = record(number);
        store.create(&mut record).await?;
        cookies.push(format!("id={}", record.id));
    }
    fastrand::shuffle(&mut cookies);
    Ok(App {
        router: Router::new()
            .route("/", get(handler))
            .layer(SessionManagerLayer::new(store)),
        around: None,
        cookies: cookies.into(),
    })
}

/// A session with the fields that handlers read.
pub(crate) fn record(number: usize) -> Record {
    let mut record = Record {
        id: Id::default(),
        data: Default::default(),
        expiry_date: OffsetDateTime::now_utc() + Duration::hours(12),
    };
    record.data.insert("user".into(), number.into());
    let basket = serde_json::to_value(Basket { items: 1 });
    record
        .data
        .insert("basket".into(), basket.expect("it is JSON"));
    record
}

async fn handler(session: Session) -> &'static str {
    let user: Option<u64> = session.get("user").await.expect("a store");
    let basket: Option<Basket> = session.get("basket").await.expect("a store");
    assert!(user.is_some() && basket.is_some_and(|basket| basket.items == 1));
    "ok"
}
