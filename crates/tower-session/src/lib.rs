//! Tiered sessions as [tower] middleware, for axum, hyper and whatever else speaks
//! `Service<Request>`.
//!
//! [`SessionLayer`] takes the token from a cookie or from `Authorization: Bearer`, asks the
//! [tiers](tier_cache::Tiers) for its session, and puts the session into the request's
//! extensions. A session that is hot costs no I/O and boxes nothing. On the way out it writes the
//! cookie that a handler asks for by [`CookieChange`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response, StatusCode};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_session::{Login, Session, SessionLayer, TierConfig, Tiers, TokenKeys};
//!
//! # let folder = tempfile::tempdir()?;
//! let mut config = TierConfig::default();
//! config.cold.url = "sqlite://sessions.db".into();
//! # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
//! let tiers: Tiers<Vec<String>> = Tiers::open(config, TokenKeys::random()).await?;
//!
//! let service = service_fn(async |request: Request<String>| {
//!     let session = request.extensions().get::<Session<Vec<String>>>().expect("it is required");
//!     let basket = session.body().await.expect("it is hot");
//!     Ok::<_, std::convert::Infallible>(Response::new(basket.data().unwrap().join(", ")))
//! });
//! let mut service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(tiers.clone()).required())
//!     .service(service);
//!
//! // A client with a session …
//! let issued = tiers.login(Login::guest().data(vec!["tea".into(), "milk".into()])).await?;
//! let request = Request::builder()
//!     .header("authorization", format!("Bearer {}", &*issued.access.expose()))
//!     .body(String::new())?;
//! let response = service.ready().await?.call(request).await?;
//! assert_eq!(response.into_body(), "tea, milk");
//!
//! // … and one without.
//! let response = service.ready().await?.call(Request::new(String::new())).await?;
//! assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
//! # Ok(())
//! # }
//! ```
//!
//! [tower]: https://docs.rs/tower

mod absence;
mod binding;
mod change;
mod cookie;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod layer;
mod log_in;
mod log_out;
mod outbound;
mod refresh;
mod service;
mod session;
mod source;
mod spread;
mod step_up;

pub use absence::Absence;
pub use binding::Binding;
pub use change::CookieChange;
pub use cookie::{CookieError, SessionCookie};
#[cfg(feature = "axum")]
pub use extract::{CurrentUser, Recent, SessionRejection, StrictSession};
pub use future::ResponseFuture;
pub use layer::SessionLayer;
pub use refresh::RefreshError;
pub use service::SessionService;
pub use session::Session;
pub use source::Source;
pub use step_up::StepUp;

// What an application needs of the crates below, so that it depends on this one alone.
pub use session_core::{
    Body, DataError, Device, ForeignToken, Head, Key, SecretKey, SessionId, Signed, Timestamp,
    Token, TokenKeys, TokenKind, User, UserId, Version, WrittenToken,
};
pub use tier_cache::cold::Cursor;
pub use tier_cache::{
    self, Credential, Error, Event, Health, Issued, Listed, ListedPage, LogLimit, Login, Reason,
    Receipt, Refusal, Scope, SessionData, Strictness, Tier, TierConfig, Tiers,
};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
