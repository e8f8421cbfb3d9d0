use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tier_cache::Refusal;

use crate::step_up::StepUp;

/// Why a request has no session; in the request's extensions in the session's place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Absence {
    /// It shows no token.
    NoToken,
    /// What it shows was refused, or could not be decided.
    Refused(Refusal),
    /// It shows a valid session, but a more recent or a stronger login is demanded.
    StepUp(StepUp),
}

impl Absence {
    /// Whether it says nothing about the client: no tier could decide.
    pub fn is_undecided(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_unavailable())
    }

    /// 401, or 503 where the session cannot be decided.
    pub fn status(&self) -> StatusCode {
        if self.is_undecided() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::UNAUTHORIZED
        }
    }

    /// What the client, or its developer, is told.
    pub fn message(&self) -> String {
        match self {
            Self::NoToken => {
                "no session: log in, and send the session cookie or `Authorization: Bearer <token>`"
                    .into()
            }
            Self::Refused(refusal) if refusal.is_unavailable() => {
                format!("{refusal}: try again in a moment, with the same token")
            }
            Self::Refused(refusal @ Refusal::Ambiguous) => {
                format!("{refusal}: log out, which ends and removes them, then log in again")
            }
            Self::Refused(refusal) => format!("{refusal}: log in again"),
            Self::StepUp(step_up) => step_up.message(),
        }
    }

    /// The headers that go with the status: `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3,
    /// RFC 9470 §3) or `Retry-After` (RFC 9110 §10.2.3), and `Cache-Control: no-store`.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::NoToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Refused(Refusal::Unavailable { retry_after }) => {
                let seconds = retry_after.as_secs().max(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Refused(_) => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Self::StepUp(step_up) => {
                let challenge = HeaderValue::try_from(step_up.challenge());
                headers.insert(WWW_AUTHENTICATE, challenge.expect("it is visible ASCII"));
            }
        }
    }
}
