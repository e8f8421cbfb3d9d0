use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use testbed::SqliteFile;
use tier_cache::cold::{
    Change, Changes, ColdStore, Created, Limit, NewSession, Pruned, Retention, Row, Scope,
    SqliteStore,
};
use tier_cache::{Clock, StoreError};
use tower::{Service, ServiceExt};
use tower_session::{
    Absence, Issued, Key, Login, SecretKey, Session, SessionCookie, SessionId, Tier, TierConfig,
    Tiers, Timestamp, TokenKeys, UserId, Version,
};

pub(crate) type Data = Vec<String>;

/// Tiers on a file of their own, whose store counts its calls and can be unplugged.
pub(crate) struct Bed {
    pub(crate) tiers: Tiers<Data>,
    pub(crate) store: Arc<Store>,
    pub(crate) root: SecretKey,
    pub(crate) keys: TokenKeys,
    file: SqliteFile,
}

impl Bed {
    /// The same tiers anew, on a clock that the test moves.
    pub(crate) async fn on_a_clock(&self) -> (Tiers<Data>, Clock) {
        let clock = Clock::manual();
        let tiers = Tiers::builder(self.tiers.config().clone(), self.keys.clone())
            .store(self.store.clone())
            .clock(clock.clone())
            .start()
            .await
            .unwrap();
        (tiers, clock)
    }

    pub(crate) async fn new() -> Self {
        let file = SqliteFile::create();
        let mut config = TierConfig::default();
        config.cold.url = file.url();
        // One poll at the start, so that calls can be counted.
        config.fence.staleness_bound = std::time::Duration::from_secs(24 * 60 * 60);
        config.fence.poll_interval = std::time::Duration::from_secs(60 * 60);
        let sqlite = SqliteStore::open(&config.cold).unwrap();
        sqlite.migrate().await.unwrap();
        let store = Arc::new(Store {
            inner: sqlite,
            calls: AtomicU64::new(0),
            unplugged: AtomicBool::new(false),
        });
        let root = SecretKey::random();
        let keys = TokenKeys::new(&root);
        let tiers = Tiers::builder(config, keys.clone())
            .store(store.clone())
            .start()
            .await
            .unwrap();
        Self {
            tiers,
            store,
            root,
            keys,
            file,
        }
    }

    pub(crate) async fn guest(&self) -> Issued<Data> {
        let login = Login::guest().data(vec!["tea".into()]);
        self.tiers.login(login).await.unwrap()
    }

    /// A user nobody had before.
    pub(crate) fn user_id(&self) -> i64 {
        let id = self.sql(
            "INSERT INTO users (email, username) \
             SELECT 'u' || count(*) || '@b.c', 'u' || count(*) FROM users WHERE true RETURNING id",
        );
        id.trim().parse().unwrap()
    }

    pub(crate) async fn user(&self) -> Issued<Data> {
        let login = Login::user(self.user_id()).data(vec!["tea".into()]);
        self.tiers.login(login).await.unwrap()
    }

    /// The same service after a restart: nothing is hot.
    pub(crate) async fn restarted(&self) -> Tiers<Data> {
        self.restarted_with(self.keys.clone()).await
    }

    pub(crate) async fn restarted_with(&self, keys: TokenKeys) -> Tiers<Data> {
        Tiers::builder(self.tiers.config().clone(), keys)
            .store(self.store.clone())
            .start()
            .await
            .unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.file.sql(sql)
    }
}

/// SQLite, with a plug.
pub(crate) struct Store {
    inner: SqliteStore,
    calls: AtomicU64,
    unplugged: AtomicBool,
}

impl Store {
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn unplug(&self) {
        self.unplugged.store(true, Ordering::SeqCst);
    }

    fn called(&self, operation: &'static str) -> Result<&SqliteStore, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.unplugged.load(Ordering::SeqCst) {
            return Err(StoreError::transient(operation, "unplugged"));
        }
        Ok(&self.inner)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ColdStore for Store {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        self.called("load")?.load(key).await
    }

    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
        self.called("version")?.version(id).await
    }

    async fn create(
        &self,
        session: NewSession,
        limit: Option<Limit>,
    ) -> Result<Created, StoreError> {
        self.called("create")?.create(session, limit).await
    }

    async fn update(&self, id: SessionId, at: Version, to: Change) -> Result<bool, StoreError> {
        self.called("update")?.update(id, at, to).await
    }

    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
        self.called("revoke")?.revoke(id, at).await
    }

    async fn revoke_all(
        &self,
        scope: Scope,
        at: Timestamp,
        most: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.called("revoke_all")?.revoke_all(scope, at, most).await
    }

    async fn touch(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        interval: Duration,
    ) -> Result<u64, StoreError> {
        self.called("touch")?.touch(seen, interval).await
    }

    async fn list(
        &self,
        of: UserId,
        at: Timestamp,
        after: Option<tier_cache::cold::Cursor>,
        most: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.called("list")?.list(of, at, after, most).await
    }

    async fn changes(
        &self,
        since: tier_cache::cold::Mark,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        self.called("changes")?.changes(since, limit).await
    }

    async fn prune(&self, at: Timestamp, keep: Retention, most: u32) -> Result<Pruned, StoreError> {
        self.called("prune")?.prune(at, keep, most).await
    }

    fn kind(&self) -> &'static str {
        "sqlite with a plug"
    }
}

/// What the inner service saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Session(SessionId, Tier),
    NoToken,
    Refused(String),
    StepUp(SessionId),
    /// Nothing in the extensions.
    Nothing,
    /// The layer answered.
    Answered(StatusCode),
}

/// The inner service: tells what stands in the extensions.
pub(crate) fn look(request: &Request<()>) -> Seen {
    let extensions = request.extensions();
    match (
        extensions.get::<Session<Data>>(),
        extensions.get::<Absence>(),
    ) {
        (Some(session), _) => Seen::Session(session.id(), session.tier()),
        (None, Some(Absence::NoToken)) => Seen::NoToken,
        (None, Some(Absence::Refused(refusal))) => Seen::Refused(refusal.to_string()),
        (None, Some(Absence::StepUp(step_up))) => Seen::StepUp(step_up.session()),
        (None, Some(absence)) => panic!("unknown to this test: {absence:?}"),
        (None, None) => Seen::Nothing,
    }
}

pub(crate) async fn inner(request: Request<()>) -> Result<Response<Option<Seen>>, Infallible> {
    Ok(Response::new(Some(look(&request))))
}

pub(crate) async fn call<S>(service: &mut S, request: Request<()>) -> Response<Option<Seen>>
where
    S: Service<Request<()>, Response = Response<Option<Seen>>, Error = Infallible>,
{
    service.ready().await.unwrap().call(request).await.unwrap()
}

pub(crate) async fn seen<S>(service: &mut S, request: Request<()>) -> Seen
where
    S: Service<Request<()>, Response = Response<Option<Seen>>, Error = Infallible>,
{
    let response = call(service, request).await;
    let status = response.status();
    response.into_body().unwrap_or(Seen::Answered(status))
}

/// A token of another issuer.
pub(crate) fn foreign(id: &str) -> tower_session::ForeignToken<'_> {
    tower_session::ForeignToken::new("https://idp.example", id).unwrap()
}

/// A request with these headers.
pub(crate) fn request(headers: &[(&str, &str)]) -> Request<()> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    request_of_bytes(&headers)
}

pub(crate) fn request_of_bytes(headers: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

pub(crate) fn bearer(token: &tower_session::Token) -> Request<()> {
    request(&[("authorization", &format!("Bearer {}", &*token.expose()))])
}

pub(crate) fn cookie(token: &tower_session::Token) -> Request<()> {
    let cookie = format!("{}={}", SessionCookie::NAME, &*token.expose());
    request(&[("cookie", &cookie)])
}
