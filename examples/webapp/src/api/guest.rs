//! Visitors without a login: whoever has something to keep gets a guest's session.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tower_session::{Absence, Device, Issued, Login, Session, SessionRejection};

use super::error::ApiError;
use super::{Api, Data};

/// How long a guest's session lives. Anyone can have one for the asking, so they must not fill the
/// database for as long as a user's would.
pub(super) const TTL: Duration = Duration::from_secs(2 * 60 * 60);

/// The session of a request, which may be a guest's; none if the request shows none.
///
/// One that is shown and not accepted is refused, so that nobody goes on in another session without
/// being told. The layer takes its cookie away, and the next request shows none.
pub(crate) struct Visitor(pub(crate) Option<Session<Data>>);

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, SessionRejection> {
        let found = <Session<Data> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        match found {
            Ok(session) => Ok(Self(Some(session))),
            Err(SessionRejection::Absent(Absence::NoToken)) => Ok(Self(None)),
            Err(rejection) => Err(rejection),
        }
    }
}

/// Begins a guest's session, unless there are too many.
pub(super) async fn begin(api: &Api, device: Device, data: Data) -> Result<Issued<Data>, ApiError> {
    if !api.guests().admit(device.ip) {
        return Err(ApiError::TooMany {
            retry_after: TTL,
            message: "too many visitors without a login come from here: log in, or try again later",
        });
    }
    let tiers = api.tiers();
    let ttl = TTL.min(tiers.config().session.ttl);
    let guest = Login::guest().device(device).data(data).ttl(ttl);
    Ok(tiers.login(guest).await?)
}
