use std::task::{Context, Poll};

use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_session::{Key, SessionCookie, SessionLayer, Source, Strictness, Tier, TokenKind};

use crate::support::{Bed, Seen, bearer, call, cookie, foreign, inner, request, seen};

#[tokio::test]
async fn a_token_in_the_cookie_or_in_the_header_puts_the_session_into_the_extensions() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let mut service = SessionLayer::new(bed.tiers.clone()).layer(service_fn(inner));
    let session = Seen::Session(issued.session.id(), Tier::Hot);
    assert_eq!(seen(&mut service, cookie(&issued.access)).await, session);
    assert_eq!(seen(&mut service, bearer(&issued.access)).await, session);
    assert_eq!(seen(&mut service, request(&[])).await, Seen::NoToken);
}

#[tokio::test]
async fn the_first_source_that_shows_something_decides() {
    let bed = Bed::new().await;
    let (one, two) = (bed.guest().await, bed.guest().await);
    let both = |cookie: &str| {
        let cookie = format!("{}={cookie}", SessionCookie::NAME);
        let bearer = format!("Bearer {}", &*two.access.expose());
        request(&[("cookie", &cookie), ("authorization", &bearer)])
    };
    let valid = one.access.expose();
    let layer = SessionLayer::new(bed.tiers.clone());
    let mut cookie_first = layer.clone().layer(service_fn(inner));
    let found = Seen::Session(one.session.id(), Tier::Hot);
    assert_eq!(seen(&mut cookie_first, both(&valid)).await, found);
    // Even if it is refused: nothing falls through.
    let refused = seen(&mut cookie_first, both("garbled")).await;
    assert!(matches!(refused, Seen::Refused(_)), "{refused:?}");

    let sources = [Source::bearer(), Source::cookie(SessionCookie::NAME)];
    let mut bearer_first = layer.sources(sources).layer(service_fn(inner));
    let found = Seen::Session(two.session.id(), Tier::Hot);
    assert_eq!(seen(&mut bearer_first, both("garbled")).await, found);
}

#[tokio::test]
async fn a_foreign_key_is_found_by_a_source_of_the_applications_own() {
    let bed = Bed::new().await;
    let login = tower_session::Login::guest();
    let session = bed
        .tiers
        .adopt(login, Some(foreign("jti-1")), None)
        .await
        .unwrap();
    let keys = bed.keys.clone();
    let jti = Source::custom(move |headers, _| {
        let jti = headers.get("x-verified-jti")?.to_str().ok()?;
        Some(Key::AccessJti(
            keys.hash_foreign(TokenKind::Access, &foreign(jti)),
        ))
    });
    let layer = SessionLayer::new(bed.tiers.clone()).sources([jti]);
    let mut service = layer.layer(service_fn(inner));
    let found = seen(&mut service, request(&[("x-verified-jti", "jti-1")])).await;
    assert_eq!(found, Seen::Session(session.id(), Tier::Hot));
    let refused = seen(&mut service, request(&[("x-verified-jti", "jti-2")])).await;
    assert_eq!(refused, Seen::Refused("no such session".into()));
}

#[tokio::test]
async fn a_session_that_is_not_hot_is_found_below() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let mut service = SessionLayer::new(bed.restarted().await).layer(service_fn(inner));
    let id = issued.session.id();
    let first = seen(&mut service, cookie(&issued.access)).await;
    assert_eq!(first, Seen::Session(id, Tier::Cold));
    let second = seen(&mut service, cookie(&issued.access)).await;
    assert_eq!(second, Seen::Session(id, Tier::Hot));
}

#[tokio::test]
async fn required_answers_401_with_a_challenge() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone()).required();
    let mut service = layer.layer(service_fn(inner));
    let response = call(&mut service, request(&[])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let response = call(&mut service, request(&[("authorization", "Bearer x")])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = &response.headers()[WWW_AUTHENTICATE];
    assert_eq!(challenge, "Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn what_cannot_be_decided_is_a_503_and_no_logout() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let restarted = bed.restarted().await;
    bed.store.unplug();
    let layer = SessionLayer::new(restarted);
    let mut required = layer.clone().required().layer(service_fn(inner));
    let response = call(&mut required, cookie(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert!(response.headers().get(WWW_AUTHENTICATE).is_none());
    let mut optional = layer.layer(service_fn(inner));
    let seen = seen(&mut optional, cookie(&issued.access)).await;
    assert_eq!(
        seen,
        Seen::Refused("the session cannot be checked just now".into())
    );
}

#[tokio::test]
async fn a_layer_inside_does_not_take_a_session_of_other_tiers_for_one_of_its_own() {
    let (customers, staff) = (Bed::new().await, Bed::new().await);
    let (customer, clerk) = (customers.guest().await, staff.guest().await);
    let mut service = ServiceBuilder::new()
        .layer(SessionLayer::new(customers.tiers.clone()))
        .layer(SessionLayer::new(staff.tiers.clone()).required())
        .service(service_fn(inner));
    let response = call(&mut service, cookie(&customer.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let found = seen(&mut service, cookie(&clerk.access)).await;
    assert_eq!(found, Seen::Session(clerk.session.id(), Tier::Hot));
}

#[tokio::test]
async fn a_strict_route_inside_confirms_the_session_found_outside() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let mut lax = layer.clone().layer(service_fn(inner));
    for strictness in [Strictness::Version, Strictness::Row] {
        let strict = layer.clone().required().strictness(strictness);
        let mut service = ServiceBuilder::new()
            .layer(layer.clone())
            .layer(strict)
            .service(service_fn(inner));
        let issued = bed.guest().await;
        let before = bed.store.calls();
        let found = seen(&mut service, cookie(&issued.access)).await;
        assert!(matches!(found, Seen::Session(..)), "{found:?}");
        assert_eq!(bed.store.calls() - before, 1, "{strictness:?}");

        // By another program, and not heard of yet.
        let id = issued.session.id();
        bed.sql(&format!(
            "UPDATE sessions SET is_active = 0 WHERE id = '{id}'"
        ));
        let found = seen(&mut lax, cookie(&issued.access)).await;
        assert_eq!(found, Seen::Session(id, Tier::Hot));
        let refused = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(refused, Seen::Answered(StatusCode::UNAUTHORIZED));
    }
    // An optional strict layer takes the session away that it cannot confirm.
    let mut service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(layer.strictness(Strictness::Version))
        .service(service_fn(inner));
    bed.store.unplug();
    let refused = seen(&mut service, cookie(&issued.access)).await;
    assert!(matches!(refused, Seen::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn the_service_that_was_ready_gets_the_request() {
    /// Accepts a request only if this very clone was polled ready.
    struct Picky {
        ready: bool,
    }

    impl Clone for Picky {
        fn clone(&self) -> Self {
            Self { ready: false }
        }
    }

    impl Service<Request<()>> for Picky {
        type Response = http::Response<Option<Seen>>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            assert!(self.ready, "called without being ready");
            self.ready = false;
            std::future::ready(Ok(http::Response::new(None)))
        }
    }

    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let layer = SessionLayer::new(bed.restarted().await);
    let mut service = layer.layer(Picky { ready: false });
    // First cold, then hot.
    for _ in 0..3 {
        let response = service
            .ready()
            .await
            .unwrap()
            .call(cookie(&issued.access))
            .await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_on_its_way_still_warms_the_tier() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let tiers = bed.restarted().await;
    let mut service = SessionLayer::new(tiers.clone()).layer(service_fn(inner));
    let mut response = Box::pin(service.ready().await.unwrap().call(cookie(&issued.access)));
    assert!(futures_util::poll!(&mut response).is_pending());
    drop(response);
    let credential = issued.access.into();
    while tiers.try_hot(&credential).is_none() {
        tokio::task::yield_now().await;
    }
}

/// Where log lines go.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_cookie_without_secure_is_warned_of_by_its_number() {
    let bed = Bed::new().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let text = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let layer = SessionLayer::new(bed.tiers.clone()).cookie(SessionCookie::new());
    assert_eq!(text(), "");
    let _layer = layer.cookie(SessionCookie::new().insecure());
    let text = text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(" WARN ") && text.contains("A07"), "{text}");
}
