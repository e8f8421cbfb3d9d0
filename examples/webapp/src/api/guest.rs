//! Visitors without a login: whoever has something to keep gets a guest's session.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tower_session::{Absence, Device, Error, Issued, Login, Session, SessionRejection, Tiers};

use super::Data;

/// How long a guest's session lives. Anyone can have one for the asking, so they must not fill the
/// database for as long as a user's would.
const GUEST_TTL: Duration = Duration::from_secs(2 * 60 * 60);

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

/// Begins a guest's session.
pub(super) async fn begin(
    tiers: &Tiers<Data>,
    device: Device,
    data: Data,
) -> Result<Issued<Data>, Error> {
    let ttl = GUEST_TTL.min(tiers.config().session.ttl);
    let guest = Login::guest().device(device).data(data).ttl(ttl);
    tiers.login(guest).await
}
