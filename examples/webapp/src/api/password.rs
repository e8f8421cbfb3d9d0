//! The password: given again, and changed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tower_session::{CookieChange, CurrentUser, Refusal};

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
    let stored = api.accounts().password_hash(user.id).await?;
    if !api.passwords().check(given.password, stored).await? {
        // Not 401: the session is as good as before.
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong password"));
    }
    let tiers = api.tiers();
    let issued = tiers.reauthenticate(user.session(), PASSWORD_ALONE).await?;
    Ok(tokens(&issued))
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
    let hash = api.passwords().hash(given.chosen()?).await?;
    if !api.accounts().set_password(user.id, hash).await? {
        return Err(Refusal::Revoked.into());
    }
    let receipt = user.session().revoke_others().await?;
    let issued = api.tiers().rotate(user.session()).await?;
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
