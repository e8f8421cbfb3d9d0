//! What a lookup costs, counted at the servers.

use std::collections::BTreeMap;

use session_core::{Key, TokenKind};
use tier_cache::{Credential, Login, Strictness, Tier, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// How often the server ran each statement on sessions; what opens a connection is left out.
fn statements(cold: &Cold) -> BTreeMap<String, i64> {
    let Cold::Postgres(database) = cold else {
        unreachable!("statements are counted by PostgreSQL");
    };
    let statements = database.statements().into_iter();
    statements
        .filter(|statement| statement.query.contains("session"))
        .map(|statement| (statement.query, statement.calls as i64))
        .collect()
}

pub(crate) struct Counted {
    pub(crate) sql: i64,
    pub(crate) redis: BTreeMap<String, u64>,
}

pub(crate) async fn counted<T>(service: &Service, work: impl Future<Output = T>) -> (T, Counted) {
    let Cold::Postgres(database) = &service.cold else {
        unreachable!();
    };
    database.reset_statements();
    let before = service.redis().calls();
    let done = work.await;
    let mut redis = service.redis().calls_since(&before);
    // The heartbeat and the gauges of the listener; no request causes them.
    for background in ["ping", "info", "dbsize"] {
        redis.remove(background);
    }
    let sql = statements(&service.cold).values().sum();
    (done, Counted { sql, redis })
}

/// A session with all kinds of keys, made on a node that is gone: nothing of it is hot.
async fn keys(service: &Service) -> Vec<Credential> {
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let foreign = node
        .adopt(
            Login::guest(),
            Some(crate::support::foreign("jti")),
            Some(crate::support::foreign("refresh")),
        )
        .await
        .unwrap();
    let keys = service.keys();
    vec![
        issued.session.id().into(),
        issued.access.into(),
        issued.refresh.into(),
        foreign.id().into(),
        Key::AccessJti(keys.hash_foreign(TokenKind::Access, &crate::support::foreign("jti")))
            .into(),
        Key::Refresh(keys.hash_foreign(TokenKind::Refresh, &crate::support::foreign("refresh")))
            .into(),
    ]
}

async fn find(node: &Tiers<Basket>, credential: &Credential) -> Tier {
    node.find(credential.clone()).await.unwrap().tier()
}

fn commands<const N: usize>(commands: [(&str, u64); N]) -> BTreeMap<String, u64> {
    commands
        .map(|(name, calls)| (name.to_owned(), calls))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_hit_is_one_get_and_no_sql_and_the_next_is_hot_with_no_io_by_each_key() {
    let service = Service::new(Cold::postgres());
    for credential in keys(&service).await {
        // A node of its own, which has never seen the session.
        let node = service.quiet_node().await;
        let (tier, cost) = counted(&service, find(&node, &credential)).await;
        assert_eq!((tier, cost.sql), (Tier::Warm, 0), "{credential:?}");
        assert_eq!(cost.redis, commands([("get", 1)]), "{credential:?}");

        let (tier, cost) = counted(&service, find(&node, &credential)).await;
        assert_eq!((tier, cost.sql), (Tier::Hot, 0), "{credential:?}");
        assert_eq!(cost.redis, commands([]), "{credential:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_hit_is_one_statement_by_each_key() {
    let service = Service::new(Cold::postgres());
    for credential in keys(&service).await {
        service.redis().cli(&["FLUSHALL"]);
        let node = service.quiet_node().await;
        let (tier, cost) = counted(&service, find(&node, &credential)).await;
        assert_eq!((tier, cost.sql), (Tier::Cold, 1), "{credential:?}");
        assert_eq!(cost.redis.get("get"), Some(&1), "{credential:?}");
        let (tier, cost) = counted(&service, find(&node, &credential)).await;
        assert_eq!((tier, cost.sql), (Tier::Hot, 0), "{credential:?}");
        assert_eq!(cost.redis.get("get"), None, "{credential:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_load_all_keys_of_a_session_are_hot() {
    let service = Service::new(Cold::postgres());
    let keys = keys(&service).await;
    for session in keys.chunks(3) {
        for first in session {
            let node = service.quiet_node().await;
            find(&node, first).await;
            let (tiers, cost) = counted(&service, async {
                let mut tiers = Vec::new();
                for key in session {
                    tiers.push(find(&node, key).await);
                }
                tiers
            })
            .await;
            assert_eq!(tiers, [Tier::Hot; 3], "after {first:?}");
            assert_eq!((cost.sql, cost.redis), (0, commands([])), "after {first:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_hit_fills_the_warm_tier_for_the_other_nodes() {
    let service = Service::new(Cold::postgres());
    let (here, there) = (service.quiet_node().await, service.quiet_node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    service.redis().cli(&["FLUSHALL"]);
    let third = service.quiet_node().await;
    assert_eq!(
        find(&third, &issued.access.clone().into()).await,
        Tier::Cold
    );
    eventually("the fill lands", async || {
        service.redis().cli(&["DBSIZE"]).trim() == "1"
    })
    .await;
    assert_eq!(find(&there, &issued.access.into()).await, Tier::Warm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_costs_one_statement_once() {
    let service = Service::new(Cold::postgres());
    let issued = service
        .quiet_node()
        .await
        .login(Login::guest())
        .await
        .unwrap();
    let node = service.quiet_node().await;
    let session = node.find(issued.access.clone()).await.unwrap();
    let (_, cost) = counted(&service, async { session.body().await.unwrap() }).await;
    assert_eq!(cost.sql, 1);
    let (_, cost) = counted(&service, async {
        let session = node.find(issued.access).await.unwrap();
        session.body().await.unwrap()
    })
    .await;
    assert_eq!((cost.sql, cost.redis), (0, commands([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_costs_no_io() {
    let service = Service::new(Cold::postgres());
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let stranger = session_core::TokenKeys::random();
    let (_, cost) = counted(&service, async {
        for id in [issued.session.id(), session_core::SessionId::random()] {
            for kind in [TokenKind::Access, TokenKind::Refresh] {
                let forged = stranger.mint(kind, id);
                let refused = node.find(forged.clone()).await.unwrap_err();
                assert!(matches!(refused, tier_cache::Refusal::Forged), "{refused}");
                node.find_strict(forged, Strictness::Row).await.unwrap_err();
            }
        }
    })
    .await;
    assert_eq!((cost.sql, cost.redis), (0, commands([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_costs_one_statement_however_often_it_is_shown() {
    let service = Service::new(Cold::postgres());
    let node = service.quiet_node().await;
    let replaced = node.login(Login::guest()).await.unwrap();
    let renewed = node.refresh(&replaced.refresh).await.unwrap();
    let unknown = service
        .keys()
        .mint(TokenKind::Access, session_core::SessionId::random());
    for token in [replaced.access, unknown] {
        let (_, cost) = counted(&service, async {
            for _ in 0..10 {
                node.find(token.clone()).await.unwrap_err();
            }
        })
        .await;
        assert_eq!(cost.sql, 1, "{token:?}");
        assert!(cost.redis.get("get").is_none_or(|&n| n == 1), "{token:?}");
    }
    node.find(renewed.access).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_sessions_cost_one_statement_on_each_request() {
    let service = Service::new(Cold::postgres());
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    for (strictness, sql) in [
        (Strictness::Trust, 0),
        (Strictness::Version, 1),
        (Strictness::Row, 1),
    ] {
        for _ in 0..2 {
            let access = issued.access.clone();
            let (found, cost) = counted(&service, node.find_strict(access, strictness)).await;
            found.unwrap();
            assert_eq!(cost.sql, sql, "{strictness:?}");
            assert_eq!(cost.redis.get("get"), None, "{strictness:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_of_one_cold_session_share_one_statement() {
    let service = Service::new(Cold::postgres());
    let issued = service
        .quiet_node()
        .await
        .login(Login::guest())
        .await
        .unwrap();
    service.redis().cli(&["FLUSHALL"]);
    let node = service.quiet_node().await;
    let (_, cost) = counted(&service, async {
        let finds = (0..1000).map(|_| node.find(issued.access.clone()));
        // The first to ask goes away; its load lands all the same.
        drop(node.find(issued.access.clone()));
        for found in futures_util::future::join_all(finds).await {
            found.unwrap();
        }
    })
    .await;
    assert_eq!(cost.sql, 1);
    assert_eq!(cost.redis.get("get"), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_cold_hit_is_one_statement_and_a_hot_one_none() {
    let service = Service::without_redis(Cold::sqlite());
    let url = service.cold.url();
    sqlite::count();
    let issued = service
        .quiet_node()
        .await
        .login(Login::guest())
        .await
        .unwrap();
    let node = service.quiet_node().await;
    let before = sqlite::statements(&url);
    assert!(before > 0, "statements are counted");
    assert_eq!(find(&node, &issued.access.clone().into()).await, Tier::Cold);
    assert_eq!(sqlite::statements(&url) - before, 1);
    assert_eq!(find(&node, &issued.access.clone().into()).await, Tier::Hot);
    assert_eq!(find(&node, &issued.refresh.into()).await, Tier::Hot);
    assert_eq!(sqlite::statements(&url) - before, 1);
}

/// SQLite has no server to ask, but the driver tells of each statement that it runs.
mod sqlite {
    use std::collections::HashMap;
    use std::sync::{Arc, LazyLock, Mutex};

    use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

    static STATEMENTS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

    #[derive(Default)]
    struct Count {
        path: Arc<str>,
    }

    impl Instrumentation for Count {
        fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
            match event {
                InstrumentationEvent::StartEstablishConnection { url, .. } => {
                    self.path = url.into();
                }
                InstrumentationEvent::StartQuery { query, .. }
                    if query.to_string().contains("session") =>
                {
                    let mut statements = STATEMENTS.lock().unwrap();
                    *statements.entry(self.path.to_string()).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// From now on counts the statements of new connections.
    pub(super) fn count() {
        set_default_instrumentation(|| Some(Box::new(Count::default()))).unwrap();
    }

    /// Statements on sessions so far in one database.
    pub(super) fn statements(url: &str) -> u64 {
        let path = url.strip_prefix("sqlite://").unwrap();
        STATEMENTS.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}
