//! In and out: login, refresh, logout.

use axum::Json;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_session::{
    CookieChange, Issued, Login, Refusal, Session, SessionId, SessionRejection, Timestamp, Token,
};

use super::error::{ApiError, Given};
use super::sessions::{CLEAR_SITE_DATA, revoked};
use super::{Api, Data, device, password};

/// What a password alone proves: level 1 of NIST SP 800-63B.
pub(super) const PASSWORD_ALONE: u8 = 1;

/// No `Debug`, so that no log shows it.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    username: String,
    password: String,
    /// For programs: the tokens in the answer, in place of the cookie.
    #[serde(default)]
    tokens: bool,
}

#[derive(Deserialize)]
pub(crate) struct Refresh {
    refresh_token: String,
}

/// How a client keeps what it proves itself with. Never both ways: a script that gets into a page
/// would read from the answer what the cookie keeps from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// In the cookie, which no script can read.
    Browser,
    /// By itself: it gets the tokens.
    Program,
}

/// What a client is told of its session.
#[derive(Serialize)]
pub(super) struct Begun {
    session_id: SessionId,
    expires_at: Timestamp,
    #[serde(flatten)]
    tokens: Option<Tokens>,
}

/// What a program proves itself with.
#[derive(Serialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
}

/// `POST /login`: in place of the session that the client has, if it has one. A guest's data goes
/// on, also if the client logs in twice at once.
pub(crate) async fn login(
    State(api): State<Api>,
    parts: Parts,
    device::From(device): device::From,
    Given(given): Given<Credentials>,
) -> Result<Response, ApiError> {
    let attempt = api.attempts().begin(&given.username, device.ip)?;
    let account = api.accounts().find(&given.username).await?;
    let (id, hash) = match account {
        Some(account) => (Some(account.id), account.password_hash),
        None => (None, None),
    };
    // One answer for both, so that it does not tell who has an account.
    let wrong = || ApiError::new(StatusCode::UNAUTHORIZED, "wrong username or password");
    let matches = api.passwords().check(given.password, hash.clone()).await?;
    let (Some(known), Some(hash), true) = (id, hash, matches) else {
        attempt.failed(id, device.ip);
        return Err(wrong());
    };
    attempt.succeeded();
    let id = known;
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
    let client = match given.tokens {
        true => Client::Program,
        false => Client::Browser,
    };
    Ok(client.answer(&parts.headers, &issued))
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
    Ok(Client::Program.answer(&parts.headers, &issued))
}

/// `POST /logout`: out of each session that the request shows, also where it shows several and so
/// has none.
pub(crate) async fn logout(
    State(api): State<Api>,
    session: Result<Session<Data>, SessionRejection>,
    parts: Parts,
) -> Result<Response, ApiError> {
    let ended = api.sessions().log_out(&parts.headers, &parts.extensions);
    // Made for an answer that it is in for sure: one that is dropped is warned of.
    let clear = || (CookieChange::clear(), CLEAR_SITE_DATA);
    match (ended.await?, session) {
        (Some(receipt), _) => Ok((clear(), revoked(&receipt)).into_response()),
        // Out already; the cookie goes too.
        (None, Err(rejection)) if rejection.status() == StatusCode::UNAUTHORIZED => {
            Ok((clear(), rejection).into_response())
        }
        (None, Err(undecided)) => Err(undecided.into()),
        // It ended meanwhile.
        (None, Ok(_)) => Err(Refusal::Revoked.into()),
    }
}

impl Client {
    /// Who shows a session in the header has it from an answer; who shows one in the cookie has it
    /// there, whatever else a script has added.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.contains_key(AUTHORIZATION) && !shows_cookie(headers) {
            true => Self::Program,
            false => Self::Browser,
        }
    }

    /// The answer to a login, and to whatever else makes new tokens.
    pub(super) fn answer(self, headers: &HeaderMap, issued: &Issued<Data>) -> Response {
        (self.cookie(headers, issued), Json(Begun::of(self, issued))).into_response()
    }

    /// What becomes of the cookie: a program's has lost its session, if it shows one.
    pub(super) fn cookie(self, headers: &HeaderMap, issued: &Issued<Data>) -> Option<CookieChange> {
        match self {
            Self::Browser => Some(CookieChange::set(issued)),
            Self::Program => shows_cookie(headers).then(CookieChange::clear),
        }
    }
}

/// Whether there is a session cookie, of whatever namespace.
fn shows_cookie(headers: &HeaderMap) -> bool {
    headers.get_all(COOKIE).iter().any(|cookies| {
        let mut pairs = cookies.as_bytes().split(|&byte| byte == b';');
        pairs.any(|pair| {
            let name = pair.trim_ascii().split(|&byte| byte == b'=').next();
            name.is_some_and(|name| {
                let name = name.trim_ascii_end();
                name.starts_with(b"__Host-") && name.ends_with(b"session")
            })
        })
    })
}

impl Begun {
    pub(super) fn of(client: Client, issued: &Issued<Data>) -> Self {
        let tokens = || Tokens {
            access_token: issued.access.expose().to_string(),
            refresh_token: issued.refresh.expose().to_string(),
        };
        Self {
            session_id: issued.session.id(),
            expires_at: issued.session.expires_at(),
            tokens: (client == Client::Program).then(tokens),
        }
    }
}
