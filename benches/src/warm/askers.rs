//! Who asks Redis for sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum_session::SessionConfig;
use axum_session_redispool::SessionRedisPool;
use bytesize::ByteSize;
use http::Request;
use redis::AsyncCommands as _;
use redis_pool::SingleRedisPool;
use testbed::Redis;
use tower::ServiceExt as _;
use tower_session::{Credential, Tier, TierConfig, Tiers};
use tower_sessions::cookie::time;
use tower_sessions::session::Id;
use tower_sessions::session_store::{CachingSessionStore, SessionStore};
use tower_sessions_moka_store::MokaStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};

use crate::Failure;
use crate::apps::{self, App};
use crate::crowd::Asker;
use crate::sessions::{Basket, Sessions};

pub(super) struct Bench {
    pub(super) askers: Vec<Asker>,
    /// Bytes of a record of ours, and of its key.
    pub(super) record: (usize, usize),
    elsewhere: Arc<AtomicU64>,
}

impl Bench {
    /// Lookups of ours that Redis did not answer.
    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Relaxed)
    }
}

/// All of them, each with so many sessions.
pub(super) async fn all(redis: &Redis, sessions: usize) -> Result<Bench, Failure> {
    let elsewhere = Arc::new(AtomicU64::new(0));
    let (with_tokens, tokens) = Sessions::with_tokens(sessions);
    let tiers = with_tokens.cached(config(redis)).await?;
    let tokens: Vec<_> = tokens.into_iter().map(Credential::from).collect();
    let shown = tokens.iter().cloned();
    let by_token = ours("**ours**, by token", tiers, shown, &elsewhere);
    let mut full = config(redis);
    full.hot.capacity = ByteSize::kib(64);
    let tiers = with_tokens.cached(full).await?;
    let name = "the same into a full hot tier";
    let into_full = ours(name, tiers, tokens.into_iter(), &Arc::default());
    // While nothing else is there.
    let (raw, record) = raw(redis).await?;

    let (with_keys, keys) = Sessions::with_foreign_keys(sessions);
    let tiers = with_keys.cached(config(redis)).await?;
    let keys = keys.into_iter().map(Credential::from);
    let by_key = ours("**ours**, by foreign key", tiers, keys, &elsewhere);

    let (store, ids) = tower_sessions(redis, sessions).await?;
    let caching = CachingSessionStore::new(MokaStore::new(Some(0)), store.clone());
    Ok(Bench {
        askers: vec![
            raw,
            by_token,
            into_full,
            by_key,
            theirs("tower-sessions, Redis store", store, Arc::clone(&ids)),
            theirs("the same behind its moka", caching, ids),
            axum_session(redis, sessions).await?,
        ],
        record,
        elsewhere,
    })
}

/// Nothing is hot; and nothing else is done on the side.
fn config(redis: &Redis) -> TierConfig {
    let mut config = TierConfig::default();
    config.hot.capacity = ByteSize::b(0);
    config.session.touch_interval = Duration::from_secs(60 * 60);
    config.warm.url = Some(redis.url());
    config.warm.command_timeout = Duration::from_secs(5);
    config
}

/// `GET` of the very same records, over one connection that all share.
async fn raw(redis: &Redis) -> Result<(Asker, (usize, usize)), Failure> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = connection.keys("session:*").await?;
    let first: Vec<u8> = connection.get(&keys[0]).await?;
    let record = (first.len(), keys[0].len());
    let keys: Arc<[String]> = keys.into();
    let asker = Asker::new("`GET` by hand", move || {
        let (mut connection, keys) = (connection.clone(), Arc::clone(&keys));
        async move {
            let key = &keys[fastrand::usize(..keys.len())];
            let record: Vec<u8> = connection.get(key).await.expect("Redis answers");
            assert!(!record.is_empty());
        }
    });
    Ok((asker, record))
}

fn ours(
    name: &'static str,
    tiers: Tiers<Basket>,
    shown: impl Iterator<Item = Credential>,
    elsewhere: &Arc<AtomicU64>,
) -> Asker {
    let (shown, elsewhere): (Arc<[Credential]>, _) = (shown.collect(), Arc::clone(elsewhere));
    Asker::new(name, move || {
        let (tiers, elsewhere) = (tiers.clone(), Arc::clone(&elsewhere));
        let credential = shown[fastrand::usize(..shown.len())].clone();
        async move {
            let session = tiers.find(credential).await.expect("it is valid");
            if session.tier() != Tier::Warm {
                elsewhere.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

async fn tower_sessions(
    redis: &Redis,
    sessions: usize,
) -> Result<(RedisStore<Pool>, Arc<[Id]>), Failure> {
    // One connection, which pipelines what comes together; more of them are slower here.
    let pool = Pool::new(Config::from_url(&redis.url())?, None, None, None, 1)?;
    pool.init().await?;
    let store = RedisStore::new(pool);
    let mut ids = Vec::new();
    for number in 0..sessions {
        let mut record = apps::record(number);
        store.create(&mut record).await?;
        ids.push(record.id);
    }
    Ok((store, ids.into()))
}

fn theirs(name: &'static str, store: impl SessionStore + Clone, ids: Arc<[Id]>) -> Asker {
    Asker::new(name, move || {
        let (store, id) = (store.clone(), ids[fastrand::usize(..ids.len())]);
        async move {
            let record = store.load(&id).await.expect("Redis answers");
            assert!(record.is_some());
        }
    })
}

/// It has no way to a session but its layer, so it is asked through a router. And in turn, not at
/// random: of two requests for one session at the same time the first takes it from the second.
async fn axum_session(redis: &Redis, sessions: usize) -> Result<Asker, Failure> {
    let pool = SingleRedisPool::from(redis::Client::open(redis.url())?);
    let config = SessionConfig::default()
        .with_ip_and_user_agent(false)
        .with_memory_lifetime(time::Duration::ZERO);
    let App {
        router, cookies, ..
    } = apps::axum_session_over(Some(SessionRedisPool::from(pool)), config, sessions).await?;
    let asked = AtomicUsize::new(0);
    let name = "axum_session, Redis pool, through axum";
    Ok(Asker::new(name, move || {
        let next = asked.fetch_add(1, Ordering::Relaxed) % cookies.len();
        let request = Request::builder()
            .header("cookie", cookies[next].as_str())
            .body(Body::empty());
        let router = router.clone();
        async move {
            let request = request.expect("a request");
            let response = router.oneshot(request).await.expect("infallible");
            assert!(response.status().is_success());
        }
    }))
}
