//! The password: given again, and changed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tower_session::{CookieChange, CurrentUser, Issued, Refusal, Session, Strictness, UserId};

use super::error::{ApiError, Given};
use super::login::{PASSWORD_ALONE, Tokens, tokens};
use super::sessions::effective_within_ms;
use super::{Api, Data};

/// A password as a client sends it. No `Debug`, so that no log shows it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Password {
    password: String,
}

/// What a client gets after a change.
#[derive(Serialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    tokens: Tokens,
    /// When the other sessions are out everywhere, at the latest.
    effective_within_ms: u64,
}

/// `POST /reauthenticate`: the session goes on under another name, with a login of this moment.
pub(crate) async fn reauthenticate(
    State(api): State<Api>,
    user: CurrentUser<Data>,
    Given(given): Given<Password>,
) -> Result<Response, ApiError> {
    // Not 401: the session is as good as before.
    let wrong = || ApiError::new(StatusCode::FORBIDDEN, "wrong password");
    let stored = api.accounts().password_hash(user.id).await?;
    let matches = api.passwords().check(given.password, stored.clone());
    let (Some(hash), true) = (stored, matches.await?) else {
        return Err(wrong());
    };
    let tiers = api.tiers();
    let issued = tiers.reauthenticate(user.session(), PASSWORD_ALONE).await?;
    if !holds(&api, &issued, user.id, &hash).await? {
        return Err(wrong());
    }
    Ok(tokens(&issued))
}

/// Whether a session that began by a password still may: its password may have been changed since
/// it was checked, by a request that could not know of the session. Then the session ends.
pub(super) async fn holds(
    api: &Api,
    issued: &Issued<Data>,
    user: UserId,
    hash: &str,
) -> Result<bool, ApiError> {
    if api.accounts().password_hash(user).await?.as_deref() == Some(hash) {
        return Ok(true);
    }
    issued.session.revoke().await?;
    Ok(false)
}

/// `PUT /password`, for a user whose login is recent.
///
/// Whoever knew the old one may have a session by it, or a copy of this one's tokens. So all others
/// end (OWASP ASVS 5.0, V7.4.3), and this one goes on under another name.
pub(crate) async fn change(
    State(api): State<Api>,
    user: CurrentUser<Data>,
    Given(given): Given<Password>,
) -> Result<(CookieChange, Json<Changed>), ApiError> {
    let (tiers, accounts) = (api.tiers(), api.accounts());
    let known = accounts.password_hash(user.id).await?;
    let known = known.ok_or(Refusal::Revoked)?;
    let hash = api.passwords().hash(given.chosen()?).await?;
    // It may have ended since the request began, by another change of the password.
    let session = Session::clone(user.session()).into_inner();
    let session = tiers.confirm(session, Strictness::Version).await?;
    if !accounts.replace_password(user.id, known, hash).await? {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "the password was changed at the same time, on another device",
        ));
    }
    let receipt = session.revoke_others().await?;
    let issued = tiers.rotate(&session).await?;
    let changed = Changed {
        tokens: Tokens::of(&issued),
        effective_within_ms: effective_within_ms(&receipt),
    };
    Ok((CookieChange::set(&issued), Json(changed)))
}

impl Password {
    /// The text, if it may be chosen.
    fn chosen(self) -> Result<String, ApiError> {
        /// Characters at least (NIST SP 800-63B).
        const SHORTEST: usize = 8;
        /// Bytes at most: the hash would take more, the body of a login would not.
        const LONGEST: usize = 512;

        if self.password.chars().count() < SHORTEST {
            return Err(ApiError::unprocessable(
                "a password must have at least 8 characters",
            ));
        }
        if self.password.len() > LONGEST {
            return Err(ApiError::unprocessable(
                "a password must have at most 512 bytes",
            ));
        }
        Ok(self.password)
    }
}
