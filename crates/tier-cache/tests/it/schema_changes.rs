//! Changes to the schema under nodes that run, with traffic: what clients see of them.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use testbed::Cluster;
use tier_cache::cold::{ColdStore, PostgresStore, SqliteStore};
use tier_cache::{Issued, Login, Strictness, TierConfig, Tiers};
use tokio::task::JoinSet;

use crate::support::{Basket, Cold, Service, eventually};

/// Clients of one node, none of whose sessions is hot for longer than a millisecond.
struct Traffic {
    service: Service,
    node: Tiers<Basket>,
    clients: [Arc<Client>; 7],
    running: JoinSet<()>,
}

struct Client {
    name: &'static str,
    stop: AtomicBool,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// The last failure.
    failure: Mutex<String>,
}

impl Client {
    fn named(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            stop: AtomicBool::new(false),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failure: Mutex::default(),
        })
    }

    /// Asks again and again, one request after the other.
    async fn run<F>(self: Arc<Self>, mut request: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        while !self.stop.load(Ordering::SeqCst) {
            match request().await {
                Ok(()) => self.succeeded.fetch_add(1, Ordering::SeqCst),
                Err(why) => {
                    *self.failure.lock().unwrap() = why;
                    // As clients do that are told to come again.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    self.failed.fetch_add(1, Ordering::SeqCst)
                }
            };
        }
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

fn config(service: &Service) -> TierConfig {
    let mut config = service.config();
    // As many as by default: each has its own prepared statements.
    config.cold.pool_size = 10;
    config.hot.ttl = Duration::from_millis(1);
    config
}

impl Traffic {
    async fn begin(service: Service, config: TierConfig, store: Arc<dyn ColdStore>) -> Self {
        let building = Tiers::<Basket>::builder(config, service.keys()).store(store);
        let node = building.start().await.expect("the node starts");
        let user = service.cold.add_user("ada");
        let clients = [
            "load", "row", "version", "update", "list", "login", "refresh",
        ]
        .map(Client::named);
        let mut traffic = Self {
            service,
            node,
            clients,
            running: JoinSet::new(),
        };
        traffic.start(user).await;
        traffic.rounds().await;
        traffic
    }

    async fn start(&mut self, user: i64) {
        let node = &self.node;
        let login = async || node.login(Login::user(user)).await.expect("a login");
        let mut issued = Vec::new();
        for _ in 0..4 {
            issued.push(login().await);
        }
        let running = &mut self.running;
        let [load, row, version, update, list, logins, refresh] = self.clients.clone();
        for (client, strictness) in [
            (load, Strictness::Trust),
            (row, Strictness::Row),
            (version, Strictness::Version),
        ] {
            let (node, token) = (node.clone(), issued.pop().expect("a login").access);
            running.spawn(client.run(move || {
                let (node, token) = (node.clone(), token.clone());
                async move { done(node.find_strict(token, strictness).await) }
            }));
        }
        let (it, session) = (node.clone(), issued.pop().expect("a login").session);
        running.spawn(update.run(move || {
            let (it, session) = (it.clone(), session.clone());
            async move { done(it.update(&session, |basket| basket.count += 1).await) }
        }));
        let it = node.clone();
        running.spawn(list.run(move || {
            let it = it.clone();
            async move { done(it.list(user.into()).await) }
        }));
        let it = node.clone();
        running.spawn(logins.run(move || {
            let it = it.clone();
            async move {
                let issued = it.login(Login::user(user)).await;
                let issued = issued.map_err(|error| format!("login: {error}"))?;
                done(it.revoke(issued.session.id()).await)
            }
        }));
        let it = node.clone();
        let issued: Issued<Basket> = login().await;
        let held = Arc::new(tokio::sync::Mutex::new(issued));
        running.spawn(refresh.run(move || {
            let (it, held) = (it.clone(), Arc::clone(&held));
            async move {
                let mut held = held.lock().await;
                let next = it.refresh(&held.refresh).await;
                *held = next.map_err(|error| error.to_string())?;
                Ok(())
            }
        }));
    }

    /// Returns when each client has succeeded several times since, one time after the other.
    async fn rounds(&self) {
        for client in &self.clients {
            let mut seen = (client.failed(), client.succeeded.load(Ordering::SeqCst));
            let what = format!("{} succeeds", client.name);
            eventually(&what, async || {
                let now = (client.failed(), client.succeeded.load(Ordering::SeqCst));
                if now.0 != seen.0 {
                    seen = now;
                }
                now.1 >= seen.1 + 3
            })
            .await;
        }
    }

    /// Returns when this client has failed several times since.
    async fn failures_of(&self, name: &str) {
        let client = self.client(name);
        let before = client.failed();
        eventually(&format!("{name} fails"), async || {
            client.failed() >= before + 3
        })
        .await;
    }

    fn client(&self, name: &str) -> &Client {
        let mut clients = self.clients.iter();
        clients.find(|client| client.name == name).expect("one")
    }

    fn failed(&self) -> u64 {
        self.clients.iter().map(|client| client.failed()).sum()
    }

    fn said(&self) -> String {
        let said = self.clients.iter().map(|client| {
            let failure = client.failure.lock().unwrap();
            format!(
                "{}: {} failed, last: {failure}\n",
                client.name,
                client.failed()
            )
        });
        said.collect()
    }

    /// Makes a change that clients do not notice.
    async fn goes_on(&self, change: &str) {
        let before = self.failed();
        for statement in change.split(';') {
            self.service.cold.sql(statement);
        }
        self.rounds().await;
        assert_eq!(self.failed(), before, "after {change}:\n{}", self.said());
        assert!(self.node.health().is_ready());
    }

    /// Makes a change for which loads fail, and takes it back.
    async fn breaks(&self, change: &str, repair: &str) {
        self.service.cold.sql(change);
        self.failures_of("load").await;
        eventually("it says that it is not ready", async || {
            !self.node.health().is_ready()
        })
        .await;
        // Nor does it say so after the feed's next answers.
        for _ in 0..3 {
            self.failures_of("load").await;
            assert!(!self.node.health().is_ready(), "while loads fail: {change}");
        }
        for statement in repair.split(';') {
            self.service.cold.sql(statement);
        }
        self.rounds().await;
        let before = self.failed();
        self.rounds().await;
        assert_eq!(self.failed(), before, "after {repair}:\n{}", self.said());
        assert!(self.node.health().is_ready());
    }

    async fn end(mut self) {
        for client in &self.clients {
            client.stop.store(true, Ordering::SeqCst);
        }
        while let Some(ended) = self.running.join_next().await {
            ended.expect("no client panics");
        }
        assert!(self.node.shutdown(Duration::from_secs(60)).await);
    }
}

fn done<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

async fn on_postgres() -> (Traffic, PostgresStore) {
    let service = Service::without_redis(Cold::postgres());
    on_postgres_of(service).await
}

async fn on_postgres_of(service: Service) -> (Traffic, PostgresStore) {
    let config = config(&service);
    let store = PostgresStore::open(&config.cold).unwrap();
    store.migrate().await.unwrap();
    let traffic = Traffic::begin(service, config, Arc::new(store.clone())).await;
    (traffic, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_the_application_come_and_go() {
    let (traffic, _) = on_postgres().await;
    for change in [
        "ALTER TABLE sessions ADD COLUMN shop text DEFAULT 'main'",
        "ALTER TABLE sessions ALTER COLUMN shop TYPE varchar(10)",
        "ALTER TABLE sessions RENAME COLUMN shop TO branch",
        "ALTER TABLE sessions DROP COLUMN branch",
        "ALTER TABLE users ADD COLUMN phone text",
        "ALTER TABLE users DROP COLUMN phone",
    ] {
        traffic.goes_on(change).await;
    }
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_ours_gets_another_type_that_reads_alike() {
    let (traffic, _) = on_postgres().await;
    for change in [
        "ALTER TABLE sessions ALTER COLUMN last_seen_at TYPE timestamptz(3)",
        "ALTER TABLE sessions ALTER COLUMN last_seen_at TYPE timestamptz",
        "ALTER TABLE sessions ALTER COLUMN refreshed_at TYPE timestamptz(0)",
        "ALTER TABLE users ALTER COLUMN password_hash TYPE varchar(500)",
    ] {
        traffic.goes_on(change).await;
    }
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_indexes_are_rewritten() {
    let (traffic, _) = on_postgres().await;
    for change in [
        "CREATE INDEX CONCURRENTLY sessions_ip_idx ON sessions (ip)",
        "DROP INDEX CONCURRENTLY sessions_ip_idx",
        "REINDEX TABLE CONCURRENTLY sessions",
        "REINDEX TABLE sessions",
        "VACUUM FULL sessions",
        "CLUSTER sessions USING sessions_pkey",
        "VACUUM (FULL, ANALYZE) users",
    ] {
        traffic.goes_on(change).await;
    }
    traffic.end().await;
}

/// As a pooler does that gives a connection to somebody else in between.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_are_dropped() {
    let (traffic, store) = on_postgres().await;
    for forget in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let before = traffic.failed();
        for _ in 0..20 {
            let mut connection = store.pool().get().await.unwrap();
            connection.batch_execute(forget).await.unwrap();
        }
        traffic.rounds().await;
        assert_eq!(traffic.failed(), before, "{forget}:\n{}", traffic.said());
    }
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_ours_is_missing_for_a_while() {
    let (traffic, _) = on_postgres().await;
    for (change, repair) in [
        (
            "ALTER TABLE sessions RENAME COLUMN data TO stuff",
            "ALTER TABLE sessions RENAME COLUMN stuff TO data",
        ),
        (
            "ALTER TABLE sessions DROP COLUMN ttl_seconds",
            "ALTER TABLE sessions ADD COLUMN ttl_seconds integer",
        ),
        (
            "ALTER TABLE users RENAME TO people",
            "ALTER TABLE people RENAME TO users",
        ),
    ] {
        traffic.breaks(change, repair).await;
    }
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_ours_is_of_a_type_that_cannot_be_read_for_a_while() {
    let (traffic, _) = on_postgres().await;
    // Some session has a value there.
    traffic
        .service
        .cold
        .sql("UPDATE sessions SET ttl_seconds = 86400");
    traffic
        .breaks(
            "ALTER TABLE sessions ALTER COLUMN ttl_seconds TYPE bigint",
            "ALTER TABLE sessions ALTER COLUMN ttl_seconds TYPE integer",
        )
        .await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_ended_by_the_server() {
    let (traffic, _) = on_postgres().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'tier-cache'";
    for _ in 0..5 {
        // Requests that change something may have been carried out, so they are not repeated.
        traffic.service.cold.sql(end);
        traffic.rounds().await;
    }
    for read in ["load", "row", "version", "list"] {
        assert_eq!(traffic.client(read).failed(), 0, "{}", traffic.said());
    }
    assert!(traffic.node.health().is_ready());
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_password_is_changed() {
    let cluster = Cluster::builder().tcp().password("one").start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let (traffic, _) = on_postgres_of(service).await;
    traffic
        .breaks(
            "ALTER ROLE postgres PASSWORD 'two'; \
             SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tier-cache'",
            "ALTER ROLE postgres PASSWORD 'one'",
        )
        .await;
    traffic.end().await;
}

/// SQLite reads a changed schema by itself.
#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite_columns_come_and_go_too() {
    let service = Service::without_redis(Cold::sqlite());
    let config = config(&service);
    let store = SqliteStore::open(&config.cold).unwrap();
    store.migrate().await.unwrap();
    let traffic = Traffic::begin(service, config, Arc::new(store)).await;
    for change in [
        "ALTER TABLE sessions ADD COLUMN shop TEXT DEFAULT 'main'",
        "ALTER TABLE sessions RENAME COLUMN shop TO branch",
        "ALTER TABLE sessions DROP COLUMN branch",
        "CREATE INDEX sessions_ip_idx ON sessions (ip)",
        "DROP INDEX sessions_ip_idx",
        "REINDEX sessions",
    ] {
        traffic.goes_on(change).await;
    }
    traffic
        .breaks(
            "ALTER TABLE sessions RENAME COLUMN refresh_salt TO salt",
            "ALTER TABLE sessions RENAME COLUMN salt TO refresh_salt",
        )
        .await;
    traffic.end().await;
}
