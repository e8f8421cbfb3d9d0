//! Extractors for axum.

use std::ops::Deref;
use std::time::Duration;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use session_core::User;
use tier_cache::{Reason, SessionData, Strictness};

use crate::absence::Absence;
use crate::session::Session;
use crate::step_up::{Demand, StepUp};

/// A valid session; as `Option<Session<D>>` for pages that guests see too.
///
/// The option is `None` only if there is no valid session. Where that cannot be decided both
/// answer 503, so that an outage does not look like a logout.
impl<S: Send + Sync, D: SessionData> FromRequestParts<S> for Session<D> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionRejection> {
        find(parts)
    }
}

impl<S: Send + Sync, D: SessionData> OptionalFromRequestParts<S> for Session<D> {
    type Rejection = SessionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> Result<Option<Self>, SessionRejection> {
        match find(parts) {
            Ok(session) => Ok(Some(session)),
            Err(SessionRejection::Absent(absence)) if !absence.is_undecided() => Ok(None),
            Err(SessionRejection::StepUp(_)) => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }
}

/// The user of a valid session; a guest's session is refused.
#[derive(Clone, Debug)]
pub struct CurrentUser<D: SessionData>(Session<D>);

impl<D: SessionData> CurrentUser<D> {
    /// The user's session.
    pub fn session(&self) -> &Session<D> {
        &self.0
    }
}

impl<D: SessionData> Deref for CurrentUser<D> {
    type Target = User;

    fn deref(&self) -> &User {
        self.0.user().expect("a guest's session was refused")
    }
}

impl<S: Send + Sync, D: SessionData> FromRequestParts<S> for CurrentUser<D> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionRejection> {
        let session = find(parts)?;
        if session.user().is_none() {
            return Err(SessionRejection::Guest);
        }
        Ok(Self(session))
    }
}

/// A session that the database has confirmed on this very request, by its version: for payments
/// and the like. Costs one cheap statement.
#[derive(Clone, Debug)]
pub struct StrictSession<D: SessionData>(pub Session<D>);

impl<D: SessionData> Deref for StrictSession<D> {
    type Target = Session<D>;

    fn deref(&self) -> &Session<D> {
        &self.0
    }
}

impl<S: Send + Sync, D: SessionData> FromRequestParts<S> for StrictSession<D> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionRejection> {
        let session = find(parts)?.into_inner();
        let tiers = session.tiers().clone();
        match tiers.confirm(session, Strictness::Version).await {
            Ok(session) => Ok(Self(session.into())),
            Err(refusal) => Err(SessionRejection::Absent(Absence::Refused(refusal))),
        }
    }
}

/// The session of a user who has logged in, or has proved again to be that user, at most `SECONDS`
/// ago: for handlers that change an e-mail address, a password or a factor (OWASP ASVS 5.0,
/// V7.5.1). A guest's session is refused.
///
/// As [`SessionLayer::authenticated_within`](crate::SessionLayer::authenticated_within), for one
/// handler. After a rejection the client logs in again, by
/// [`Tiers::reauthenticate`](tier_cache::Tiers::reauthenticate), and repeats the request.
#[derive(Clone, Debug)]
pub struct Recent<D: SessionData, const SECONDS: u64>(pub Session<D>);

impl<D: SessionData, const SECONDS: u64> Deref for Recent<D, SECONDS> {
    type Target = Session<D>;

    fn deref(&self) -> &Session<D> {
        &self.0
    }
}

impl<S: Send + Sync, D: SessionData, const SECONDS: u64> FromRequestParts<S>
    for Recent<D, SECONDS>
{
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SessionRejection> {
        let session = find(parts)?;
        if session.user().is_none() {
            return Err(SessionRejection::Guest);
        }
        let demand = Demand {
            within: Some(Duration::from_secs(SECONDS)),
            ..Demand::default()
        };
        if !demand.is_met_by(&session) {
            let id = Some(session.id());
            session.tiers().tell_refused(id, Reason::StepUp);
            return Err(SessionRejection::StepUp(StepUp::new(session.id(), demand)));
        }
        Ok(Self(session))
    }
}

fn find<D: SessionData>(parts: &Parts) -> Result<Session<D>, SessionRejection> {
    if let Some(session) = parts.extensions.get::<Session<D>>() {
        return Ok(session.clone());
    }
    match parts.extensions.get::<Absence>() {
        Some(Absence::StepUp(step_up)) => Err(SessionRejection::StepUp(*step_up)),
        Some(absence) => Err(SessionRejection::Absent(absence.clone())),
        None => Err(SessionRejection::NoLayer {
            data: std::any::type_name::<D>(),
        }),
    }
}

/// Why an extractor found no session.
///
/// As a response: the status and headers that fit, and `{"error": "…"}`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SessionRejection {
    /// The request has no valid session: 401; or it cannot be decided: 503.
    Absent(Absence),
    /// The session is a guest's, and a user is needed: 401.
    Guest,
    /// The session is valid, but a more recent or a stronger login is demanded: 401.
    StepUp(StepUp),
    /// No layer has looked for a session with this type of data: 500, a mistake in the program.
    NoLayer {
        /// The type of data that the extractor asks for.
        data: &'static str,
    },
}

impl SessionRejection {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Absent(absence) => absence.status(),
            Self::Guest | Self::StepUp(_) => StatusCode::UNAUTHORIZED,
            Self::NoLayer { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client, or its developer, is told.
    pub fn message(&self) -> String {
        match self {
            Self::Absent(absence) => absence.message(),
            Self::Guest => "nobody is logged in: log in first".into(),
            Self::StepUp(step_up) => step_up.message(),
            Self::NoLayer { data } => format!(
                "no session was looked for: add `SessionLayer<{data}>` to this route, outside the \
                 handler"
            ),
        }
    }
}

impl IntoResponse for SessionRejection {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.message() }).to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match &self {
            Self::Absent(absence) => absence.write_headers(headers),
            Self::Guest => Absence::NoToken.write_headers(headers),
            Self::StepUp(step_up) => Absence::StepUp(*step_up).write_headers(headers),
            Self::NoLayer { .. } => {}
        }
        response
    }
}

impl std::fmt::Display for SessionRejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for SessionRejection {}
