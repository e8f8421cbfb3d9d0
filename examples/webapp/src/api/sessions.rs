//! One's own sessions.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::LINK;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_session::{
    CookieChange, CurrentUser, Cursor, Error, Listed, Receipt, Scope, Session, SessionId,
    Timestamp, User, Version,
};

use super::error::{ApiError, Given};
use super::{Api, Data};

/// Has the browser forget what it stored of a user who is out. The cookie is taken away by itself:
/// `"cookies"` would take those of all sibling hosts along.
pub(super) const CLEAR_SITE_DATA: [(HeaderName, &str); 1] = [(
    HeaderName::from_static("clear-site-data"),
    r#""cache", "storage""#,
)];

#[derive(Serialize)]
pub(crate) struct Me {
    /// None of a guest's session.
    user: Option<User>,
    session: Named,
    /// Where the session was found this time.
    tier: &'static str,
}

#[derive(Serialize)]
struct Named {
    id: SessionId,
    version: Version,
    authenticated_at: Timestamp,
    expires_at: Timestamp,
}

/// What a user calls a device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceName {
    label: String,
}

/// `GET /me`
pub(crate) async fn me(session: Session<Data>) -> Json<Me> {
    Json(Me {
        user: session.user().cloned(),
        session: Named {
            id: session.id(),
            version: session.version(),
            authenticated_at: session.authenticated_at(),
            expires_at: session.expires_at(),
        },
        tier: session.tier().as_str(),
    })
}

/// Which part of the list is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// After which session, as the page before has named it; from the first if it is missing.
    after: Option<String>,
    size: Option<u32>,
}

/// `GET /sessions?after=…&size=…`: a page of the list, and in `Link` where the next one is (RFC 8288).
pub(crate) async fn list(
    user: CurrentUser<Data>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    /// What the tiers give at most.
    const SIZE: u32 = 1000;

    let Query(Page { after, size }) = page?;
    let size = size.unwrap_or(SIZE).clamp(1, SIZE);
    let after = after.map(|after| after.parse::<Cursor>()).transpose();
    let after = after.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let page = user.session().siblings_page(after, size).await?;
    let link = page.next.map(|next| {
        // A cursor is written so that a URL may hold it.
        let link = format!("</sessions?after={next}&size={size}>; rel=\"next\"");
        [(LINK, link)]
    });
    Ok((link, Json::<Vec<Listed>>(page.sessions)).into_response())
}

/// `PUT /sessions/{id}`: names the device.
pub(crate) async fn name(
    Path(id): Path<String>,
    user: CurrentUser<Data>,
    Given(name): Given<DeviceName>,
) -> Result<Json<Value>, ApiError> {
    let label = name.checked()?;
    let id: SessionId = id.parse().map_err(|_| unknown())?;
    match user.session().name_device(id, label).await {
        // It has ended meanwhile.
        Err(Error::Refused(refusal)) if !refusal.is_unavailable() => return Err(unknown()),
        named => drop(named?),
    }
    Ok(Json(json!({ "id": id, "label": label })))
}

/// `DELETE /sessions/{id}`, for a user whose login is recent.
pub(crate) async fn revoke(
    State(api): State<Api>,
    Path(id): Path<String>,
    user: CurrentUser<Data>,
) -> Result<Response, ApiError> {
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
        return Ok((CookieChange::clear(), CLEAR_SITE_DATA, answer).into_response());
    }
    Ok(answer.into_response())
}

/// `DELETE /sessions`, for a user whose login is recent: out on every device, this one too.
pub(crate) async fn revoke_all(
    State(api): State<Api>,
    user: CurrentUser<Data>,
) -> Result<Response, ApiError> {
    let receipt = api.tiers().revoke_all(Scope::user(user.id)).await?;
    Ok((CookieChange::clear(), CLEAR_SITE_DATA, revoked(&receipt)).into_response())
}

/// When a revocation holds everywhere, at the latest.
pub(crate) fn revoked(receipt: &Receipt) -> Json<Value> {
    Json(json!({ "effective_within_ms": effective_within_ms(receipt) }))
}

/// Rounded up: a promise is not made shorter than it is.
pub(crate) fn effective_within_ms(receipt: &Receipt) -> u64 {
    receipt.effective_within().as_micros().div_ceil(1000) as u64
}

/// One answer for what is not there, not one's own, or over.
fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "you have no such session")
}

impl DeviceName {
    /// The name without spaces around it.
    fn checked(&self) -> Result<&str, ApiError> {
        /// Characters at most.
        const LONGEST: usize = 64;

        let label = self.label.trim();
        if label.is_empty() {
            return Err(ApiError::unprocessable("a name must not be empty"));
        }
        if label.chars().count() > LONGEST {
            return Err(ApiError::unprocessable(
                "a name must have at most 64 characters",
            ));
        }
        // The marks of direction, which would turn what stands beside the name, and line breaks.
        let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if label.contains(|c: char| c.is_control() || turns(c)) {
            return Err(ApiError::unprocessable(
                "a name must hold no control characters",
            ));
        }
        Ok(label)
    }
}
