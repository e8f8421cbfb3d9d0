use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderValue};
use tier_cache::{Advice, SessionData, Strictness, Tiers};
use tower_layer::Layer;

use crate::binding::{Binding, Hook};
use crate::cookie::SessionCookie;
use crate::service::SessionService;
use crate::source::Source;
use crate::spread::Spread;
use crate::step_up::Demand;

/// Puts the session of each request into the request's extensions: see the [crate's
/// documentation](crate).
///
/// A request without a valid session goes on without one, with an
/// [`Absence`](crate::Absence) in its place; a [`required`](Self::required) layer answers it.
///
/// On the way out it gives the client the cookie of a new session, or takes it away, where a
/// handler asks for that by [`CookieChange`](crate::CookieChange). By itself it takes away what it
/// has refused for good (see [`keep_refused_cookies`](Self::keep_refused_cookies)), and writes a
/// cookie anew whose token was signed with a retired key (see [`TokenKeys`]; bearer tokens stay as
/// they are, since nobody would read the new one). That check costs a hash for each accepted key,
/// and only while one is retired.
///
/// Layers may be nested: an inner one takes over the session that an outer one has found, and
/// adds what it demands.
///
/// [`TokenKeys`]: session_core::TokenKeys
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, routing::{get, post}};
/// use tower_session::{Session, SessionLayer, Source, Strictness, TierConfig, Tiers, TokenKeys};
///
/// # let folder = tempfile::tempdir()?;
/// # let mut config = TierConfig::default();
/// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
/// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
/// let sessions = SessionLayer::new(tiers)
///     .sources([Source::bearer(), Source::cookie("__Host-session")]);
/// let strict = sessions.clone().required().strictness(Strictness::Version);
///
/// let app: Router = Router::new()
///     .route("/pay", post(async || "paid").layer(strict))
///     .route("/", get(async |session: Option<Session<()>>| match session {
///         Some(session) => format!("welcome back, {}", session.id()),
///         None => "welcome".into(),
///     }))
///     .layer(sessions);
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
///
/// # Around an axum router
///
/// `Router::layer` boxes a service and a future for each request, whatever the layer. One that all
/// routes are to have may stand around the router in place of that, which takes a third off a hot
/// hit (`docs/performance.md`). Extractors find the session all the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, ServiceExt, extract::Request, routing::get};
/// use tower::Layer;
/// use tower_session::{Login, Session, SessionLayer, TierConfig, Tiers, TokenKeys};
///
/// # let folder = tempfile::tempdir()?;
/// # let mut config = TierConfig::default();
/// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
/// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
/// let router = Router::new().route("/", get(async |session: Session<()>| {
///     session.id().to_string()
/// }));
/// let app = SessionLayer::new(tiers.clone()).layer(router);
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let service = ServiceExt::<Request>::into_make_service(app);
/// let serving = tokio::spawn(async move { axum::serve(listener, service).await });
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # let issued = tiers.login(Login::guest()).await?;
/// # let mut client = tokio::net::TcpStream::connect(address).await?;
/// # let request = format!(
/// #     "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
/// #     &*issued.access.expose(),
/// # );
/// # client.write_all(request.as_bytes()).await?;
/// # let mut answer = String::new();
/// # client.read_to_string(&mut answer).await?;
/// # assert!(answer.ends_with(&issued.session.id().to_string()), "{answer}");
/// # serving.abort();
/// # Ok(())
/// # }
/// ```
pub struct SessionLayer<D: SessionData> {
    pub(crate) shared: Spread<Shared<D>>,
}

/// What the layer and all services made by it share.
#[derive(Clone)]
pub(crate) struct Shared<D: SessionData> {
    pub(crate) tiers: Tiers<D>,
    /// The first in which a request shows something decides.
    pub(crate) sources: Arc<[Source]>,
    pub(crate) strictness: Strictness,
    pub(crate) required: bool,
    pub(crate) binding: Option<Arc<Hook<D>>>,
    pub(crate) demand: Demand,
    pub(crate) cookie: SessionCookie,
    /// The cookie's name, put together once.
    pub(crate) cookie_name: Box<str>,
    /// As which it was written in the past.
    pub(crate) former_cookies: Arc<[SessionCookie]>,
    pub(crate) removes_refused: bool,
}

impl<D: SessionData> SessionLayer<D> {
    /// A layer that takes the token from the cookie `__Host-session`, else from
    /// `Authorization: Bearer`, and is as strict as `session.strictness` of the tiers'
    /// configuration says.
    ///
    /// Tiers in a namespace have a cookie of its name, such as `__Host-shop-session`: two of them on
    /// one host shall not take each other's away.
    pub fn new(tiers: Tiers<D>) -> Self {
        let cookie = SessionCookie::of(tiers.config().cold.namespace.as_ref());
        let shared = Shared {
            strictness: tiers.config().session.strictness,
            sources: [Source::cookie(cookie.name()), Source::bearer()].into(),
            required: false,
            binding: None,
            demand: Demand::default(),
            cookie_name: cookie.name().into(),
            cookie,
            former_cookies: [].into(),
            removes_refused: true,
            tiers,
        };
        Self::of(&shared)
    }

    /// Takes the token from these places, in this order: the first in which a request shows
    /// something decides, even if that is refused. A place that shows several tokens that differ
    /// decides only if no later one shows anything: the request is then refused as
    /// [`Refusal::Ambiguous`](tier_cache::Refusal::Ambiguous).
    ///
    /// With none at all the layer looks for no session, and only writes the cookies that handlers
    /// ask for, as a login wants it.
    #[must_use]
    pub fn sources(self, sources: impl IntoIterator<Item = Source>) -> Self {
        self.with(|shared| shared.sources = sources.into_iter().collect())
    }

    /// Answers requests without a valid session: 401 with `WWW-Authenticate`, or 503 with
    /// `Retry-After` where the session cannot be decided. The body is the body type's default.
    #[must_use]
    pub fn required(self) -> Self {
        self.with(|shared| shared.required = true)
    }

    /// Asks at least this much before it trusts a session.
    #[must_use]
    pub fn strictness(self, strictness: Strictness) -> Self {
        self.with(|shared| shared.strictness = strictness)
    }

    /// Lets a session pass only if its user has logged in, or has proved again to be that user, at
    /// most so long ago (OWASP ASVS 5.0, V7.5.1). Another session, and a guest's, is absent by
    /// [`Absence::StepUp`](crate::Absence::StepUp): 401 with `WWW-Authenticate: Bearer
    /// error="insufficient_user_authentication", max_age="300"` where one is
    /// [`required`](Self::required), in whole seconds (RFC 9470 §3). The client keeps its cookie.
    ///
    /// For layers inside another, on the routes that change an e-mail address, a password or a
    /// factor; not on the one that takes the password again, which needs the session for
    /// [`Tiers::reauthenticate`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use http::{Request, Response, header::WWW_AUTHENTICATE};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_session::{Login, SessionLayer, TierConfig, Tiers, TokenKeys};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let mut config = TierConfig::default();
    /// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    /// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
    /// let recent = SessionLayer::new(tiers.clone())
    ///     .required()
    ///     .authenticated_within(Duration::from_secs(300))
    ///     .assurance(2);
    /// let change_email = recent.layer(service_fn(async |_| {
    ///     Ok::<_, std::convert::Infallible>(Response::new(()))
    /// }));
    ///
    /// let guest = tiers.login(Login::guest()).await?;
    /// let request = Request::builder()
    ///     .header("authorization", format!("Bearer {}", &*guest.access.expose()))
    ///     .body(())?;
    /// let response = change_email.oneshot(request).await?;
    /// assert_eq!(
    ///     response.headers()[WWW_AUTHENTICATE],
    ///     "Bearer error=\"insufficient_user_authentication\", max_age=\"300\""
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn authenticated_within(self, max_age: Duration) -> Self {
        self.with(|shared| shared.demand.within = Some(max_age))
    }

    /// Lets a session pass only if its user has logged in at least this well, as the application
    /// counts: see [`Login::assurance`](tier_cache::Login::assurance). Else as
    /// [`authenticated_within`](Self::authenticated_within) does; for one more factor before what
    /// is highly sensitive (OWASP ASVS 5.0, V7.5.3).
    #[must_use]
    pub fn assurance(self, level: u8) -> Self {
        self.with(|shared| shared.demand.assurance = level)
    }

    /// Asks the application, for each request whose session is valid, whether the request fits the
    /// session: by its headers, and by what layers further out or the server have put into its
    /// extensions, as the peer's address (axum's `ConnectInfo`) or the TLS client certificate.
    ///
    /// It is asked on the hot path, between the lookup and the handler. So it wants to be a pure
    /// function: quick, without I/O or locks that others hold for long, and with the same answer
    /// for the same request; layers inside this one that are clones of it ask again. What it
    /// compares with is the session's device, or application data that the login has set:
    /// [`Session::body_if_here`](tier_cache::Session::body_if_here) has the body whenever a hook
    /// is asked. Where a tier has the head alone, that costs each node one read of the database,
    /// which `warm.holds = "full"` saves. A layer inside this one does not find the session that
    /// this one has turned away.
    ///
    /// It is asked also before a refresh token is traded by [`refresh`](Self::refresh), and before
    /// [`log_in`](Self::log_in) takes the data of a guest's session along. `Tiers::refresh` and
    /// `Tiers::upgrade` know no requests, and ask no hook.
    ///
    /// What to make of a difference:
    ///
    /// - An address is worth little. Phones change theirs as they move, whole offices share one,
    ///   and a thief may share it with the victim. [`Binding::Reauthenticate`] where an address of
    ///   another country or network appears is as much as it justifies.
    /// - A user agent changes with each update of the browser, and a thief copies it. Compare the
    ///   browser's family and platform if anything.
    /// - A key in the client's hands, as that of a TLS client certificate, is proof: whoever shows
    ///   another one or none has stolen the token. That is what [`Binding::Revoke`] is for.
    ///
    /// [`Binding::Revoke`] waits for [`Tiers::revoke_for`] with
    /// [`Reason::Binding`](tier_cache::Reason::Binding) before the request goes on; if the database
    /// fails, the request is refused as one whose session was revoked, and the session is turned
    /// away again next time. A route on which the user logs in again gets no session after
    /// [`Binding::Reauthenticate`]; it finds its name in [`StepUp::session`](crate::StepUp::session)
    /// and may find it by [`Tiers::find`].
    ///
    /// # Panics
    ///
    /// A panic of the hook goes through the layer as a handler's does: the request goes no further.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::{Request, Response, StatusCode};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_session::{Binding, Login, SessionLayer, TierConfig, Tiers, TokenKeys};
    ///
    /// /// The fingerprint of the TLS client certificate: the server puts it into the request's
    /// /// extensions, and a login into the session.
    /// #[derive(Clone)]
    /// struct Fingerprint(String);
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let mut config = TierConfig::default();
    /// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    /// let tiers: Tiers<String> = Tiers::open(config, TokenKeys::random()).await?;
    /// let bound = SessionLayer::new(tiers.clone()).required().binding(
    ///     |session, _headers, extensions| {
    ///         let body = session.body_if_here().expect("a hook is asked when it is here");
    ///         match (body.data(), extensions.get::<Fingerprint>()) {
    ///             (Ok(known), Some(Fingerprint(shown))) if known == shown => Binding::Allow,
    ///             _ => Binding::Revoke,
    ///         }
    ///     },
    /// );
    /// let handler = service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(())));
    ///
    /// let login = Login::guest().data("5e:ed".into());
    /// let issued = tiers.login(login).await?;
    /// for (shown, status) in [("5e:ed", StatusCode::OK), ("ba:d0", StatusCode::UNAUTHORIZED)] {
    ///     let request = Request::builder()
    ///         .header("authorization", format!("Bearer {}", &*issued.access.expose()))
    ///         .extension(Fingerprint(shown.into()))
    ///         .body(())?;
    ///     let response = bound.layer(handler.clone()).oneshot(request).await?;
    ///     assert_eq!(response.status(), status);
    /// }
    /// assert!(tiers.find(issued.session.id()).await.is_err(), "it was revoked");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn binding(
        self,
        hook: impl Fn(&tier_cache::Session<D>, &HeaderMap, &Extensions) -> Binding
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.with(|shared| shared.binding = Some(Arc::new(hook)))
    }

    /// Writes this cookie where a handler asks for it by [`CookieChange`](crate::CookieChange), and
    /// takes the token from it where it took the token from the cookie before.
    ///
    /// Layers of different tiers on one host need cookies of different names. A cookie without `Secure`
    /// is warned of in the log.
    #[must_use]
    pub fn cookie(self, cookie: SessionCookie) -> Self {
        if !cookie.is_secure() {
            Advice::insecure_cookie(&cookie.name()).give();
        }
        self.with(|shared| {
            let name: Box<str> = cookie.name().into();
            let sources = shared.sources.iter().map(|source| {
                if source.is_cookie(&shared.cookie_name) {
                    Source::cookie(name.clone())
                } else {
                    source.clone()
                }
            });
            shared.sources = sources.collect();
            shared.cookie = cookie;
            shared.cookie_name = name;
        })
    }

    /// Removes also cookies that an earlier release wrote like this, with another path, domain or
    /// name, whenever a handler removes the cookie by [`CookieChange::clear`]. So a client that has
    /// both does not stay logged in by the former one.
    ///
    /// Call it once for each former cookie. The cookie's own attributes need no such call: what it
    /// would be without its `Domain`, its `Path` or `Partitioned` is removed in any case.
    ///
    /// [`CookieChange::clear`]: crate::CookieChange::clear
    #[must_use]
    pub fn former_cookie(self, cookie: SessionCookie) -> Self {
        self.with(|shared| {
            let former = shared.former_cookies.iter().cloned();
            shared.former_cookies = former.chain([cookie]).collect();
        })
    }

    /// Leaves a cookie with the client although its session is over, or never was.
    ///
    /// Without this the layer removes such a cookie on the way out, unless the response sets one
    /// or may be stored by a shared cache. It stays in any case while no tier can decide; when
    /// its token was replaced by a newer one, which the client may have got meanwhile; when its
    /// signature is not accepted, since this node may lack a root key that others have; and where a
    /// request shows several of the name that differ: the one that would be left may be somebody else's.
    #[must_use]
    pub fn keep_refused_cookies(self) -> Self {
        self.with(|shared| shared.removes_refused = false)
    }

    fn with(self, change: impl FnOnce(&mut Shared<D>)) -> Self {
        let mut shared = Shared::clone(self.shared.local());
        change(&mut shared);
        Self::of(&shared)
    }

    fn of(shared: &Shared<D>) -> Self {
        let one = || Shared {
            tiers: shared.tiers.twin(),
            ..shared.clone()
        };
        Self {
            shared: Spread::new(one),
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// The values of `Set-Cookie` headers that take the cookie away wherever it may be; that of its
    /// present place first.
    pub(crate) fn clear_everywhere(&self) -> Vec<HeaderValue> {
        let cookies = [&self.cookie].into_iter().chain(&*self.former_cookies);
        let mut headers: Vec<HeaderValue> = Vec::new();
        for header in cookies.flat_map(SessionCookie::clear_everywhere) {
            if !headers.contains(&header) {
                headers.push(header);
            }
        }
        headers
    }
}

impl<S, D: SessionData> Layer<S> for SessionLayer<D> {
    type Service = SessionService<S, D>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.shared.clone())
    }
}

impl<D: SessionData> Clone for SessionLayer<D> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<D: SessionData> fmt::Debug for SessionLayer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.local();
        f.debug_struct("SessionLayer")
            .field("sources", &shared.sources)
            .field("strictness", &shared.strictness)
            .field("required", &shared.required)
            .field("demand", &shared.demand)
            .field("cookie", &shared.cookie)
            .finish_non_exhaustive()
    }
}
