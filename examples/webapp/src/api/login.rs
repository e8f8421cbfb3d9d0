//! In and out: login, refresh, logout.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_session::{
    CookieChange, Issued, Login, Refusal, Session, SessionId, SessionRejection, Timestamp, Token,
};

use super::error::{ApiError, Given};
use super::sessions::revoked;
use super::{Api, Data, device};

/// No `Debug`, so that no log shows it.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    username: String,
    password: String,
}

#[derive(Deserialize)]
pub(crate) struct Refresh {
    refresh_token: String,
}

/// What a client gets to prove itself with.
#[derive(Serialize)]
struct Tokens {
    session_id: SessionId,
    access_token: String,
    refresh_token: String,
    expires_at: Timestamp,
}

/// `POST /login`
pub(crate) async fn login(
    State(api): State<Api>,
    device::From(device): device::From,
    Given(given): Given<Credentials>,
) -> Result<Response, ApiError> {
    let account = api.accounts().find(&given.username).await?;
    let (id, hash) = match account {
        Some(account) => (Some(account.id), account.password_hash),
        None => (None, None),
    };
    let matches = api.passwords().check(given.password, hash).await?;
    // One answer for both, so that it does not tell who has an account.
    let (Some(id), true) = (id, matches) else {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "wrong username or password",
        ));
    };
    let issued = api.tiers().login(Login::user(id).device(device)).await?;
    Ok(tokens(&issued))
}

/// `POST /refresh`
pub(crate) async fn refresh(
    State(api): State<Api>,
    Given(given): Given<Refresh>,
) -> Result<Response, ApiError> {
    let token = Token::parse(&given.refresh_token).map_err(|_| Refusal::Malformed)?;
    let issued = api.tiers().refresh(&token).await?;
    Ok(tokens(&issued))
}

/// `POST /logout`
pub(crate) async fn logout(
    State(api): State<Api>,
    session: Result<Session<Data>, SessionRejection>,
) -> Result<Response, ApiError> {
    let clear = CookieChange::clear();
    match session {
        Ok(session) => {
            let receipt = api.tiers().revoke(session.id()).await?;
            Ok((clear, revoked(&receipt)).into_response())
        }
        // Out already; the cookie goes too.
        Err(rejection) if rejection.status() == StatusCode::UNAUTHORIZED => {
            Ok((clear, rejection).into_response())
        }
        Err(undecided) => Err(undecided.into()),
    }
}

fn tokens(issued: &Issued<Data>) -> Response {
    let tokens = Tokens {
        session_id: issued.session.id(),
        access_token: issued.access.expose().to_string(),
        refresh_token: issued.refresh.expose().to_string(),
        expires_at: issued.session.expires_at(),
    };
    (CookieChange::set(issued), Json(json!(tokens))).into_response()
}
