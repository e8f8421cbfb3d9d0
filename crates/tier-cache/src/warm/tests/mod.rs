//! The warm tier against real Redis servers, each test with its own.

mod access;
mod outages;
mod pushes;
mod records;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::metrics::Counter;
use redis::{Cmd, FromRedisValue};
use session_core::{
    Head, Key, KeyHash, Lineage, Mark, SessionId, Timestamp, TokenKeys, User, Version,
};
use testbed::Redis;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::record::{Place, encode};
use super::tier::Sent;
use super::*;
use crate::cold::Changed;
use crate::config::WarmConfig;
use crate::metrics::{Meter, Metrics};

/// The one that these nodes are of.
const LINEAGE: Lineage = Lineage::new(5);

/// Limits as generous as a loaded machine needs; tests of outages set their own.
fn config(url: String) -> WarmConfig {
    WarmConfig {
        url: Some(url),
        connect_timeout: Duration::from_secs(20),
        command_timeout: Duration::from_secs(20),
        ..WarmConfig::default()
    }
}

/// A warm tier that listens, and what it counted and heard.
struct Node {
    warm: Arc<Warm>,
    heard: Arc<Mutex<Vec<Changed>>>,
    unreadable: Arc<AtomicU64>,
    errors: Arc<AtomicU64>,
    pushes_sent: Arc<AtomicU64>,
    gets: Arc<AtomicU64>,
    stop: CancellationToken,
    listening: JoinHandle<()>,
}

impl Node {
    /// Starts to listen; whether Redis is up is for the caller to await.
    fn open(config: &WarmConfig, keys: &TokenKeys) -> Self {
        let count = || {
            let count = Arc::new(AtomicU64::new(0));
            (Arc::clone(&count), Counter::from_arc(count))
        };
        let mut metrics = Metrics::new(Meter::default());
        let (unreadable, errors, pushes_sent, gets);
        (unreadable, metrics.warm_unreadable) = count();
        (errors, metrics.warm_errors) = count();
        (pushes_sent, metrics.pushes_sent) = count();
        let mut warm = Warm::open(config, keys.clone(), metrics, true).unwrap();
        (gets, warm.sent.get) = count();

        let warm = Arc::new(warm);
        let heard = Arc::<Mutex<Vec<Changed>>>::default();
        let stop = CancellationToken::new();
        let listening = tokio::spawn({
            let (warm, heard, stop) = (Arc::clone(&warm), Arc::clone(&heard), stop.clone());
            async move {
                let hear = |lineage, push| {
                    assert_eq!(lineage, LINEAGE);
                    heard.lock().unwrap().push(push);
                };
                warm.listen(hear, stop).await;
            }
        });
        Self {
            warm,
            heard,
            unreadable,
            errors,
            pushes_sent,
            gets,
            stop,
            listening,
        }
    }

    async fn start(config: &WarmConfig, keys: &TokenKeys) -> Self {
        let node = Self::open(config, keys);
        assert!(node.warm.ready().await);
        node
    }

    async fn on(redis: &Redis) -> Self {
        Self::start(&config(redis.url()), &TokenKeys::random()).await
    }

    fn heard(&self) -> Vec<Changed> {
        self.heard.lock().unwrap().clone()
    }

    /// Sends what the tier itself would not.
    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.warm.health.connection().unwrap();
        command.query_async(&mut connection).await.unwrap()
    }

    async fn get(&self, id: SessionId) -> Option<WarmRecord> {
        self.look_up(Key::Id(id), LINEAGE).await
    }

    async fn look_up(&self, key: Key, lineage: Lineage) -> Option<WarmRecord> {
        self.warm.get(&[key], lineage).await.next()?
    }

    fn key(&self, id: SessionId) -> Vec<u8> {
        Place::Session(id).key(&self.warm.prefix)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

/// Waits for what must come about; how soon is not for a test to say.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited a minute in vain until {what}");
}

/// The commands that were called since, less the heartbeat's.
fn calls_since(redis: &Redis, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut calls = redis.calls_since(before);
    calls.retain(|name, _| !matches!(name.as_str(), "ping" | "dbsize"));
    calls
}

fn calls<const N: usize>(calls: [(&str, u64); N]) -> BTreeMap<String, u64> {
    calls.map(|(name, count)| (name.to_owned(), count)).into()
}

fn head(id: SessionId, version: i64, as_of: i64) -> Head {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let now = Timestamp::from_unix_millis(1_800_000_000_000);
    Head {
        user: Some(User {
            id: 4711.into(),
            email: "ada.lovelace@example.com".into(),
            username: "ada.lovelace".into(),
        }),
        last_seen_at: now + HOUR,
        idle_ttl: Some(HOUR),
        assurance: 2,
        version: Version::new(version),
        as_of: Mark::new(as_of),
        access: Some(KeyHash::from_bytes([2; 16])),
        refresh: Some(KeyHash::from_bytes([4; 16])),
        ..Head::new(id, now, now + DAY)
    }
}

fn session(id: SessionId, version: i64, as_of: i64) -> WarmRecord {
    WarmRecord::Session {
        head: head(id, version, as_of),
        body: None,
        ends: ExpiryHint::WITH_SESSION,
    }
}

fn tombstone(id: SessionId, version: i64, as_of: i64) -> WarmRecord {
    WarmRecord::Tombstone {
        id,
        version: Version::new(version),
        as_of: Mark::new(as_of),
    }
}

fn push(id: SessionId, version: i64) -> Changed {
    Changed {
        id,
        version: Version::new(version),
        mark: Mark::new(9),
    }
}

const HOUR: Duration = Duration::from_secs(3600);
