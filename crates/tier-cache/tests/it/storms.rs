//! The worst minute: nothing is hot, nothing is warm, and everybody comes at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use session_core::{Key, SessionId, TokenKind};
use tier_cache::{Credential, Login, Refusal, Tier, TierConfig, Tiers};
use tokio::task::JoinSet;

use crate::counting::counted;
use crate::slow::Slow;
use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    many_sessions_that_are_missed_together_are_all_found,
    whoever_finds_no_place_to_wait_is_refused_at_once,
    callers_who_go_away_leave_no_more_writes_than_may_wait,
    no_more_wait_to_refresh_than_may_wait,
    no_more_wait_to_update_one_session_than_may_wait,
);

const CROWD: usize = 10_000;

/// So many sessions that no cache knows.
pub(crate) fn sessions(cold: &Cold, count: usize) -> Vec<SessionId> {
    let insert = match cold {
        Cold::Postgres(_) => format!(
            "INSERT INTO sessions (id, expires_at) \
             SELECT gen_random_uuid(), now() + interval '1 hour' FROM generate_series(1, {count}) \
             RETURNING id"
        ),
        Cold::Sqlite(_) => format!(
            "INSERT INTO sessions (id, expires_at) \
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) \
             SELECT printf('00000000-0000-4000-8000-%012x', n), (unixepoch() + 3600) * 1000 FROM n \
             RETURNING id"
        ),
    };
    let ids = cold.sql(&insert);
    ids.lines()
        .map(|id| id.trim().parse().expect("an id"))
        .collect()
}

/// All of them asked for at once; which tiers answered.
async fn crowd(node: &Tiers<Basket>, ids: &[SessionId]) -> Vec<Tier> {
    let mut requests = JoinSet::new();
    for &id in ids {
        let node = node.clone();
        requests.spawn(async move {
            let found = node.find(id).await.unwrap();
            assert_eq!(found.id(), id);
            found.tier()
        });
    }
    requests.join_all().await
}

fn warm(service: &Service) -> usize {
    service.redis().cli(&["DBSIZE"]).trim().parse().unwrap()
}

fn patient(mut config: TierConfig) -> TierConfig {
    config.cold.load_timeout = Duration::from_secs(120);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_of_one_session_are_one_statement() {
    let service = Service::new(Cold::postgres());
    let node = service.node_with(patient(service.quiet())).await;
    let id = sessions(&service.cold, 1)[0];
    let (tiers, cost) = counted(&service, crowd(&node, &vec![id; CROWD])).await;
    assert_eq!(tiers.len(), CROWD);
    assert_eq!(cost.sql, 1);
    assert_eq!(cost.redis.get("get"), Some(&1), "{:?}", cost.redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_caller_who_goes_away_changes_nothing() {
    let service = Service::new(Cold::postgres());
    let node = service.node_with(patient(service.quiet())).await;
    let id = sessions(&service.cold, 1)[0];
    let (found, cost) = counted(&service, async {
        {
            let mut first = Box::pin(node.find(id));
            // It has begun, and is gone.
            assert!(futures_util::poll!(&mut first).is_pending());
        }
        crowd(&node, &[id; 100]).await
    })
    .await;
    assert_eq!(found.len(), 100);
    assert_eq!(cost.sql, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sessions_at_once_are_at_most_a_hundred_statements() {
    let service = Service::new(Cold::postgres());
    let node = service.node_with(patient(service.quiet())).await;
    let ids = sessions(&service.cold, CROWD);
    let (tiers, cost) = counted(&service, crowd(&node, &ids)).await;
    assert!(tiers.iter().all(|&tier| tier == Tier::Cold));
    assert!(cost.sql <= 100, "{} statements", cost.sql);
    // And the next node that comes up empty asks the database for nothing.
    eventually("all are warm", async || warm(&service) == CROWD).await;
    let other = service.node_with(patient(service.quiet())).await;
    let (tiers, cost) = counted(&service, crowd(&other, &ids)).await;
    let cold = tiers.iter().filter(|&&tier| tier == Tier::Cold).count();
    assert_eq!((cold, cost.sql), (0, 0));
}

async fn many_sessions_that_are_missed_together_are_all_found(cold: Cold) {
    let service = Service::without_redis(cold);
    let maker = service.node().await;
    let mut credentials: Vec<Credential> = Vec::new();
    let mut expected = HashSet::new();
    for n in 0..20 {
        let issued = maker.login(Login::guest()).await.unwrap();
        let foreign = maker
            .adopt(
                Login::guest(),
                Some(crate::support::foreign(&format!("jti {n}"))),
                Some(crate::support::foreign(&format!("refresh {n}"))),
            )
            .await
            .unwrap();
        let keys = maker.keys();
        expected.extend([issued.session.id(), foreign.id()]);
        credentials.extend([issued.access.into(), issued.refresh.into()]);
        for (kind, key) in [
            (TokenKind::Access, format!("jti {n}")),
            (TokenKind::Refresh, format!("refresh {n}")),
        ] {
            let hash = keys.hash_foreign(kind, &crate::support::foreign(&key));
            credentials.push(match kind {
                TokenKind::Access => Key::AccessJti(hash).into(),
                TokenKind::Refresh => Key::Refresh(hash).into(),
            });
        }
        // Those that there are not are in the same batches.
        credentials.push(SessionId::random().into());
    }
    let mut config = patient(service.config());
    config.cold.batch_size = 7;
    config.cold.load_concurrency = 2;
    let node = service.node_with(config).await;
    let mut requests = JoinSet::new();
    for credential in credentials {
        let node = node.clone();
        requests.spawn(async move {
            let found = node.find(credential.clone()).await;
            match credential {
                Credential::Key(Key::Id(_)) => {
                    assert!(matches!(found, Err(Refusal::Unknown)));
                    None
                }
                _ => Some(found.unwrap().id()),
            }
        });
    }
    let found: HashSet<_> = requests.join_all().await.into_iter().flatten().collect();
    assert_eq!(found, expected);
}

/// Nothing can be read while somebody holds on to the table.
async fn whoever_finds_no_place_to_wait_is_refused_at_once(cold: Cold) {
    const PLACES: usize = 10;
    let service = Service::without_redis(cold);
    let mut config = patient(service.config());
    config.cold.max_waiting = PLACES;
    let slow = Slow::on(&service.cold, 1000).await;
    let node: Tiers<Basket> = Tiers::builder(config, service.keys())
        .store(slow.clone())
        .start()
        .await
        .unwrap();
    let hot = node.login(Login::guest()).await.unwrap();
    let ids = sessions(&service.cold, PLACES + 1);
    slow.stop();
    let mut waiting = Vec::new();
    for &id in &ids[..PLACES] {
        let mut found = Box::pin(node.find(id));
        assert!(futures_util::poll!(&mut found).is_pending());
        waiting.push(found);
    }
    let refused = node.find(ids[PLACES]).await.unwrap_err();
    assert!(refused.is_unavailable(), "{refused}");
    // Nor is a write begun.
    let refused = node.login(Login::guest()).await.unwrap_err();
    assert!(
        refused.to_string().contains("cold.max_waiting"),
        "{refused}"
    );
    for _ in 0..1000 {
        assert_eq!(
            node.find(hot.access.clone()).await.unwrap().tier(),
            Tier::Hot
        );
    }
    slow.answer(1000);
    for (found, id) in join_all(waiting).await.into_iter().zip(&ids) {
        assert_eq!(found.unwrap().id(), *id);
    }
    node.find(ids[PLACES]).await.unwrap();
    node.login(Login::guest()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_deadline_of_its_own_and_what_it_began_still_lands() {
    let service = Service::without_redis(Cold::sqlite());
    let slow = Slow::on(&service.cold, 1000).await;
    let mut config = service.config();
    config.cold.load_timeout = Duration::from_millis(50);
    let node: Tiers<Basket> = Tiers::builder(config, service.keys())
        .store(slow.clone())
        .start()
        .await
        .unwrap();
    let id = sessions(&service.cold, 1)[0];
    slow.stop();
    assert!(node.find(id).await.unwrap_err().is_unavailable());
    slow.answer(1000);
    eventually("it is hot", async || {
        node.try_hot(&id.into()).is_some_and(|found| found.is_ok())
    })
    .await;
}

/// A node whose store answers when the test says so; the other has the bundled one.
async fn two_nodes(
    service: &Service,
    lease: Duration,
) -> (Arc<Slow>, Tiers<Basket>, Tiers<Basket>) {
    let mut config = patient(service.quiet());
    config.warm.lease = lease;
    let slow = Slow::on(&service.cold, 0).await;
    let one: Tiers<Basket> = Tiers::builder(config.clone(), service.keys())
        .store(slow.clone())
        .start()
        .await
        .unwrap();
    (slow, one, service.node_with(config).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_miss_a_session_one_loads_it() {
    let service = Service::new(Cold::postgres());
    let (slow, one, other) = two_nodes(&service, Duration::from_secs(60)).await;
    let id = sessions(&service.cold, 1)[0];
    let (tier, cost) = counted(&service, async {
        let find = |node: &Tiers<Basket>| {
            let node = node.clone();
            tokio::spawn(async move { node.find(id).await.map(|found| found.tier()) })
        };
        let first = find(&one);
        eventually("it has read", async || slow.read() == 1).await;
        let second = find(&other);
        eventually("the other looks again and again", async || {
            service.redis().calls()["get"] >= 4
        })
        .await;
        slow.answer(1);
        assert_eq!(first.await.unwrap().unwrap(), Tier::Cold);
        second.await.unwrap().unwrap()
    })
    .await;
    assert_eq!((tier, cost.sql), (Tier::Warm, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_with_a_lease_delays_nobody_beyond_it() {
    let service = Service::new(Cold::postgres());
    let (slow, one, other) = two_nodes(&service, Duration::from_millis(300)).await;
    let id = sessions(&service.cold, 1)[0];
    // It never has an answer.
    let first = tokio::spawn(async move { one.find(id).await.map(drop) });
    eventually("it has read", async || slow.read() == 1).await;
    assert_eq!(other.find(id).await.unwrap().tier(), Tier::Cold);
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_to_wait_for_nobody_waits() {
    let service = Service::new(Cold::postgres());
    let (slow, one, other) = two_nodes(&service, Duration::from_secs(60)).await;
    let over = sessions(&service.cold, 1)[0];
    service.cold.sql("UPDATE sessions SET is_active = false");
    slow.answer(1000);
    for id in [over, SessionId::random()] {
        one.find(id).await.unwrap_err();
        // Its lease is given back, behind the request's back.
        let lease = || service.redis().cli(&["--scan", "--pattern", "session:l:*"]);
        eventually("the lease is over", async || lease().trim().is_empty()).await;
        let refused = tokio::time::timeout(Duration::from_secs(30), other.find(id)).await;
        refused
            .expect("it does not wait for the lease")
            .unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sessions_at_once_are_few_statements_where_there_is_a_replica_too() {
    let service = Service::new(Cold::postgres());
    let mut config = patient(service.quiet());
    config.cold.replica_url = Some(service.cold.url());
    config.cold.replica_timeout = Duration::from_secs(60);
    let node = service.node_with(config).await;
    let ids = sessions(&service.cold, CROWD);
    let (tiers, cost) = counted(&service, crowd(&node, &ids)).await;
    assert!(tiers.iter().all(|&tier| tier == Tier::Cold));
    // The quicker they are, the fewer gather behind each: some 70 to 100 of them.
    assert!(cost.sql <= 200, "{} statements", cost.sql);
}

/// A node with so many places, whose store has so many answers left for logins.
async fn narrow(service: &Service, places: usize) -> (Arc<Slow>, Tiers<Basket>) {
    let mut config = service.config();
    config.cold.max_waiting = places;
    config.cold.load_timeout = Duration::from_millis(100);
    let slow = Slow::on(&service.cold, 1000).await;
    let node = Tiers::builder(config, service.keys())
        .store(slow.clone())
        .start()
        .await
        .unwrap();
    (slow, node)
}

async fn callers_who_go_away_leave_no_more_writes_than_may_wait(cold: Cold) {
    let service = Service::without_redis(cold);
    let (slow, node) = narrow(&service, 2).await;
    slow.stop();
    let before = slow.read();
    for _ in 0..50 {
        let login = node.login(Login::guest());
        // Its client is gone by then.
        drop(tokio::time::timeout(Duration::from_millis(100), login).await);
    }
    let waiting = slow.read() - before;
    assert!(waiting <= 2, "{waiting} writes are under way");
}

async fn no_more_wait_to_refresh_than_may_wait(cold: Cold) {
    let service = Service::without_redis(cold);
    let (slow, node) = narrow(&service, 2).await;
    let mut issued = Vec::new();
    for _ in 0..50 {
        issued.push(node.login(Login::guest()).await.unwrap());
    }
    slow.stop();
    let mut waiting: Vec<_> = issued
        .iter()
        .map(|issued| Box::pin(node.refresh(&issued.refresh)))
        .collect();
    let mut pending = 0;
    for refresh in &mut waiting {
        pending += usize::from(futures_util::poll!(refresh).is_pending());
    }
    assert!(pending <= 2, "{pending} wait");
}

async fn no_more_wait_to_update_one_session_than_may_wait(cold: Cold) {
    let service = Service::without_redis(cold);
    let (slow, node) = narrow(&service, 2).await;
    let issued = node.login(Login::guest()).await.unwrap();
    slow.stop();
    let mut updates = JoinSet::new();
    for _ in 0..50 {
        let session = issued.session.clone();
        updates.spawn(async move { session.update(|basket| basket.count += 1).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    while updates.try_join_next().is_some() {}
    assert!(updates.len() <= 2, "{} wait", updates.len());
}

/// What one row holds is nothing to the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_fails_nobody_else() {
    let service = Service::without_redis(Cold::sqlite());
    service.node().await;
    let ids = sessions(&service.cold, 200);
    service.cold.sql(&format!(
        "UPDATE sessions SET label = CAST(x'4dfc6c6c6572' AS TEXT) WHERE id = '{}'",
        ids[100]
    ));
    let mut config = patient(service.config());
    config.cold.load_concurrency = 1;
    let node = service.node_with(config).await;
    let found = join_all(ids.iter().map(|&id| {
        let node = node.clone();
        async move {
            tokio::spawn(async move { node.find(id).await })
                .await
                .unwrap()
        }
    }))
    .await;
    let failed = found.iter().filter(|found| found.is_err()).count();
    assert!(failed <= 1, "{failed} of 200 are not found");
}
