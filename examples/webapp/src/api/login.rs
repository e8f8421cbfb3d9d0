//! In and out: login, refresh, logout.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_session::{
    CookieChange, Issued, Login, Refusal, Session, SessionId, SessionRejection, Timestamp, Token,
};

use super::error::{ApiError, Given};
use super::sessions::revoked;
use super::{Api, Data, device, password};

/// What a password alone proves: level 1 of NIST SP 800-63B.
pub(super) const PASSWORD_ALONE: u8 = 1;

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
pub(super) struct Tokens {
    session_id: SessionId,
    access_token: String,
    refresh_token: String,
    expires_at: Timestamp,
}

/// `POST /login`: in place of the session that the client has, if it has one. A guest's data goes
/// on, also if the client logs in twice at once.
pub(crate) async fn login(
    State(api): State<Api>,
    parts: Parts,
    device::From(device): device::From,
    Given(given): Given<Credentials>,
) -> Result<Response, ApiError> {
    let account = api.accounts().find(&given.username).await?;
    let (id, hash) = match account {
        Some(account) => (Some(account.id), account.password_hash),
        None => (None, None),
    };
    // One answer for both, so that it does not tell who has an account.
    let wrong = || ApiError::new(StatusCode::UNAUTHORIZED, "wrong username or password");
    let matches = api.passwords().check(given.password, hash.clone()).await?;
    let (Some(id), Some(hash), true) = (id, hash, matches) else {
        return Err(wrong());
    };
    let login = Login::user(id)
        .device(device)
        .assurance(PASSWORD_ALONE)
        // What this release cannot read ends with the session that held it.
        .rewrite_data();
    let sessions = api.sessions();
    let issued = sessions
        .log_in(&parts.headers, &parts.extensions, login)
        .await?;
    if !password::holds(&api, &issued, id.into(), &hash).await? {
        return Err(wrong());
    }
    Ok(tokens(&issued))
}

/// `POST /refresh`, from the browser that the session is bound to, if it is bound.
pub(crate) async fn refresh(
    State(api): State<Api>,
    parts: Parts,
    Given(given): Given<Refresh>,
) -> Result<Response, ApiError> {
    let token = Token::parse(&given.refresh_token).map_err(|_| Refusal::Malformed)?;
    let sessions = api.sessions();
    let issued = sessions
        .refresh(&parts.headers, &parts.extensions, &token)
        .await?;
    Ok(tokens(&issued))
}

/// `POST /logout`: out of each session that the request shows, also where it shows several and so
/// has none.
pub(crate) async fn logout(
    State(api): State<Api>,
    session: Result<Session<Data>, SessionRejection>,
    parts: Parts,
) -> Result<Response, ApiError> {
    let clear = CookieChange::clear();
    let ended = api.sessions().log_out(&parts.headers, &parts.extensions);
    match (ended.await?, session) {
        (Some(receipt), _) => Ok((clear, revoked(&receipt)).into_response()),
        // Out already; the cookie goes too.
        (None, Err(rejection)) if rejection.status() == StatusCode::UNAUTHORIZED => {
            Ok((clear, rejection).into_response())
        }
        (None, Err(undecided)) => Err(undecided.into()),
        // It ended meanwhile.
        (None, Ok(_)) => Err(Refusal::Revoked.into()),
    }
}

pub(super) fn tokens(issued: &Issued<Data>) -> Response {
    (CookieChange::set(issued), Json(Tokens::of(issued))).into_response()
}

impl Tokens {
    pub(super) fn of(issued: &Issued<Data>) -> Self {
        Self {
            session_id: issued.session.id(),
            access_token: issued.access.expose().to_string(),
            refresh_token: issued.refresh.expose().to_string(),
            expires_at: issued.session.expires_at(),
        }
    }
}
