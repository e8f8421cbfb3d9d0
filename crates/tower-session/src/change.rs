use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use session_core::{Timestamp, Token};
use tier_cache::{Issued, SessionData};

/// What a handler asks of the layer: give the client the cookie of a session, or take it away.
///
/// It goes into the response's extensions. The innermost [`SessionLayer`](crate::SessionLayer)
/// around the handler takes it out and writes `Set-Cookie` by its
/// [`cookie`](crate::SessionLayer::cookie), with `Cache-Control: no-store` unless the handler has
/// set another: a cache would hand the token to the next client (RFC 9111 §7.3; OWASP ASVS 5.0,
/// V14.3.2).
///
/// A handler outside any layer asks in vain: the name and the attributes of the cookie are the
/// layer's, so nothing else writes it. Then the client keeps what it has, and the drop of the last
/// clone logs one warning, which names the remedy. So it does where the change never reaches a
/// response, or where a middleware between the handler and the layer answers with another response.
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
pub struct CookieChange(Arc<Asked>);

/// What was asked for, and whether a layer has done it. Shared by all clones.
#[derive(Debug)]
struct Asked {
    change: Change,
    done: AtomicBool,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set { token: Token, until: Timestamp },
    Clear,
}

impl CookieChange {
    /// Gives the client the access token of a login or a refresh, until the session expires.
    pub fn set<D: SessionData>(issued: &Issued<D>) -> Self {
        Self::new(Change::Set {
            token: issued.access.clone(),
            until: issued.session.expires_at(),
        })
    }

    /// Takes the cookie away, as a logout does.
    pub fn clear() -> Self {
        Self::new(Change::Clear)
    }

    fn new(change: Change) -> Self {
        let done = AtomicBool::new(false);
        Self(Arc::new(Asked { change, done }))
    }

    /// For the layer that writes it.
    pub(crate) fn take(&self) -> &Change {
        self.0.done.store(true, Ordering::Relaxed);
        &self.0.change
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // A handler that panics has no response; that is told elsewhere.
        if *self.done.get_mut() || std::thread::panicking() {
            return;
        }
        match &self.change {
            Change::Set { token, .. } => tracing::warn!(
                session = %token.id(),
                "no SessionLayer wrote the cookie of a CookieChange::set, so the client did not get \
                 its session: put a SessionLayer around this handler, outside of everything that \
                 replaces its response"
            ),
            Change::Clear => tracing::warn!(
                "no SessionLayer wrote the cookie of a CookieChange::clear, so the client keeps its \
                 cookie: put a SessionLayer around this handler, outside of everything that \
                 replaces its response"
            ),
        }
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
