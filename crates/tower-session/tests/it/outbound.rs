use std::convert::Infallible;
use std::time::Duration;

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_session::{
    CookieChange, Login, SessionCookie, SessionId, SessionLayer, Tier, Tiers, Token, TokenKeys,
    TokenKind,
};

use crate::support::{Bed, Data, Seen, bearer, call, cookie, inner, request, seen};

type Answer = Response<Option<Seen>>;

/// A handler that answers so each time.
fn answers(
    answer: impl Fn(&mut Answer) + Clone,
) -> impl Service<Request<()>, Response = Answer, Error = Infallible, Future: Send> + Clone {
    service_fn(move |_| {
        let mut response = Response::new(None);
        answer(&mut response);
        std::future::ready(Ok(response))
    })
}

/// The cookies that a response sets.
fn cookies(response: &Answer) -> Vec<&str> {
    let set = response.headers().get_all(SET_COOKIE).iter();
    set.map(|header| header.to_str().unwrap()).collect()
}

#[tokio::test]
async fn what_a_handler_asks_for_is_written_by_the_layer() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone()).sources([]);
    let issued = bed.guest().await;

    let change = CookieChange::set(&issued);
    let mut login = layer.clone().layer(answers(move |response| {
        response.extensions_mut().insert(change.clone());
    }));
    let response = call(&mut login, request(&[])).await;
    let [set] = cookies(&response)[..] else {
        panic!("{response:?}");
    };
    let pair = format!("{}={};", SessionCookie::NAME, &*issued.access.expose());
    assert!(set.starts_with(&pair), "{set}");
    let (_, max_age) = set.split_once("Max-Age=").unwrap();
    let twelve_hours = 12 * 60 * 60;
    let max_age: u64 = max_age.parse().unwrap();
    assert!(
        (twelve_hours - 60..=twelve_hours).contains(&max_age),
        "{set}"
    );
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert!(response.headers()[SET_COOKIE].is_sensitive());
    assert!(response.extensions().get::<CookieChange>().is_none());

    let mut logout = layer.layer(answers(|response| {
        response.extensions_mut().insert(CookieChange::clear());
        let private = HeaderValue::from_static("private");
        response.headers_mut().insert(CACHE_CONTROL, private);
    }));
    let response = call(&mut logout, cookie(&issued.access)).await;
    assert_eq!(cookies(&response), [SessionCookie::new().clear()]);
    assert_eq!(response.headers()[CACHE_CONTROL], "private");
}

#[tokio::test]
async fn of_nested_layers_the_innermost_writes_and_none_writes_twice() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let outer = SessionLayer::new(bed.tiers.clone());
    let app = SessionCookie::new().named("app").unwrap();
    let change = CookieChange::set(&issued);
    let mut service = ServiceBuilder::new()
        .layer(outer.clone())
        .layer(outer.clone().cookie(app.clone()))
        .service(answers(move |response| {
            response.extensions_mut().insert(change.clone());
        }));
    let response = call(&mut service, request(&[])).await;
    let set = cookies(&response);
    assert!(
        set.len() == 1 && set[0].starts_with("__Host-app="),
        "{set:?}"
    );

    // Both refuse it; one removes it.
    let mut service = ServiceBuilder::new()
        .layer(outer.clone())
        .layer(outer)
        .service(service_fn(inner));
    let response = call(&mut service, malformed()).await;
    assert_eq!(cookies(&response), [SessionCookie::new().clear()]);
}

#[tokio::test]
async fn a_cookie_of_another_name_is_read_and_written() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let own = SessionCookie::new().named("app").unwrap();
    let layer = SessionLayer::new(bed.tiers.clone()).cookie(own.clone());
    let mut service = layer.layer(service_fn(inner));
    let shown = format!("__Host-app={}", &*issued.access.expose());
    let found = seen(&mut service, request(&[("cookie", &shown)])).await;
    assert!(matches!(found, Seen::Session(..)), "{found:?}");
    assert_eq!(
        seen(&mut service, cookie(&issued.access)).await,
        Seen::NoToken
    );
    let response = call(&mut service, request(&[("cookie", "__Host-app=x")])).await;
    assert_eq!(cookies(&response), [own.clear()]);
}

fn malformed() -> Request<()> {
    request(&[("cookie", &format!("{}=null", SessionCookie::NAME))])
}

fn forged(like: &Token) -> Request<()> {
    cookie(&TokenKeys::random().mint(TokenKind::Access, like.id()))
}

#[tokio::test]
async fn a_cookie_that_is_refused_for_good_is_removed() {
    let bed = Bed::new().await;
    let revoked = bed.guest().await;
    bed.tiers.revoke(revoked.session.id()).await.unwrap();
    let short = Login::guest().ttl(Duration::from_millis(50));
    let expired = bed.tiers.login(short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let unknown = bed.keys.mint(TokenKind::Access, SessionId::random());

    let layer = SessionLayer::new(bed.tiers.clone());
    let mut optional = layer.clone().layer(service_fn(inner));
    let mut required = layer.clone().required().layer(service_fn(inner));
    let mut kept = layer.keep_refused_cookies().layer(service_fn(inner));
    // Where there is no cookie of ours, there is nothing to remove.
    for shown in [request(&[]), request(&[("cookie", "other=null")])] {
        assert!(cookies(&call(&mut optional, shown).await).is_empty());
    }
    let shown: [&dyn Fn() -> Request<()>; 4] = [
        &malformed,
        &|| cookie(&unknown),
        &|| cookie(&revoked.access),
        &|| cookie(&expired.access),
    ];
    for (at, shown) in shown.into_iter().enumerate() {
        let clear = [SessionCookie::new().clear()];
        let response = call(&mut optional, shown()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(cookies(&response), clear, "{at}");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let response = call(&mut required, shown()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(cookies(&response), clear, "{at}");
        assert!(cookies(&call(&mut kept, shown()).await).is_empty(), "{at}");
    }
    // A client that shows its token in the header has no cookie of ours.
    let response = call(&mut optional, bearer(&revoked.access)).await;
    assert!(cookies(&response).is_empty());
}

#[tokio::test]
async fn a_cookie_stays_that_may_still_be_good_or_is_not_ours_to_remove() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let mut service = SessionLayer::new(bed.tiers.clone()).layer(service_fn(inner));

    // The cookie of the refresh may have come first.
    let refreshed = bed.guest().await;
    bed.tiers.refresh(&refreshed.refresh).await.unwrap();
    let response = call(&mut service, cookie(&refreshed.access)).await;
    assert!(matches!(response.body(), Some(Seen::Refused(_))));
    assert!(cookies(&response).is_empty());

    // A node that lacks a root key of the others logs nobody out for good.
    let response = call(&mut service, forged(&issued.access)).await;
    assert!(matches!(response.body(), Some(Seen::Refused(_))));
    assert!(cookies(&response).is_empty());

    // With one of two gone the other would be believed.
    let pair = format!("{}={}", SessionCookie::NAME, &*issued.access.expose());
    let two = format!("{pair}; {}=x", SessionCookie::NAME);
    let response = call(&mut service, request(&[("cookie", &two)])).await;
    assert!(matches!(response.body(), Some(Seen::Refused(_))));
    assert!(cookies(&response).is_empty());

    // An outer layer of other tiers took it for good.
    let other = Bed::new().await;
    let mut nested = ServiceBuilder::new()
        .layer(SessionLayer::new(bed.tiers.clone()))
        .layer(SessionLayer::new(other.tiers.clone()).required())
        .service(service_fn(inner));
    let response = call(&mut nested, cookie(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(cookies(&response).is_empty());

    // Nobody can tell.
    let cold = SessionLayer::new(bed.restarted().await).required();
    bed.store.unplug();
    let mut service = cold.layer(service_fn(inner));
    let response = call(&mut service, cookie(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(cookies(&response).is_empty());
}

#[tokio::test]
async fn a_strict_layer_inside_removes_the_cookie_that_it_could_not_confirm() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let id = issued.session.id();
    bed.sql(&format!(
        "UPDATE sessions SET is_active = 0 WHERE id = '{id}'"
    ));
    let layer = SessionLayer::new(bed.tiers.clone());
    let strict = layer.clone().strictness(tower_session::Strictness::Row);
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .layer(strict.required())
        .service(service_fn(inner));
    let response = call(&mut service, bearer(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(cookies(&response).is_empty());
    let response = call(&mut service, cookie(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(cookies(&response), [SessionCookie::new().clear()]);
}

#[tokio::test]
async fn nothing_is_removed_beside_a_cookie_that_is_set_nor_through_a_shared_cache() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let with = |name: HeaderName, value: &'static str| {
        answers(move |response: &mut Answer| {
            let value = HeaderValue::from_static(value);
            response.headers_mut().append(name.clone(), value);
        })
    };
    let change = CookieChange::set(&issued);
    let mut login = layer.clone().layer(answers(move |response| {
        response.extensions_mut().insert(change.clone());
    }));
    let response = call(&mut login, malformed()).await;
    let set = cookies(&response);
    assert!(set.len() == 1 && set[0].contains("=sa1_"), "{set:?}");

    for (name, value, writes) in [
        (SET_COOKIE, "__Host-session=by hand", false),
        (SET_COOKIE, "__Host-session2=another", true),
        (CACHE_CONTROL, "public, max-age=3600", false),
        (CACHE_CONTROL, "max-age=3600", false),
        (CACHE_CONTROL, "no-cache", false),
        (CACHE_CONTROL, "Private, max-age=3600", true),
        (CACHE_CONTROL, "no-store", true),
    ] {
        let mut service = layer.clone().layer(with(name, value));
        let response = call(&mut service, malformed()).await;
        let removed = SessionCookie::new().clear();
        let removes = cookies(&response).contains(&removed.to_str().unwrap());
        assert_eq!(removes, writes, "{value}");
    }
}

/// Two applications on one host, on one database and under one secret.
#[tokio::test]
async fn two_namespaces_on_one_host_do_not_take_each_others_cookies_away() {
    let bed = Bed::new().await;
    let within = async |namespace: &str| {
        let mut config = bed.tiers.config().clone();
        config.cold.namespace = Some(namespace.parse().unwrap());
        Tiers::<Data>::open(config, bed.keys.clone()).await.unwrap()
    };
    let (shop, blog) = (within("shop").await, within("blog").await);
    let login = Login::guest().data(vec!["tea".into()]);
    let issued = shop.login(login).await.unwrap();
    let pair = format!("__Host-shop-session={}", &*issued.access.expose());

    let change = CookieChange::set(&issued);
    let mut login = SessionLayer::new(shop.clone()).layer(answers(move |response| {
        response.extensions_mut().insert(change.clone());
    }));
    let response = call(&mut login, request(&[])).await;
    assert!(cookies(&response)[0].starts_with(&pair), "{response:?}");

    let request = || request(&[("cookie", &pair)]);
    let mut shop = SessionLayer::new(shop).layer(service_fn(inner));
    let found = seen(&mut shop, request()).await;
    assert_eq!(found, Seen::Session(issued.session.id(), Tier::Hot));
    let mut blog = SessionLayer::new(blog).layer(service_fn(inner));
    let response = call(&mut blog, request()).await;
    assert!(cookies(&response).is_empty(), "{response:?}");
    assert_eq!(response.into_body(), Some(Seen::NoToken));
}
