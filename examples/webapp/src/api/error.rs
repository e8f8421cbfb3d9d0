//! Every error is `{"error": "…"}`, whoever answers.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;
use tower_session::{Absence, Error, LogLimit, RefreshError, Refusal, SessionRejection};

use crate::accounts::AccountsError;
use crate::limits::Slowed;
use crate::passwords::PasswordError;

/// An error as the client is told of it.
#[derive(Debug)]
pub(crate) enum ApiError {
    Own {
        status: StatusCode,
        message: Cow<'static, str>,
    },
    /// It was tried too often: answered again after so long.
    TooMany {
        retry_after: Duration,
        message: &'static str,
    },
    /// The session is not accepted, or cannot be decided: as the extractors answer it.
    Session(SessionRejection),
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self::Own { status, message }
    }

    /// The request reads well, but asks for what is not allowed.
    pub(super) fn unprocessable(message: &'static str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// Something here is at fault, which the log knows more of.
    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong here; the log says what",
        )
    }

    /// The database does not answer. That is logged once a second at most: while it lasts, every
    /// request may end so.
    fn unavailable(error: &dyn Display) -> Self {
        static LIMIT: LogLimit = LogLimit::new();
        if let Some(left_out) = LIMIT.admit() {
            tracing::warn!(%error, left_out, "answered 503");
        }
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database cannot be reached just now: try again in a moment",
        )
    }
}

impl From<SessionRejection> for ApiError {
    fn from(rejection: SessionRejection) -> Self {
        Self::Session(rejection)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        SessionRejection::Absent(Absence::Refused(refusal)).into()
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::StepUp(step_up) => SessionRejection::StepUp(step_up).into(),
            RefreshError::Tiers(error) => error.into(),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Conflict { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            Error::TooManySessions { .. } => Self::new(
                StatusCode::CONFLICT,
                "you are logged in on as many devices as allowed: log out on one of them",
            ),
            // Since the password was checked, its account was deleted.
            Error::NoSuchUser { .. } => Self::new(
                StatusCode::UNAUTHORIZED,
                "this account was deleted a moment ago: nobody can log in to it any more",
            ),
            Error::DataTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            Error::ShuttingDown => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this instance is stopping: try again in a moment",
            ),
            Error::Store(ref store) if store.is_unavailable() => Self::unavailable(&error),
            error => {
                tracing::error!(%error, "answered 500");
                Self::internal()
            }
        }
    }
}

impl From<Slowed> for ApiError {
    fn from(Slowed(left): Slowed) -> Self {
        Self::TooMany {
            retry_after: left,
            message: "too many logins have failed: wait a moment, then try again",
        }
    }
}

impl From<AccountsError> for ApiError {
    fn from(error: AccountsError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many logins at once: try again in a moment",
            ),
            PasswordError::Failed(_) => {
                tracing::error!(%error, "answered 500");
                Self::internal()
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Own { status, message } => (status, message),
            Self::TooMany {
                retry_after,
                message,
            } => {
                let seconds = retry_after.as_millis().div_ceil(1000).max(1).to_string();
                let body = Json(json!({ "error": message }));
                let status = StatusCode::TOO_MANY_REQUESTS;
                return (status, [(RETRY_AFTER, seconds)], body).into_response();
            }
            Self::Session(rejection) => return rejection.into_response(),
        };
        let mut response = (status, Json(json!({ "error": message }))).into_response();
        let headers = response.headers_mut();
        match status {
            // RFC 9110 §11.6.1 asks for a challenge in each 401, §10.2.3 has the other.
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// A body in JSON; an error in JSON if it is none.
pub(crate) struct Given<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(value) = Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// Puts an error that a layer or the router has answered into JSON; its headers stay.
pub(crate) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_error || is_json {
        return response;
    }
    let message = match status {
        StatusCode::NOT_FOUND => "there is nothing at this address",
        StatusCode::METHOD_NOT_ALLOWED => "this address does not take this method; see Allow",
        StatusCode::FORBIDDEN => "a page of another site may not do this",
        StatusCode::REQUEST_TIMEOUT => "the request took too long",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too large",
        status => status.canonical_reason().unwrap_or("an error"),
    };
    let (mut parts, _) = response.into_parts();
    let body = json!({ "error": message }).to_string();
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}
