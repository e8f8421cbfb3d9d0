//! What nobody needs any more is removed from the database: by one at a time, bit by bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use session_core::{Key, Mark, Timestamp};
use tier_cache::cold::{Pruned, Retention};

use crate::cold::{LATER, millis, new, open};
use crate::support::{Cold, eventually, on_both};

on_both!(
    pruning_removes_what_is_long_over_and_leaves_no_gap,
    a_node_whose_clock_is_wrong_prunes_no_living_session,
    no_batch_is_larger_than_it_may_be,
    many_nodes_that_prune_at_once_remove_everything_once,
);

const HOUR: Duration = Duration::from_secs(60 * 60);
const KEEP: Retention = Retention {
    tombstones: HOUR,
    expired: HOUR,
};

async fn pruning_removes_what_is_long_over_and_leaves_no_gap(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let now = now();
    let (over, live) = (new(0, 1000), new(0, LATER));
    let (over_id, live_id) = (over.id, live.id);
    store.create(over, None).await.unwrap();
    store.create(live, None).await.unwrap();
    let start = store.changes(Mark::ZERO, 100).await.unwrap();
    let pruned = store.prune(now, KEEP, 10).await.unwrap();
    assert_eq!((pruned.sessions, pruned.tombstones), (1, 0));
    assert!(store.load(Key::Id(over_id)).await.unwrap().is_none());
    assert!(store.load(Key::Id(live_id)).await.unwrap().is_some());
    // Its last change may not be known to every node yet, so it left a trace …
    let told = store.changes(start.up_to, 100).await.unwrap();
    assert!(told.sessions.iter().any(|changed| changed.id == over_id));
    assert_eq!(told.complete_since, start.up_to);

    // … which goes in its time, and then whoever asks from before is told of the gap.
    // (Not before all has ended that the whole server had under way when it was left.)
    eventually("the trace goes", async || {
        let later = now + HOUR + HOUR;
        store.prune(later, KEEP, 10).await.unwrap().tombstones == 1
    })
    .await;
    let told = store.changes(start.up_to, 100).await.unwrap();
    assert!(told.complete_since > start.up_to, "{told:?}");
    assert!(told.complete_since <= told.up_to, "{told:?}");

    // A session whose last change is older than the tombstones that are kept leaves none.
    let mut over = new(0, 1000);
    over.device.label = Some("over".into());
    store.create(over.clone(), None).await.unwrap();
    eventually(
        "no tombstone is kept from before its last change",
        async || {
            cold.sql(
                "UPDATE session_history SET tombstones_since = (SELECT mark FROM session_now)",
            );
            let older = "SELECT count(*) FROM sessions, session_history \
                     WHERE label = 'over' AND changed_at_mark < tombstones_since";
            cold.sql(older).trim() == "1"
        },
    )
    .await;
    let pruned = store.prune(now, KEEP, 10).await.unwrap();
    assert_eq!(pruned.sessions, 1);
    let told = store.changes(Mark::ZERO, 100).await.unwrap();
    assert!(
        told.sessions.iter().all(|changed| changed.id != over.id),
        "{told:?}"
    );
}

async fn a_node_whose_clock_is_wrong_prunes_no_living_session(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let (over, live) = (new(0, 1000), new(0, LATER));
    let id = live.id;
    store.create(over, None).await.unwrap();
    store.create(live, None).await.unwrap();
    let pruned = store.prune(millis(2 * LATER), KEEP, 10).await.unwrap();
    assert_eq!(pruned.sessions, 1);
    assert!(store.load(Key::Id(id)).await.unwrap().is_some());
}

async fn no_batch_is_larger_than_it_may_be(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let start = store.changes(Mark::ZERO, 100).await.unwrap();
    for _ in 0..5 {
        store.create(new(0, 1000), None).await.unwrap();
    }
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(store.prune(now(), KEEP, 2).await.unwrap().sessions);
    }
    assert_eq!(batches, [2, 2, 1, 0]);
    // They left traces, which go in their time, as slowly. The feed tells the gap at once, before
    // it is there.
    let mut batches = Vec::new();
    let later = now() + HOUR + HOUR;
    eventually("all traces go", async || {
        let tombstones = store.prune(later, KEEP, 2).await.unwrap().tombstones;
        if tombstones > 0 {
            let told = store.changes(start.up_to, 100).await.unwrap();
            assert!(told.complete_since > start.up_to, "{told:?}");
            batches.push(tombstones);
        }
        batches.iter().sum::<u64>() == 5
    })
    .await;
    assert!(batches.iter().all(|&batch| batch <= 2), "{batches:?}");
}

async fn many_nodes_that_prune_at_once_remove_everything_once(cold: Cold) {
    const SESSIONS: u64 = 300;
    let store = open(&cold).await.unwrap();
    for _ in 0..SESSIONS {
        store.create(new(0, 1000), None).await.unwrap();
    }
    let live = new(0, LATER);
    let id = live.id;
    store.create(live, None).await.unwrap();

    let removed = Arc::new(AtomicU64::new(0));
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, removed) = (open(&cold).await.unwrap(), Arc::clone(&removed));
        nodes.spawn(async move {
            while removed.load(Relaxed) < SESSIONS {
                let batch = store.prune(now(), KEEP, 20).await.unwrap();
                removed.fetch_add(batch.sessions, Relaxed);
            }
        });
    }
    let ended = tokio::time::timeout(Duration::from_secs(120), nodes.join_all());
    ended.await.expect("all are removed");
    assert_eq!(removed.load(Relaxed), SESSIONS);
    assert!(store.load(Key::Id(id)).await.unwrap().is_some());
}

/// Whoever finds another at it goes away, and neither waits nor fails.
#[tokio::test(flavor = "multi_thread")]
async fn one_prunes_at_a_time() {
    let cold = Cold::postgres();
    let store = open(&cold).await.unwrap();
    store.create(new(0, 1000), None).await.unwrap();
    let other = Other::begins(&cold, "SELECT sessions_prune_turn()").await;
    assert_eq!(
        store.prune(now(), KEEP, 10).await.unwrap(),
        Pruned::default()
    );
    other.ends().await;
    assert_eq!(store.prune(now(), KEEP, 10).await.unwrap().sessions, 1);
}

/// A session that somebody has locked is left for the next time, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn pruning_waits_for_no_lock() {
    let cold = Cold::postgres();
    let store = open(&cold).await.unwrap();
    let (locked, free) = (new(0, 1000), new(0, 1000));
    let id = locked.id;
    store.create(locked, None).await.unwrap();
    store.create(free, None).await.unwrap();
    let lock = format!("SELECT 1 FROM sessions WHERE id = '{id}' FOR UPDATE");
    let other = Other::begins(&cold, &lock).await;
    assert_eq!(store.prune(now(), KEEP, 10).await.unwrap().sessions, 1);
    assert!(store.load(Key::Id(id)).await.unwrap().is_some());
    other.ends().await;
    assert_eq!(store.prune(now(), KEEP, 10).await.unwrap().sessions, 1);
}

/// A transaction of another program on the same PostgreSQL.
struct Other {
    client: tokio_postgres::Client,
    _connection: tokio_util::task::AbortOnDropHandle<Result<(), tokio_postgres::Error>>,
}

impl Other {
    async fn begins(cold: &Cold, statement: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(&cold.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        client
            .batch_execute(&format!("BEGIN; {statement}"))
            .await
            .unwrap();
        Self {
            client,
            _connection: connection,
        }
    }

    async fn ends(self) {
        self.client.batch_execute("ROLLBACK").await.unwrap();
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
