//! The password: given again, and changed.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tower_session::{
    CurrentUser, Device, Error, Issued, Refusal, Scope, Session, Strictness, User, UserId,
};

use super::error::{ApiError, Given};
use super::login::{Begun, Client, PASSWORD_ALONE};
use super::sessions::effective_within_ms;
use super::{Api, Data, device};

/// A password as a client sends it. No `Debug`, so that no log shows it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Password {
    password: String,
}

/// A password to put in the place of the present one. No `Debug` either.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    current_password: String,
    /// The new one.
    password: String,
}

/// Sessions that every node hears of at once when they end; of more it hears within the staleness
/// bound, and usually within milliseconds.
const TOLD_AT_ONCE: usize = 100;

/// What a client gets after a change.
#[derive(Serialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    begun: Begun,
    /// When the other sessions are out everywhere, at the latest.
    effective_within_ms: u64,
}

/// `POST /reauthenticate`: the session goes on under another name, with a login of this moment.
pub(crate) async fn reauthenticate(
    State(api): State<Api>,
    user: CurrentUser<Data>,
    device::From(device): device::From,
    headers: HeaderMap,
    Given(given): Given<Password>,
) -> Result<Response, ApiError> {
    let stored = api.accounts().password_hash(user.id).await?;
    prove(&api, &user, &device, given.password, stored.clone()).await?;
    let hash = stored.ok_or_else(wrong)?;
    let tiers = api.tiers();
    let issued = tiers.reauthenticate(user.session(), PASSWORD_ALONE).await?;
    if !holds(&api, &issued, user.id, &hash).await? {
        return Err(wrong());
    }
    Ok(Client::of(&headers).answer(&headers, &issued))
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

/// `PUT /password`, for a user whose login is recent, and who knows the present password.
///
/// Whoever knew the old one may have a session by it, or a copy of this one's tokens. So all others
/// end (OWASP ASVS 5.0, V7.4.3), and this one goes on under another name. The new hash and the end of
/// the others are one transaction, which a client that goes away does not split.
pub(crate) async fn change(
    State(api): State<Api>,
    user: CurrentUser<Data>,
    device::From(device): device::From,
    headers: HeaderMap,
    Given(given): Given<Change>,
) -> Result<Response, ApiError> {
    let (tiers, accounts) = (api.tiers(), api.accounts());
    let known = accounts.password_hash(user.id).await?;
    let known = known.ok_or(Refusal::Revoked)?;
    // It may have ended since the request began, by another change of the password.
    let session = Session::clone(user.session()).into_inner();
    let session = tiers.confirm(session, Strictness::Version).await?;
    let current = given.current_password;
    // Before the new one is looked at: that is work, and wrong ones are counted.
    prove(&api, &user, &device, current, Some(known.clone())).await?;
    let new = chosen(&api, &user, given.password).await?;
    let hash = api.passwords().hash(new).await?;
    // All of this takes a while.
    let session = tiers.confirm(session, Strictness::Version).await?;

    let (accounts, own) = (accounts.clone(), session.clone());
    let id = user.id;
    let changing = tokio::spawn(async move {
        let ended = accounts.change_password(id, known, hash, own.id()).await?;
        let Some(ended) = ended else {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "the password was changed at the same time, on another device",
            ));
        };
        tracing::info!(
            target: "session_audit",
            user = %id,
            sessions = ended.len(),
            "password changed, and all other sessions ended"
        );
        let tiers = own.tiers();
        // They have ended. This only has every node hear of it at once.
        for ended in ended.into_iter().take(TOLD_AT_ONCE) {
            let _ = tiers.revoke(ended).await;
        }
        let others = Scope::user(id).except(own.id());
        Ok(tiers.revoke_all(others).await?)
    });
    let receipt = changing.await.map_err(|_| Error::ShuttingDown)??;
    let issued = tiers.rotate(&session).await?;
    let client = Client::of(&headers);
    let changed = Changed {
        begun: Begun::of(client, &issued),
        effective_within_ms: effective_within_ms(&receipt),
    };
    Ok((client.cookie(&headers, &issued), Json(changed)).into_response())
}

/// Whether this is the user's password. Wrong ones are counted as those of a login are.
async fn prove(
    api: &Api,
    user: &CurrentUser<Data>,
    device: &Device,
    password: String,
    stored: Option<String>,
) -> Result<(), ApiError> {
    let attempt = api.attempts().begin(&user.username, device.ip)?;
    if api.passwords().check(password, stored).await? {
        attempt.succeeded();
        return Ok(());
    }
    let id = match user.id {
        UserId::Int(id) => Some(id),
        UserId::Uuid(_) => None,
    };
    attempt.failed(id, device.ip);
    Err(wrong())
}

/// Not 401: the session is as good as before.
fn wrong() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "wrong password")
}

/// The new password, if it may be chosen.
async fn chosen(api: &Api, user: &User, password: String) -> Result<String, ApiError> {
    /// Characters at least (NIST SP 800-63B).
    const SHORTEST: usize = 8;
    /// Bytes at most: the hash would take more, the body of a login would not.
    const LONGEST: usize = 512;

    if password.chars().count() < SHORTEST {
        return Err(ApiError::unprocessable(
            "a password must have at least 8 characters",
        ));
    }
    if password.len() > LONGEST {
        return Err(ApiError::unprocessable(
            "a password must have at most 512 bytes",
        ));
    }
    let known = [user.username.to_string(), user.email.to_string()];
    if api.passwords().is_common(password.clone(), known).await? {
        return Err(ApiError::unprocessable(
            "this password is among those that are tried first: choose one that nobody guesses",
        ));
    }
    Ok(password)
}
