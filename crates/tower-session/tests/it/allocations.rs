use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::FutureExt as _;
use http::{Request, Response};
use tower::{Layer, Service, service_fn};
use tower_session::{Binding, Login, SecretKey, Session, SessionLayer, Token};

use crate::support::{Bed, Data, bearer, cookie};

/// Answers with how many items the session holds: reads the session and a typed field.
async fn count(request: Request<()>) -> Result<Response<usize>, Infallible> {
    let session = request
        .extensions()
        .get::<Session<Data>>()
        .expect("it is required");
    let body = session.body_if_here().expect("it is hot");
    Ok(Response::new(body.data().expect("it reads").len()))
}

/// Allocations of one call of a service that is ready at once.
fn allocations<S>(service: &mut S, request: Request<()>) -> u64
where
    S: Service<Request<()>, Response = Response<usize>, Error = Infallible>,
{
    let mut request = Some(request);
    let measured = allocation_counter::measure(|| {
        let call = service.call(request.take().unwrap());
        // Pinned on the stack: this test allocates nothing itself.
        let response = call
            .now_or_never()
            .expect("a hot hit waits for nothing")
            .unwrap();
        assert_eq!(*response.body(), 1);
    });
    measured.count_total
}

#[tokio::test]
async fn a_hot_hit_allocates_what_the_extensions_need_for_one_value_and_no_more() {
    let bed = Bed::new().await;
    let rotated = bed.keys.clone().rotate(&SecretKey::random());
    let rotated = bed.restarted_with(rotated).await;
    // What the extensions allocate for one inserted value of any size.
    let extensions = allocation_counter::measure(|| {
        let mut extensions = http::Extensions::new();
        extensions.insert([1_u64; 4]);
    });
    assert!(extensions.count_total > 0, "allocations are counted");
    // While a key is retired, the MAC of each cookie is looked at too.
    for (tiers, request) in [
        (&bed.tiers, cookie as fn(&Token) -> Request<()>),
        (&bed.tiers, bearer),
        (&rotated, cookie),
    ] {
        let layer = SessionLayer::new(tiers.clone()).required();
        let mut service = layer.layer(service_fn(count));
        let login = Login::guest().data(vec!["tea".into()]);
        let issued = tiers.login(login).await.unwrap();
        // Once for what the first use of a thread sets up.
        allocations(&mut service, request(&issued.access));
        let hot = allocations(&mut service, request(&issued.access));
        assert!(
            hot <= extensions.count_total,
            "{hot} > {}",
            extensions.count_total
        );
    }
}

#[tokio::test]
async fn in_axum_a_hot_hit_allocates_no_more_than_an_extension_does() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let extension = async |Extension(_): Extension<Arc<()>>| "ok";
    let session = async |session: Session<Data>| {
        let body = session.body_if_here().expect("it is hot");
        assert!(session.user().is_some() && body.data().is_ok());
        "ok"
    };
    let extended = Router::new()
        .route("/", get(extension))
        .layer(Extension(Arc::new(())));
    let ours = Router::new()
        .route("/", get(session))
        .layer(SessionLayer::new(bed.tiers.clone()));
    let [extended, ours] = [extended, ours].map(|mut app| {
        let mut counted = || {
            let mut request = Some(cookie(&issued.access).map(|()| Body::empty()));
            let measured = allocation_counter::measure(|| {
                let response = app.call(request.take().unwrap()).now_or_never();
                assert!(response.unwrap().unwrap().status().is_success());
            });
            measured.count_total
        };
        // The first two bring the token to the front.
        (0..3).map(|_| counted()).last().unwrap()
    });
    assert!(extended > 0, "allocations are counted");
    assert!(ours <= extended, "{ours} > {extended}");
}

#[tokio::test]
async fn a_hook_that_allows_and_a_demand_that_is_met_allocate_nothing() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let plain = SessionLayer::new(bed.tiers.clone()).required();
    let bound = plain
        .clone()
        .binding(|session, headers, _| {
            let body = session.body_if_here().expect("it is hot");
            match body.device().user_agent.as_deref() {
                None if !headers.contains_key(http::header::USER_AGENT) => Binding::Allow,
                _ => Binding::Revoke,
            }
        })
        .authenticated_within(std::time::Duration::from_secs(300));
    let [without, with] = [plain, bound].map(|layer| {
        let mut service = layer.layer(service_fn(count));
        // Once for what the first use of a thread sets up.
        allocations(&mut service, cookie(&issued.access));
        allocations(&mut service, cookie(&issued.access))
    });
    assert_eq!(with, without);
}
