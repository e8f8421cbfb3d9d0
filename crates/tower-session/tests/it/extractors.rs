use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_TYPE, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_session::{
    Binding, CookieChange, CurrentUser, Login, Recent, Session, SessionCookie, SessionLayer,
    StrictSession, Tiers, Token,
};

use crate::support::{Bed, Data, cookie, request};

fn app(tiers: &Tiers<Data>) -> Router {
    Router::new()
        .route("/needed", get(needed))
        .route("/maybe", get(maybe))
        .route("/user", get(user))
        .route("/strict", get(strict))
        .route("/recent", get(recent))
        .route("/other", get(async |_: Session<u64>| ()))
        .layer(SessionLayer::new(tiers.clone()))
        .route("/forgotten", get(needed))
}

async fn needed(session: Session<Data>) -> impl IntoResponse {
    Json(session.body().await.unwrap().data().unwrap().clone())
}

async fn maybe(session: Option<Session<Data>>) -> &'static str {
    match session {
        Some(_) => "somebody",
        None => "nobody",
    }
}

async fn user(user: CurrentUser<Data>) -> String {
    assert_eq!(user.session().user(), Some(&*user));
    user.username.to_string()
}

async fn strict(StrictSession(session): StrictSession<Data>) -> String {
    session.version().to_string()
}

async fn recent(Recent(session): Recent<Data, 300>) -> String {
    session.user().unwrap().username.to_string()
}

async fn ask(app: &Router, path: &str, token: Option<&Token>) -> (Response<()>, String) {
    let shown = token.map_or_else(|| request(&[]), cookie);
    let (mut parts, ()) = shown.into_parts();
    parts.uri = path.parse().unwrap();
    let response = app
        .clone()
        .oneshot(Request::from_parts(parts, Body::empty()));
    let (parts, body) = response.await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

#[tokio::test]
async fn a_session_is_extracted() {
    let bed = Bed::new().await;
    let app = app(&bed.tiers);
    let id = bed.sql("INSERT INTO users (email, username) VALUES ('a@b.c', 'ada') RETURNING id");
    let login = Login::user(id.trim().parse::<i64>().unwrap()).data(vec!["tea".into()]);
    let issued = bed.tiers.login(login).await.unwrap();
    for (path, body) in [
        ("/needed", "[\"tea\"]"),
        ("/maybe", "somebody"),
        ("/user", "ada"),
        ("/strict", "1"),
    ] {
        let (response, text) = ask(&app, path, Some(&issued.access)).await;
        assert_eq!(
            (response.status(), &*text),
            (StatusCode::OK, body),
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_one_the_rejection_says_what_to_do() {
    let bed = Bed::new().await;
    let app = app(&bed.tiers);
    for path in ["/needed", "/user", "/strict", "/recent"] {
        let (response, text) = ask(&app, path, None).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert!(
            text.starts_with("{\"error\":\"no session: log in"),
            "{text}"
        );
    }
    assert_eq!(ask(&app, "/maybe", None).await.1, "nobody");

    let revoked = bed.guest().await;
    bed.tiers.revoke(revoked.session.id()).await.unwrap();
    let (response, text) = ask(&app, "/needed", Some(&revoked.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        text,
        "{\"error\":\"the session was revoked: log in again\"}"
    );
    assert_eq!(ask(&app, "/maybe", Some(&revoked.access)).await.1, "nobody");
}

#[tokio::test]
async fn a_guest_is_no_user() {
    let bed = Bed::new().await;
    let app = app(&bed.tiers);
    let guest = bed.guest().await;
    for path in ["/user", "/recent"] {
        let (response, text) = ask(&app, path, Some(&guest.access)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(text.contains("log in first"), "{text}");
    }
}

#[tokio::test]
async fn v7_5_1_a_login_too_long_ago_is_rejected_with_what_to_do() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let (tiers, clock) = bed.on_a_clock().await;
    let app = app(&tiers);
    let (response, text) = ask(&app, "/recent", Some(&issued.access)).await;
    assert_eq!((response.status(), &*text), (StatusCode::OK, "u0"));
    clock.advance(Duration::from_secs(301));
    let (response, text) = ask(&app, "/recent", Some(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = "Bearer error=\"insufficient_user_authentication\", max_age=\"300\"";
    assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(
        text,
        "{\"error\":\"the last login must be at most 300 seconds old: log in again, then repeat \
         the request\"}"
    );
    // For others it is as good as before.
    assert_eq!(ask(&app, "/user", Some(&issued.access)).await.1, "u0");
}

#[tokio::test]
async fn what_a_hook_turns_away_is_nobody_where_the_session_is_optional() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let app = Router::new()
        .route("/needed", get(needed))
        .route("/maybe", get(maybe))
        .layer(layer.binding(|_, _, _| Binding::Reauthenticate));
    let (response, text) = ask(&app, "/needed", Some(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenge = "Bearer error=\"insufficient_user_authentication\"";
    assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
    assert!(text.contains("log in again"), "{text}");
    assert_eq!(ask(&app, "/maybe", Some(&issued.access)).await.1, "nobody");
}

#[tokio::test]
async fn an_outage_is_a_503_even_where_the_session_is_optional() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let app = app(&bed.restarted().await);
    bed.store.unplug();
    for path in ["/needed", "/maybe", "/user", "/strict", "/recent"] {
        let (response, text) = ask(&app, path, Some(&issued.access)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert!(text.contains("try again"), "{text}");
    }
}

#[tokio::test]
async fn a_forgotten_layer_is_named() {
    let bed = Bed::new().await;
    let app = app(&bed.tiers);
    let guest = bed.guest().await;
    for (path, data) in [
        ("/forgotten", "Vec<alloc::string::String>"),
        ("/other", "u64"),
    ] {
        let (response, text) = ask(&app, path, Some(&guest.access)).await;
        assert_eq!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{path}"
        );
        assert!(
            text.contains("SessionLayer<") && text.contains(data),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_change_of_the_cookie_is_part_of_a_response() {
    let bed = Bed::new().await;
    let tiers = bed.tiers.clone();
    let app = Router::new()
        .route(
            "/in",
            get(async move || {
                let issued = tiers.login(Login::guest()).await.unwrap();
                (CookieChange::set(&issued), "welcome")
            }),
        )
        .route("/out", get(async || CookieChange::clear()))
        .layer(SessionLayer::new(bed.tiers.clone()));
    let (response, text) = ask(&app, "/in", None).await;
    assert_eq!(text, "welcome");
    let set = response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-session=sa1_"), "{set}");
    let (response, _) = ask(&app, "/out", None).await;
    let cleared = SessionCookie::new().clear();
    assert_eq!(response.headers()[SET_COOKIE], cleared);
}
