//! For whoever runs the service. Nothing here names a user or a session.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tower_session::Health;

use super::Api;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(flatten)]
    health: Health,
}

/// `GET /healthz`: the process serves; whether it should be restarted is all that this says.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz` for everybody: whether to send requests here, and no more.
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let ready = api.tiers().health().is_ready();
    let body = Json(json!({ "ready": ready }));
    if ready {
        body.into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response()
    }
}

/// `GET /readyz` on the port for operations: also the state of each tier. A Redis that is down
/// costs speed only, so the service stays ready.
pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let health = api.tiers().health();
    let ready = health.is_ready();
    let error = (!ready).then_some("the database was not heard of in time");
    let body = Json(json!(Readiness {
        ready,
        error,
        health,
    }));
    if ready {
        body.into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response()
    }
}

/// `GET /metrics`: in the text format of Prometheus.
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, api.metrics().render()).into_response()
}
