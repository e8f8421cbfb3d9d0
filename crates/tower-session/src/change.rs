use session_core::{Timestamp, Token};
use tier_cache::{Issued, SessionData};

/// What a handler asks of the layer: give the client the cookie of a session, or take it away.
///
/// It goes into the response's extensions. The innermost [`SessionLayer`](crate::SessionLayer)
/// around the handler takes it out and writes `Set-Cookie` by its
/// [`cookie`](crate::SessionLayer::cookie), with `Cache-Control: no-store` unless the handler has
/// set another: a cache would hand the token to the next client (RFC 9111 §7.3; OWASP ASVS 5.0,
/// V14.3.2). A handler outside any layer asks in vain.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{Request, Response, header::SET_COOKIE};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_session::{CookieChange, Login, SessionLayer, TierConfig, Tiers, TokenKeys};
///
/// # let folder = tempfile::tempdir()?;
/// # let mut config = TierConfig::default();
/// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
/// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
/// let handler = service_fn({
///     let tiers = tiers.clone();
///     move |_: Request<()>| {
///         let tiers = tiers.clone();
///         async move {
///             let issued = tiers.login(Login::guest()).await?;
///             let mut response = Response::new(());
///             response.extensions_mut().insert(CookieChange::set(&issued));
///             Ok::<_, tower_session::Error>(response)
///         }
///     }
/// });
/// let response = SessionLayer::new(tiers).layer(handler).oneshot(Request::new(())).await?;
/// assert!(response.headers()[SET_COOKIE].to_str()?.starts_with("__Host-session=sa1_"));
/// # Ok(())
/// # }
/// ```
///
/// With the feature `axum` it is a part of a response: `(CookieChange::set(&issued), "welcome")`.
#[derive(Clone, Debug)]
pub struct CookieChange(pub(crate) Change);

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set { token: Token, until: Timestamp },
    Clear,
}

impl CookieChange {
    /// Gives the client the access token of a login or a refresh, until the session expires.
    pub fn set<D: SessionData>(issued: &Issued<D>) -> Self {
        Self(Change::Set {
            token: issued.access.clone(),
            until: issued.session.expires_at(),
        })
    }

    /// Takes the cookie away, as a logout does.
    pub fn clear() -> Self {
        Self(Change::Clear)
    }
}

#[cfg(feature = "axum")]
mod response {
    use std::convert::Infallible;

    use axum_core::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};

    use super::CookieChange;

    impl IntoResponseParts for CookieChange {
        type Error = Infallible;

        fn into_response_parts(
            self,
            mut parts: ResponseParts,
        ) -> Result<ResponseParts, Infallible> {
            parts.extensions_mut().insert(self);
            Ok(parts)
        }
    }

    impl IntoResponse for CookieChange {
        fn into_response(self) -> Response {
            (self, ()).into_response()
        }
    }
}
