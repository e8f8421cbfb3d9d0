//! Schedules that a test must force: answers that are collected late, transactions that overlap.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use session_core::SessionId;
use testbed::Cluster;
use tier_cache::cold::Version;
use tier_cache::{Clock, Login, Refusal, Scope, Strictness, Tier, Tiers};
use tokio_postgres::error::SqlState;

use crate::slow::Slow;
use crate::support::{Basket, Cold, Service, eventually};

/// Lets a future get as far as it can now; on one thread, so that nothing else goes on meanwhile.
async fn begin(mut future: std::pin::Pin<&mut impl Future>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "it needs I/O");
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_collected_late_is_judged_by_what_is_known_by_then() {
    let service = Service::without_redis(Cold::postgres());
    let issued = service.node().await.login(Login::guest()).await.unwrap();
    let (token, id) = (issued.access, issued.session.id());
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(service.config(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();

    // The load is begun and lands, but nobody looks at the answer yet.
    let mut waiting = pin!(node.find(token.clone()));
    begin(waiting.as_mut()).await;
    let hot = || node.try_hot(&token.clone().into());
    eventually("the load lands", async || hot().is_some()).await;

    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    eventually("the node hears of it", async || {
        !matches!(hot(), Some(Ok(_)))
    })
    .await;
    // Past the bound since the load asked, with polls that succeeded meanwhile.
    clock.advance(Duration::from_secs(61));
    eventually("the node trusts its caches", async || {
        node.health().is_trusting()
    })
    .await;
    waiting.await.expect_err("it was revoked long ago");
}

/// The other transaction has put a session under another name, and not committed yet: whoever
/// ends all of them waits for the old one, finds it over, and must not miss the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_takes_another_name_meanwhile_ends_with_the_others() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.node().await;
    let ada = service.cold.add_user("ada");
    for scope in [Scope::user(ada), Scope::everyone()] {
        for alone in [true, false] {
            if !alone {
                node.login(Login::user(ada)).await.unwrap();
            }
            let old = node.login(Login::user(ada)).await.unwrap().session.id();
            let other = other_program(&service.cold).await;
            other
                .batch_execute(&format!(
                    "BEGIN; SELECT 1 FROM users WHERE id = {ada} FOR NO KEY UPDATE; \
                     UPDATE sessions SET is_active = false, revoked_at = now() WHERE id = '{old}'; \
                     INSERT INTO sessions (id, user_id, expires_at) \
                     VALUES (gen_random_uuid(), {ada}, now() + interval '1 hour')"
                ))
                .await
                .unwrap();
            let ending = {
                let node = node.clone();
                tokio::spawn(async move { node.revoke_all(scope).await })
            };
            eventually("it waits for the old one", async || {
                let waiting = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
                service.cold.sql(waiting).trim() == "1"
            })
            .await;
            other.batch_execute("COMMIT").await.unwrap();
            let revoked = ending.await.unwrap().unwrap().revoked();
            assert_eq!(revoked, if alone { 1 } else { 2 });
            let live = "SELECT count(*) FROM sessions WHERE is_active";
            assert_eq!(service.cold.sql(live).trim(), "0", "{scope:?}");
        }
    }
}

/// A connection of another program.
async fn other_program(cold: &Cold) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&cold.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_not_switched_off_past_a_session_that_the_transaction_does_not_see() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.node().await;
    let (ada, bob) = (service.cold.add_user("ada"), service.cold.add_user("bob"));
    // One who had a session before, and one who had none.
    node.login(Login::user(ada)).await.unwrap();
    for (user, isolation) in [(ada, "REPEATABLE READ"), (bob, "SERIALIZABLE")] {
        let other = other_program(&service.cold).await;
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM sessions");
        other.batch_execute(&begin).await.unwrap();
        let issued = node.login(Login::user(user)).await.unwrap();
        let id = issued.session.id();
        let off = format!("UPDATE users SET is_active = false WHERE id = {user}; COMMIT");
        match other.batch_execute(&off).await {
            Ok(()) => assert_eq!(service.cold.version(id), 2, "{isolation}: it is numbered"),
            // To be tried again, as all that such transactions do.
            Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_commit_in_another_order_than_they_are_numbered_are_all_heard() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.node().await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(node.login(Login::guest()).await.unwrap());
    }
    let revoke = |n: usize| {
        let id = sessions[n].session.id();
        format!("UPDATE sessions SET is_active = false WHERE id = '{id}'")
    };
    let gone = async |n: usize| node.find(sessions[n].access.clone()).await.is_err();
    let (old, new) = (
        other_program(&service.cold).await,
        other_program(&service.cold).await,
    );
    // The older one takes its number first, in a savepoint, and commits last.
    old.batch_execute("BEGIN; SELECT pg_current_xact_id(); SAVEPOINT a")
        .await
        .unwrap();
    new.batch_execute(&format!("BEGIN; {}", revoke(0)))
        .await
        .unwrap();
    old.batch_execute(&revoke(1)).await.unwrap();
    new.batch_execute("COMMIT").await.unwrap();
    eventually("the newer is heard", async || gone(0).await).await;
    // A row that the newer one has changed, numbered lower than before.
    old.batch_execute(&format!(
        "RELEASE a; UPDATE sessions SET is_active = true WHERE id = '{}'; SAVEPOINT b; {}",
        sessions[0].session.id(),
        revoke(2)
    ))
    .await
    .unwrap();
    for n in [1, 2, 3] {
        assert!(!gone(n).await, "nothing of it is committed");
    }
    old.batch_execute("COMMIT").await.unwrap();
    eventually("the older is heard", async || {
        gone(1).await && gone(2).await && !gone(0).await
    })
    .await;
    assert!(!gone(3).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_set_back_is_believed_and_what_is_hot_is_not() {
    let service = Service::without_redis(Cold::sqlite());
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let Cold::Sqlite(file) = &service.cold else {
        unreachable!();
    };
    let backup = file.path().with_extension("backup");
    let backup = backup.display();
    service.cold.sql(&format!(".backup '{backup}'"));
    for n in 0..10 {
        let label = format!("UPDATE sessions SET label = '{n}' WHERE id = '{id}'");
        service.cold.sql(&label);
    }
    eventually("the node has heard of all that will be lost", async || {
        let found = node.find(issued.access.clone()).await.unwrap();
        found.version().get() == 11 && node.health().is_trusting()
    })
    .await;

    service.cold.sql(&format!(".restore '{backup}'"));
    // Numbered as the first of those that were lost.
    let revoke = format!("UPDATE sessions SET is_active = false WHERE id = '{id}'");
    service.cold.sql(&revoke);
    eventually("it is refused", async || {
        node.find(issued.access.clone()).await.is_err()
    })
    .await;
    let refused = node.find(issued.access).await.unwrap_err();
    assert!(matches!(refused, Refusal::Revoked), "{refused}");
    eventually("the node trusts its caches again", async || {
        node.health().is_trusting()
    })
    .await;
    let issued = node.login(Login::guest()).await.unwrap();
    assert_eq!(node.find(issued.access).await.unwrap().tier(), Tier::Hot);
}

#[tokio::test]
async fn a_new_token_is_not_refused_by_a_load_that_an_old_one_began() {
    let service = Service::without_redis(Cold::sqlite());
    let there = service.quiet_node().await;
    let replaced = there.login(Login::guest()).await.unwrap();
    let issued = there.refresh(&replaced.refresh).await.unwrap();
    let store = Slow::on(&service.cold, 1).await;
    let here: Tiers<Basket> = Tiers::builder(service.quiet(), service.keys())
        .store(store.clone())
        .start()
        .await
        .unwrap();
    here.find(issued.access).await.unwrap();
    // Someone still uses a token that was replaced: the database is asked whether it was.
    let old = {
        let here = here.clone();
        tokio::spawn(async move { here.find(replaced.access).await })
    };
    eventually("the old token's load has read", async || store.read() == 2).await;
    // Meanwhile the client gets new tokens elsewhere, and uses them here.
    let renewed = there.refresh(&issued.refresh).await.unwrap();
    let mut new = pin!(here.find(renewed.access));
    // Until it waits for that load: on one thread, and all before it is done without I/O.
    for _ in 0..10 {
        begin(new.as_mut()).await;
        tokio::task::yield_now().await;
    }
    store.answer(100);
    new.await.expect("it is the newest token");
    old.await.unwrap().expect_err("it was replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_fetched_again_if_a_newer_head_came_before_it() {
    let service = Service::new(Cold::sqlite());
    let there = service.quiet_node().await;
    let issued = there.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let store = Slow::on(&service.cold, 0).await;
    let mut config = service.quiet();
    config.hot.ttl = Duration::from_secs(2);
    let here: Tiers<Basket> = Tiers::builder(config, service.keys())
        .store(store.clone())
        .start()
        .await
        .unwrap();
    // A head alone, and its body on the way.
    let found = here.find(issued.access.clone()).await.unwrap();
    assert_eq!(found.tier(), Tier::Warm);
    let body = tokio::spawn(async move { found.body().await });
    eventually("the body is read", async || store.read() == 1).await;
    let hot = || here.try_hot(&issued.access.clone().into());
    eventually("the head is no longer hot", async || hot().is_none()).await;
    // Changed by plain SQL, and brought to Redis by a node that read it: nothing is pushed.
    service.cold.sql(&format!(
        "UPDATE sessions SET data = '{{\"count\": 7}}' WHERE id = '{id}'"
    ));
    there.find_strict(id, Strictness::Row).await.unwrap();
    eventually("the newer head is hot", async || {
        let found = here.find(issued.access.clone());
        let newer = match tokio::time::timeout(Duration::from_millis(500), found).await {
            Ok(found) => found.unwrap().version() == Version::new(2),
            Err(_) => false,
        };
        newer && hot().is_some()
    })
    .await;
    store.answer(100);
    let body = body.await.unwrap().unwrap();
    assert!(body.data().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_heard_when_it_commits_however_late() {
    let cluster = Cluster::builder()
        .config("max_prepared_transactions", "2")
        .start();
    let service = Service::without_redis(Cold::Postgres(cluster.database()));
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    service.cold.sql(&format!(
        "BEGIN; SET LOCAL sessions.notify = off; \
         UPDATE sessions SET is_active = false WHERE id = '{id}'; PREPARE TRANSACTION 'a'"
    ));
    // Much is numbered above it, and heard.
    for _ in 0..20 {
        let other = node.login(Login::guest()).await.unwrap();
        service.cold.sql(&format!(
            "DELETE FROM sessions WHERE id = '{}'",
            other.session.id()
        ));
        eventually("it is heard", async || {
            node.find(other.access.clone()).await.is_err()
        })
        .await;
    }
    node.find(issued.access.clone()).await.unwrap();
    service.cold.sql("COMMIT PREPARED 'a'");
    eventually("it is refused", async || {
        node.find(issued.access.clone()).await.is_err()
    })
    .await;
}

/// Uses are noted in the order of the ids, and sessions revoked in that of the table: each may wait
/// for what the other has locked.
#[tokio::test(flavor = "multi_thread")]
async fn noting_uses_fails_no_revocation() {
    const SESSIONS: u32 = 500;
    const ROUNDS: u64 = 100;
    let cold = Cold::postgres();
    let store = crate::cold::open(&cold).await.unwrap();
    let ids = cold.sql(&format!(
        "INSERT INTO sessions (id, expires_at) \
         SELECT gen_random_uuid(), now() + interval '1 hour' FROM generate_series(1, {SESSIONS}) \
         RETURNING id"
    ));
    let ids: Vec<SessionId> = ids.lines().map(|id| id.trim().parse().unwrap()).collect();
    let mut failed = Vec::new();
    for round in 0..ROUNDS {
        let at = crate::cold::millis(crate::cold::LATER + round as i64);
        let noting = async {
            tokio::time::sleep(Duration::from_millis(round / 10)).await;
            let seen = ids.iter().map(|&id| (id, at)).collect();
            store.touch(seen, Duration::ZERO).await
        };
        let revoking = async {
            tokio::time::sleep(Duration::from_millis(round % 10)).await;
            store.revoke_all(Scope::everyone(), at, SESSIONS).await
        };
        let (_, revoked) = tokio::join!(noting, revoking);
        failed.extend(revoked.err());
        cold.sql("UPDATE sessions SET is_active = true, revoked_at = NULL");
    }
    assert!(
        failed.is_empty(),
        "{} of {ROUNDS}: {}",
        failed.len(),
        failed[0]
    );
}

/// A guest who changes one session as fast as can be.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_session_delay_nobody_elses() {
    let service = Service::without_redis(Cold::postgres());
    let node = service.node().await;
    let busy = node.login(Login::guest()).await.unwrap().session;
    // They have no more to do with each other than by their ids.
    let other = loop {
        let other = node.login(Login::guest()).await.unwrap().session;
        let last = |session: &tier_cache::Session<Basket>| session.id().as_bytes()[15] % 64;
        if last(&other) == last(&busy) {
            break other;
        }
    };
    let mut changes = tokio::task::JoinSet::new();
    for _ in 0..2000 {
        let busy = busy.clone();
        changes.spawn(async move { busy.update(|basket| basket.count += 1).await.map(drop) });
    }
    eventually("many wait", async || {
        busy.tiers().find(busy.id()).await.unwrap().version().get() > 5
    })
    .await;
    other.update(|basket| basket.count += 1).await.unwrap();
    // It did not wait for all of these.
    while let Some(changed) = changes.try_join_next() {
        drop(changed.unwrap());
    }
    assert!(!changes.is_empty());
}
