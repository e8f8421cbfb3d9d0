//! One's own sessions.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tower_session::{
    CookieChange, CurrentUser, Listed, Receipt, Scope, SessionId, Timestamp, User, Version,
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

/// `GET /sessions`
pub(crate) async fn list(user: CurrentUser<Data>) -> Result<Json<Vec<Listed>>, ApiError> {
    Ok(Json(user.session().siblings().await?))
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
    let receipt = api
        .tiers()
        .revoke_all(Scope::user(user.id).only(id))
        .await?;
    if receipt.revoked() == 0 {
        return Err(unknown());
    }
    let answer = revoked(&receipt);
    if id == user.session().id() {
        return Ok((CookieChange::clear(), answer).into_response());
    }
    Ok(answer.into_response())
}

/// `DELETE /sessions`: out on every device, this one too.
pub(crate) async fn revoke_all(
    State(api): State<Api>,
    user: CurrentUser<Data>,
) -> Result<Response, ApiError> {
    let receipt = api.tiers().revoke_all(Scope::user(user.id)).await?;
    Ok((CookieChange::clear(), revoked(&receipt)).into_response())
}

/// When a revocation holds everywhere, at the latest.
pub(crate) fn revoked(receipt: &Receipt) -> Json<Value> {
    // Rounded up: a promise is not made shorter than it is.
    let millis = receipt.effective_within().as_micros().div_ceil(1000) as u64;
    Json(json!({ "effective_within_ms": millis }))
}
