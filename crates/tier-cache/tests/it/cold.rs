//! The bundled stores, without the tiers above them.

use std::sync::Arc;
use std::time::Duration;

use session_core::{Device, Key, Mark, SessionId, Timestamp, Version};
use testbed::Cluster;
use tier_cache::cold::{Change, ColdStore, NewSession, PostgresStore, SqliteStore};
use tier_cache::{ColdConfig, StoreError};

use crate::storms::sessions;
use crate::support::{Cold, eventually, on_both};

on_both!(
    several_nodes_migrate_at_once,
    a_session_is_read_as_it_was_written,
    an_update_is_made_to_the_version_it_was_meant_for,
    changes_are_told_since_a_mark_and_cut_at_the_limit,
    a_caller_that_goes_away_leaves_the_store_in_order,
    the_feed_waits_for_no_load,
);

pub(crate) fn config(cold: &Cold) -> ColdConfig {
    ColdConfig {
        url: cold.url(),
        pool_size: 4,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
        ..ColdConfig::default()
    }
}

pub(crate) async fn open(cold: &Cold) -> Result<Arc<dyn ColdStore>, StoreError> {
    Ok(match cold {
        Cold::Postgres(_) => {
            let store = PostgresStore::open(&config(cold))?;
            store.migrate().await?;
            Arc::new(store)
        }
        Cold::Sqlite(_) => {
            let store = SqliteStore::open(&config(cold))?;
            store.migrate().await?;
            Arc::new(store)
        }
    })
}

pub(crate) fn millis(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

/// A session that begins and ends at these instants.
pub(crate) fn new(begins: i64, ends: i64) -> NewSession {
    NewSession::new(SessionId::random(), millis(begins), millis(ends))
}

/// The year 2100.
pub(crate) const LATER: i64 = 4_102_444_800_000;

#[derive(diesel::QueryableByName)]
struct Plans {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    plans: i64,
}

/// Statements that load few sessions are prepared, plan and all.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_not_plan_a_small_batch_anew_each_time() {
    const TIMES: usize = 30;
    let cold = Cold::postgres();
    let config = ColdConfig {
        pool_size: 1,
        ..config(&cold)
    };
    let store = PostgresStore::open(&config).unwrap();
    store.migrate().await.unwrap();
    let ids = sessions(&cold, 1000);
    cold.sql("ANALYZE");
    for size in 2..12 {
        for n in 0..TIMES {
            let ids = ids.iter().skip(size * n).take(size);
            let keys: Vec<Key> = ids.map(|&id| Key::Id(id)).collect();
            assert_eq!(store.load_many(keys).await.unwrap().len(), size);
        }
    }
    let mut connection = store.pool().get().await.unwrap();
    let query = diesel::sql_query(
        "SELECT max(custom_plans) AS plans FROM pg_prepared_statements WHERE statement LIKE '%ANY%'",
    );
    let plans = diesel_async::RunQueryDsl::get_result::<Plans>(query, &mut connection).await;
    let Plans { plans } = plans.unwrap();
    // The first five, by which PostgreSQL judges whether that gains anything.
    assert!((1..=5).contains(&plans), "{plans} plans");
}

async fn several_nodes_migrate_at_once(cold: Cold) {
    let cold = Arc::new(cold);
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let cold = Arc::clone(&cold);
        nodes.spawn(async move { open(&cold).await.map(drop) });
    }
    for node in nodes.join_all().await {
        node.unwrap();
    }
    let store = open(&cold).await.unwrap();
    store.create(new(0, LATER), None).await.unwrap();
}

async fn a_session_is_read_as_it_was_written(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let written = NewSession {
        device: Device {
            ip: Some("2001:db8::1".parse().unwrap()),
            user_agent: Some("Mozilla/5.0 ☃".into()),
            label: Some("phone".into()),
        },
        data: "{\"a\": \"ü\\u0001\"}".into(),
        ..new(1_700_000_000_123, LATER)
    };
    let id = written.id;
    store.create(written.clone(), None).await.unwrap();
    let row = store.load(Key::Id(id)).await.unwrap().unwrap();
    assert_eq!((row.head.id, row.head.version), (id, Version::new(1)));
    assert_eq!(row.head.expires_at, written.expires_at);
    assert_eq!(row.body.created_at, written.created_at);
    assert_eq!(row.body.device, written.device);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&row.body.data), json(&written.data));
    assert!(row.changed_at > Mark::ZERO && row.head.as_of > Mark::ZERO);
    assert_eq!(store.version(id).await.unwrap(), Some(Version::new(1)));
    assert_eq!(store.version(SessionId::random()).await.unwrap(), None);
    assert!(
        store
            .load(Key::Id(SessionId::random()))
            .await
            .unwrap()
            .is_none()
    );
}

async fn an_update_is_made_to_the_version_it_was_meant_for(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let session = new(0, LATER);
    let id = session.id;
    store.create(session, None).await.unwrap();
    let change = Change {
        data: Some("1".into()),
        ..Change::default()
    };
    let update = async |version| {
        let version = Version::new(version);
        store.update(id, version, change.clone()).await.unwrap()
    };
    assert!(!update(2).await);
    assert!(update(1).await);
    assert!(!update(1).await);
    assert!(store.revoke(id, millis(5)).await.unwrap());
    assert!(!store.revoke(id, millis(6)).await.unwrap());
    assert!(
        !update(3).await,
        "a revoked session is not changed any more"
    );
    let row = store.load(Key::Id(id)).await.unwrap().unwrap();
    assert_eq!(row.head.revoked_at, Some(millis(5)));
    // A change of nothing is none.
    let session = new(0, LATER);
    let id = session.id;
    store.create(session, None).await.unwrap();
    assert!(
        store
            .update(id, Version::new(1), Change::default())
            .await
            .unwrap()
    );
    assert_eq!(store.version(id).await.unwrap(), Some(Version::new(1)));
}

async fn changes_are_told_since_a_mark_and_cut_at_the_limit(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let start = store.changes(Mark::ZERO, 100).await.unwrap();
    assert!(start.sessions.is_empty());
    let mut ids = Vec::new();
    for _ in 0..5 {
        let session = new(0, LATER);
        ids.push(session.id);
        store.create(session, None).await.unwrap();
    }
    // Of what was only added nobody can hold anything older.
    let changes = store.changes(start.up_to, 100).await.unwrap();
    assert!(changes.sessions.is_empty());
    for &id in &ids {
        let change = Change {
            label: Some("changed".into()),
            ..Change::default()
        };
        assert!(store.update(id, Version::new(1), change).await.unwrap());
    }
    let changes = store.changes(start.up_to, 100).await.unwrap();
    assert_eq!(changes.sessions.len(), 5);
    assert_eq!(changes.complete_since, start.up_to);
    // Nothing since, once all that the whole server had under way has ended.
    eventually("there is no news", async || {
        let now = store.changes(Mark::ZERO, 1).await.unwrap();
        store
            .changes(now.up_to, 100)
            .await
            .unwrap()
            .sessions
            .is_empty()
    })
    .await;

    // The newest two, complete since the mark after the older of them.
    let cut = store.changes(start.up_to, 2).await.unwrap();
    let mut newest: Vec<_> = cut.sessions.iter().map(|changed| changed.id).collect();
    newest.sort();
    let mut expected = ids[3..].to_vec();
    expected.sort();
    assert_eq!(newest, expected);
    let oldest = cut
        .sessions
        .iter()
        .map(|changed| changed.mark)
        .min()
        .unwrap();
    assert_eq!(cut.complete_since, Mark::new(oldest.get() + 1));

    let gone = ids[0];
    cold.sql(&format!("DELETE FROM sessions WHERE id = '{gone}'"));
    let deleted = store.changes(changes.up_to, 100).await.unwrap();
    let gone = deleted.sessions.iter().find(|changed| changed.id == gone);
    assert_eq!(gone.unwrap().version, Version::DELETED);
}

async fn a_caller_that_goes_away_leaves_the_store_in_order(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let session = new(0, LATER);
    let id = session.id;
    store.create(session, None).await.unwrap();
    for n in 0..300_u64 {
        let waiting = async {
            match n % 3 {
                0 => drop(store.load(Key::Id(id)).await),
                1 => drop(store.changes(Mark::ZERO, 10).await),
                _ => drop(store.create(new(0, LATER), None).await),
            }
        };
        // Polled a few times, then dropped.
        let patience = Duration::from_micros(n * 7 % 400);
        let _ = tokio::time::timeout(patience, waiting).await;
    }
    let row = store.load(Key::Id(id)).await.unwrap().unwrap();
    assert_eq!(row.head.id, id);
}

async fn the_feed_waits_for_no_load(cold: Cold) {
    let config = ColdConfig {
        pool_size: 1,
        ..config(&cold)
    };
    open(&cold).await.unwrap();
    // All the connections that there are for loads are taken.
    match &cold {
        Cold::Postgres(_) => {
            let store = PostgresStore::open(&config).unwrap();
            let _taken = store.pool().get().await.unwrap();
            store.changes(Mark::ZERO, 10).await.unwrap();
        }
        Cold::Sqlite(_) => {
            let store = SqliteStore::open(&config).unwrap();
            let _taken = store.pool().get().await.unwrap();
            store.changes(Mark::ZERO, 10).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_given_up_and_the_next_one_works() {
    let cold = Cold::postgres();
    let mut config = config(&cold);
    config.statement_timeout = Duration::from_millis(300);
    let store = PostgresStore::open(&config).unwrap();
    store.migrate().await.unwrap();
    let session = new(0, LATER);
    let id = session.id;
    store.create(session, None).await.unwrap();
    // Another program holds the row.
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let url = database.url();
    let (locker, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    locker
        .batch_execute(&format!(
            "BEGIN; SELECT 1 FROM sessions WHERE id = '{id}' FOR UPDATE"
        ))
        .await
        .unwrap();
    let error = store.revoke(id, millis(1)).await.unwrap_err();
    assert!(
        error.transient && error.to_string().contains("revoke"),
        "{error}"
    );
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert!(store.revoke(id, millis(1)).await.unwrap());
    connection.abort();
}

/// As a standby is, whose news may be any time old.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_not_believed() {
    let cold = Cold::postgres();
    open(&cold).await.unwrap();
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let name = database.name();
    cold.sql(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    let store = PostgresStore::open(&config(&cold)).unwrap();
    let error = store.changes(Mark::ZERO, 10).await.unwrap_err();
    assert!(
        error.to_string().contains("does not allow writes"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_spoken_to_over_tls_and_only_to_the_right_one() {
    let cluster = Cluster::builder().tls().password("s3cret").start();
    let database = cluster.database();
    let mut config = ColdConfig {
        url: format!(
            "{}{}sslmode=require",
            database.url(),
            if database.url().contains('?') {
                '&'
            } else {
                '?'
            }
        ),
        ca_file: Some(cluster.ca_file().into()),
        connect_timeout: Duration::from_secs(30),
        ..ColdConfig::default()
    };
    let store = PostgresStore::open(&config).unwrap();
    store.migrate().await.unwrap();
    store.version(SessionId::random()).await.unwrap();
    // Its connection is still in the pool.
    let encrypted = database.sql("SELECT count(*) FROM pg_stat_ssl WHERE ssl");
    assert!(encrypted.trim().parse::<i64>().unwrap() >= 1);

    // A server that none of the system's authorities vouches for.
    config.ca_file = None;
    let store = PostgresStore::open(&config).unwrap();
    let error = store
        .version(SessionId::random())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("certificate") || error.contains("UnknownIssuer"),
        "{error}"
    );
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_url_that_names_no_database_is_refused_in_words() {
    for (url, word) in [
        ("sqlite://", "sqlite://sessions.db"),
        ("sqlite://:memory:", "sqlite://sessions.db"),
    ] {
        let config = ColdConfig {
            url: url.into(),
            ..ColdConfig::default()
        };
        let error = SqliteStore::open(&config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let config = ColdConfig {
        url: "postgres://u:s3cret@h:port/d".into(),
        ..ColdConfig::default()
    };
    let error = PostgresStore::open(&config).unwrap_err().to_string();
    assert!(
        error.contains("cold.url") && !error.contains("s3cret"),
        "{error}"
    );
}
