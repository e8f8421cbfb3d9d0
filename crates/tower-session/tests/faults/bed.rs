//! The database of a row, and two nodes of a service on it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use testbed::Database;
use tier_cache::{Clock, TierConfig, TierState};
use tower_session::{SessionId, Tiers, TokenKeys};

use crate::service::{Answer, Ask, Basket, Service};

/// Connections that a node has to the database at most.
pub(crate) const POOL: usize = 4;

pub(crate) struct Bed {
    /// Most clients ask this one.
    pub(crate) here: Node,
    /// Sessions begin at this one, so that they are not hot here.
    pub(crate) there: Node,
    pub(crate) database: Database,
    pub(crate) keys: TokenKeys,
    pub(crate) clock: Clock,
}

/// A session as its client holds it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) token: String,
    pub(crate) id: SessionId,
    pub(crate) user: String,
}

/// A configuration under which a slow machine is no fault, and a Redis that does not answer is one
/// soon.
pub(crate) fn config(database: &Database, redis: impl Into<String>) -> TierConfig {
    let mut config = TierConfig::default();
    config.cold.url = database.url();
    config.cold.pool_size = POOL;
    config.cold.connect_timeout = Duration::from_secs(60);
    config.cold.statement_timeout = Duration::from_secs(60);
    config.cold.load_timeout = Duration::from_secs(60);
    // What Redis does not tell is told by the feed alone.
    config.cold.notify = false;
    config.warm.url = Some(redis.into());
    config.warm.command_timeout = Duration::from_millis(250);
    config.warm.connect_timeout = Duration::from_secs(2);
    config.fence.staleness_bound = Duration::from_secs(60);
    config.fence.poll_interval = Duration::from_millis(50);
    config
}

impl Bed {
    pub(crate) async fn start(database: Database, config: TierConfig, clock: Clock) -> Self {
        let keys = TokenKeys::random();
        let here = Node::start(&config, &keys, &clock).await;
        let there = Node::start(&config, &keys, &clock).await;
        Self {
            here,
            there,
            database,
            keys,
            clock,
        }
    }

    pub(crate) fn nodes(&self) -> [&Node; 2] {
        [&self.here, &self.there]
    }

    /// How much later than its revocation a session may still be served.
    pub(crate) fn promised(&self) -> Duration {
        let fence = &self.here.tiers.config().fence;
        match fence.on_blind {
            tier_cache::OnBlind::Refuse => fence.staleness_bound,
            tier_cache::OnBlind::ServeFor(longer) => fence.staleness_bound + longer,
        }
    }

    /// Adds users of these names, and returns their ids.
    pub(crate) fn add_users(&self, names: &[&str]) -> Vec<i64> {
        let users = names
            .iter()
            .map(|name| format!("('{name}@example.com', '{name}')"));
        let users = users.collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO users (email, username) VALUES {users} RETURNING id");
        let added = self.database.sql(&insert);
        added.lines().map(|id| id.parse().expect("an id")).collect()
    }

    /// Statements that read sessions, so far; those of the feed are none.
    pub(crate) fn loads(&self) -> u64 {
        let statements = self.database.statements().into_iter();
        statements
            .filter(|statement| statement.query.contains("refresh_salt"))
            .filter(|statement| statement.query.starts_with("SELECT"))
            .map(|statement| statement.calls)
            .sum()
    }

    /// Connections that the nodes have to the database just now.
    pub(crate) fn connections(&self) -> usize {
        let name = self.database.name();
        let count = self.database.sql(&format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = '{name}' AND application_name <> 'psql'"
        ));
        count.trim().parse().expect("a number")
    }
}

pub(crate) struct Node {
    pub(crate) tiers: Tiers<Basket>,
    service: Service,
    snapshotter: Snapshotter,
    /// Counters so far; a snapshot takes them back to zero.
    counted: Mutex<BTreeMap<String, u64>>,
}

impl Node {
    async fn start(config: &TierConfig, keys: &TokenKeys, clock: &Clock) -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let builder = Tiers::builder(config.clone(), keys.clone()).clock(clock.clone());
        // The counters of this node alone: it takes them while it starts.
        let mut starting = pin!(builder.start());
        let started = poll_fn(|context| {
            metrics::with_local_recorder(&recorder, || starting.as_mut().poll(context))
        });
        let tiers = started.await.expect("the tiers start");
        Self {
            service: Service::on(tiers.clone()),
            tiers,
            snapshotter,
            counted: Mutex::default(),
        }
    }

    pub(crate) async fn ask(&self, ask: Ask, token: &str) -> Answer {
        let asked = self.tiers.now().moment;
        let response = self.service.answer(ask, token).await;
        let retry_after = response.headers().get(http::header::RETRY_AFTER);
        Answer {
            asked,
            status: response.status(),
            retry_after: retry_after.map(|value| value.to_str().expect("digits").to_owned()),
            told: response.into_body(),
        }
    }

    pub(crate) fn warm_is(&self, state: TierState) -> bool {
        self.tiers.health().warm == state
    }

    /// Commands sent to Redis for requests.
    pub(crate) fn commands(&self) -> u64 {
        ["GET", "SET", "EVALSHA", "EVAL"]
            .map(|command| self.counted(&format!("session_redis_commands_total {command}")))
            .into_iter()
            .sum()
    }

    pub(crate) fn failed_commands(&self) -> u64 {
        self.counted("session_warm_errors_total ")
    }

    pub(crate) fn unreadable(&self) -> u64 {
        self.counted("session_warm_unreadable_total ")
    }

    /// Times that it connected to Redis, or tried to.
    pub(crate) fn attempts(&self) -> u64 {
        self.counted("session_redis_commands_total SUBSCRIBE")
    }

    fn counted(&self, name: &str) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            if let DebugValue::Counter(count) = value {
                let labels: Vec<_> = key.key().labels().map(|label| label.value()).collect();
                let name = format!("{} {}", key.key().name(), labels.join(","));
                *counted.entry(name).or_default() += count;
            }
        }
        counted.get(name).copied().unwrap_or_default()
    }
}

/// Waits until `done`, for as long as a very slow machine may take.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {what}");
}
