//! The routes, and what stands before them.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{delete, get, post, put};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_session::{SessionLayer, Tiers};

use crate::api::{self, Api, Data, error};
use crate::cli::Policy;
use crate::hosts::{self, Hosts};
use crate::page;

/// How long a request may take, its body included. The tiers' own deadlines are much shorter, so
/// it is nearly always the client who is slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a request's body, which leaves room for the largest data a session holds by default.
const BODY_MAX: usize = 32 * 1024;
/// Bytes of a body with a password: nobody's, with a name, takes more.
const LOGIN_MAX: usize = 4 * 1024;

/// How sessions are found. A session may be bound to the browser that it began on.
pub(crate) fn sessions(tiers: &Tiers<Data>, policy: &Policy) -> SessionLayer<Data> {
    let sessions = SessionLayer::new(tiers.clone());
    match policy.bind_user_agent {
        true => sessions.binding(api::device::same_browser),
        false => sessions,
    }
}

pub(crate) fn router(api: Api, policy: Policy) -> Router {
    // On the doors nobody is turned away: whoever has the tokens may log in anew or out, from
    // whichever browser.
    let sessions = SessionLayer::new(api.tiers().clone());
    let bound = api.sessions().clone();
    let recent = sessions
        .clone()
        .authenticated_within(policy.reauthenticate_after);
    let hosts = Hosts::new(&policy.allow_hosts);
    let hsts = policy
        .behind_tls
        .then(|| header(STRICT_TRANSPORT_SECURITY, "max-age=63072000"));
    let own = Router::new()
        .route("/me", get(api::sessions::me))
        // To look is free; to end other sessions takes a recent login (OWASP ASVS 5.0, V7.5.2).
        .route(
            "/sessions",
            delete(api::sessions::revoke_all)
                .layer(recent.clone())
                .get(api::sessions::list),
        )
        .route(
            "/sessions/{id}",
            delete(api::sessions::revoke)
                .layer(recent.clone())
                .put(api::sessions::name),
        )
        .route("/activity", get(api::activity::list))
        .route("/data", get(api::data::read).put(api::data::write))
        .route_layer(bound.clone());
    let passwords = Router::new()
        .route("/reauthenticate", post(api::password::reauthenticate))
        .route("/password", put(api::password::change).layer(recent))
        .layer(DefaultBodyLimit::max(LOGIN_MAX))
        .route_layer(bound);
    let doors = Router::new()
        .route("/login", post(api::login::login))
        .route("/logout", post(api::login::logout))
        .layer(DefaultBodyLimit::max(LOGIN_MAX))
        .route_layer(sessions.clone());
    // The token is in the body; a stale cookie must not stand in its way.
    let refresh = Router::new()
        .route("/refresh", post(api::login::refresh))
        .layer(DefaultBodyLimit::max(LOGIN_MAX))
        .route_layer(sessions.sources([]));
    let probes = Router::new()
        .route("/healthz", get(api::operations::healthz))
        .route("/readyz", get(api::operations::ready));

    Router::new()
        .merge(own)
        .merge(passwords)
        .merge(doors)
        .merge(refresh)
        .merge(probes)
        .merge(page::routes())
        .with_state(api)
        .layer(CatchPanicLayer::new())
        .layer(
            ServiceBuilder::new()
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(span)
                        // Whoever answers a failure logs it, and no more often than once a second.
                        .on_failure(()),
                )
                .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .layer(header(REFERRER_POLICY, "no-referrer"))
                .layer(header(CACHE_CONTROL, "no-store"))
                // The page has a wider one of its own.
                .layer(header(
                    CONTENT_SECURITY_POLICY,
                    "default-src 'none'; frame-ancestors 'none'",
                ))
                .layer(header(
                    HeaderName::from_static("cross-origin-opener-policy"),
                    "same-origin",
                ))
                .layer(header(
                    HeaderName::from_static("cross-origin-resource-policy"),
                    "same-origin",
                ))
                .option_layer(hsts)
                .layer(map_response(error::in_json))
                .layer(from_fn_with_state(hosts, hosts::check))
                // The cookie's SameSite=Lax lets a sibling site's forms through; this does not.
                .layer(CsrfLayer::new())
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::REQUEST_TIMEOUT,
                    PATIENCE,
                ))
                .layer(DefaultBodyLimit::max(BODY_MAX)),
        )
}

/// For whoever runs the service, on a port that is not for the public: all that is told of it.
pub(crate) fn operations(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(api::operations::healthz))
        .route("/readyz", get(api::operations::readyz))
        .route("/metrics", get(api::operations::metrics))
        .with_state(api)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            PATIENCE,
        ))
}

/// Adds a header to each response that does not have it.
fn header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// What a log says of a request: no header, since those hold tokens, and no query.
fn span<B>(request: &Request<B>) -> tracing::Span {
    let (method, path) = (request.method(), request.uri().path());
    tracing::debug_span!("request", %method, path)
}
