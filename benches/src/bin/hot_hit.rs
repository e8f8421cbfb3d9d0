//! What a hot hit costs on top of the service, beside the peers:
//! `cargo run --release -p benches --bin hot_hit [ROUNDS]`.
//!
//! 1,000 sessions; each request shows another one's cookie, and the handler reads the user and one
//! typed field.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use benches::{Contender, Measured, measure};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tower::{Layer, Service, service_fn};
use tower_session::{Login, Session, SessionCookie, SessionLayer, TierConfig, Tiers, TokenKeys};
use tower_sessions::SessionManagerLayer;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::SessionStore as _;
use tower_sessions_moka_store::MokaStore;

const SESSIONS: usize = 1000;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Basket {
    items: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(31), |rounds| rounds.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let (layer, ours) = runtime.block_on(ours(folder.path()))?;
    let (peer, theirs) = runtime.block_on(theirs())?;
    let _guard = runtime.enter();

    let axum_app = |app: Router, cookies: &[String]| run(app, cookies.to_vec(), Body::empty);
    let mut contenders = [
        Contender::new(
            "tower: service alone",
            run(service_fn(bare), ours.clone(), || ()),
        ),
        Contender::new(
            "tower: with our layer",
            run(layer.layer(service_fn(inner)), ours.clone(), || ()),
        ),
        Contender::new(
            "axum: router alone",
            axum_app(Router::new().route("/", get(ok)), &ours),
        ),
        Contender::new(
            "axum: with Extension",
            axum_app(
                Router::new()
                    .route("/", get(async |Extension(_): Extension<Arc<()>>| "ok"))
                    .layer(Extension(Arc::new(()))),
                &ours,
            ),
        ),
        Contender::new(
            "axum: with our layer",
            axum_app(
                Router::new()
                    .route("/", get(read_ours))
                    .layer(layer.clone()),
                &ours,
            ),
        ),
        Contender::new(
            "axum: tower-sessions 0.14 + moka",
            axum_app(
                Router::new().route("/", get(read_theirs)).layer(peer),
                &theirs,
            ),
        ),
    ];
    let measured = measure(&mut contenders, rounds, Duration::from_millis(40));
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    print(&names, &measured);
    Ok(())
}

/// One request after another, each with the next cookie.
fn run<S, B, R>(mut service: S, cookies: Vec<String>, body: impl Fn() -> B) -> impl FnMut()
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    let mut next = 0;
    move || {
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
    }
}

async fn bare(_: Request<()>) -> Result<Response<u64>, Infallible> {
    Ok(Response::new(1))
}

async fn inner(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let session = request
        .extensions()
        .get::<Session<Basket>>()
        .expect("a session");
    Ok(Response::new(read(session)))
}

fn read(session: &Session<Basket>) -> u64 {
    let body = session.body_if_here().expect("it is hot");
    let items = body.data().expect("it reads").items;
    assert!(session.user().is_some());
    items
}

async fn ok() -> &'static str {
    "ok"
}

async fn read_ours(session: Session<Basket>) -> &'static str {
    assert_eq!(read(&session), 1);
    "ok"
}

async fn read_theirs(session: tower_sessions::Session) -> &'static str {
    let user: Option<u64> = session.get("user").await.expect("a store");
    let basket: Option<Basket> = session.get("basket").await.expect("a store");
    assert!(user.is_some() && basket.is_some());
    "ok"
}

async fn ours(
    folder: &std::path::Path,
) -> Result<(SessionLayer<Basket>, Vec<String>), Box<dyn std::error::Error>> {
    let mut config = TierConfig::default();
    config.cold.url = format!("sqlite://{}/sessions.db", folder.display());
    let store = tower_session::tier_cache::cold::SqliteStore::open(&config.cold)?;
    store.migrate().await?;
    let tiers: Tiers<Basket> = Tiers::builder(config, TokenKeys::random())
        .store(Arc::new(store.clone()))
        .start()
        .await?;
    let mut connection = store.pool().get().await?;
    diesel::sql_query(
        "INSERT INTO users (id, email, username) VALUES (1, 'ada@example.com', 'ada')",
    )
    .execute(&mut connection)
    .await?;
    drop(connection);
    let mut cookies = Vec::new();
    for _ in 0..SESSIONS {
        let login = Login::user(1).data(Basket { items: 1 });
        let access = tiers.login(login).await?.access;
        cookies.push(format!("{}={}", SessionCookie::NAME, &*access.expose()));
    }
    Ok((SessionLayer::new(tiers), cookies))
}

async fn theirs()
-> Result<(SessionManagerLayer<MokaStore>, Vec<String>), Box<dyn std::error::Error>> {
    let store = MokaStore::new(None);
    let mut cookies = Vec::new();
    for _ in 0..SESSIONS {
        let mut record = Record {
            id: Id::default(),
            data: Default::default(),
            expiry_date: tower_sessions::cookie::time::OffsetDateTime::now_utc()
                + tower_sessions::cookie::time::Duration::hours(1),
        };
        record.data.insert("user".into(), 1.into());
        record
            .data
            .insert("basket".into(), serde_json::to_value(Basket { items: 1 })?);
        store.create(&mut record).await?;
        cookies.push(format!("id={}", record.id));
    }
    Ok((SessionManagerLayer::new(store), cookies))
}

fn print(names: &[&str], measured: &[Measured]) {
    println!(
        "{:34} {:>28} {:>28} {:>7}",
        "", "ns a request (min med max)", "over the one alone", "allocs"
    );
    let mut alone = 0;
    for (at, (name, measured_here)) in names.iter().zip(measured).enumerate() {
        if name.ends_with("alone") {
            alone = at;
        }
        let [least, median, most] = measured_here.spread();
        let [over_least, over, over_most] = measured_here.over(&measured[alone]);
        println!(
            "{name:34} {least:>8.0} {median:>9.0} {most:>9.0} {over_least:>8.0} {over:>9.0} {over_most:>9.0} {:>7}",
            measured_here.allocations
        );
    }
    let over = |at: usize| measured[at].over(&measured[2])[1];
    println!(
        "\nover the bare router: ours is {:.2} of Extension's, tower-sessions' is {:.1} of ours",
        over(4) / over(3),
        over(5) / over(4)
    );
}
