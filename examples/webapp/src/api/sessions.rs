//! One's own sessions.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tower_session::{
    CookieChange, CurrentUser, Device, Receipt, SessionId, Timestamp, User, Version,
};

use super::error::ApiError;
use super::{Api, Data};

#[derive(Serialize)]
pub(crate) struct Me {
    user: User,
    session: Named,
    /// Where the session was found this time.
    tier: &'static str,
}

#[derive(Serialize)]
struct Named {
    id: SessionId,
    version: Version,
    expires_at: Timestamp,
}

/// `GET /me`
pub(crate) async fn me(user: CurrentUser<Data>) -> Json<Me> {
    let session = user.session();
    Json(Me {
        user: User::clone(&user),
        session: Named {
            id: session.id(),
            version: session.version(),
            expires_at: session.expires_at(),
        },
        tier: session.tier().as_str(),
    })
}

#[derive(Serialize)]
pub(crate) struct Listed {
    id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    device: Device,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    expires_at: Timestamp,
}

/// `GET /sessions`
pub(crate) async fn list(
    State(api): State<Api>,
    user: CurrentUser<Data>,
) -> Result<Json<Vec<Listed>>, ApiError> {
    let current = user.session().id();
    let listed = api.tiers().list(user.id).await?;
    let listed = listed.into_iter().map(|session| Listed {
        id: session.id,
        current: session.id == current,
        device: session.device,
        created_at: session.created_at,
        last_seen_at: session.last_seen_at,
        expires_at: session.expires_at,
    });
    Ok(Json(listed.collect()))
}

/// `DELETE /sessions/{id}`
pub(crate) async fn revoke(
    State(api): State<Api>,
    Path(id): Path<String>,
    user: CurrentUser<Data>,
) -> Result<Response, ApiError> {
    // One answer for what is not there, not one's own, or over.
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "you have no such session");
    let id: SessionId = id.parse().map_err(|_| unknown())?;
    let session = match api.tiers().find(id).await {
        Ok(session) => session,
        Err(refusal) if refusal.is_unavailable() => return Err(refusal.into()),
        Err(_) => return Err(unknown()),
    };
    if session.user().map(|owner| owner.id) != Some(user.id) {
        return Err(unknown());
    }
    let answer = revoked(&api.tiers().revoke(id).await?);
    if id == user.session().id() {
        return Ok((CookieChange::clear(), answer).into_response());
    }
    Ok(answer.into_response())
}

/// When a revocation holds everywhere, at the latest.
pub(crate) fn revoked(receipt: &Receipt) -> Json<Value> {
    // Rounded up: a promise is not made shorter than it is.
    let millis = receipt.effective_within().as_micros().div_ceil(1000) as u64;
    Json(json!({ "effective_within_ms": millis }))
}
