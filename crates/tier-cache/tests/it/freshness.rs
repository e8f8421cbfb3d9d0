//! Who asks the database itself is not answered by a copy of it, whatever else is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_core::{Key, Lineage, Mark, SessionId, Timestamp, UserId, Version};
use tier_cache::cold::{
    Change, Changes, ColdStore, Created, Limit, NewSession, Pruned, Retention, Row, Scope,
};
use tier_cache::{Login, Refusal, Session, StoreError, Strictness, Tier, Tiers};
use tokio::sync::Semaphore;

use crate::cold::open;
use crate::support::{Basket, Cold, Service, eventually};

/// A database with a copy that stands still, and answers when the test says so.
#[derive(Debug)]
struct Copied {
    inner: Arc<dyn ColdStore>,
    copy: Row,
    /// Questions to the copy.
    asked: AtomicUsize,
    answers: Semaphore,
}

#[async_trait]
impl ColdStore for Copied {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        self.inner.load(key).await
    }

    async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        assert_eq!(keys, [Key::Id(self.copy.head.id)]);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        vec![self.copy.clone()]
    }

    async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        self.inner.load_many(keys).await
    }

    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
        self.inner.version(id).await
    }

    async fn create(
        &self,
        session: NewSession,
        limit: Option<Limit>,
    ) -> Result<Created, StoreError> {
        self.inner.create(session, limit).await
    }

    async fn update(
        &self,
        id: SessionId,
        version: Version,
        change: Change,
    ) -> Result<bool, StoreError> {
        self.inner.update(id, version, change).await
    }

    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.revoke(id, at).await
    }

    async fn revoke_all(
        &self,
        scope: Scope,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.inner.revoke_all(scope, at, limit).await
    }

    async fn touch(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        interval: Duration,
    ) -> Result<u64, StoreError> {
        self.inner.touch(seen, interval).await
    }

    async fn list(&self, user: UserId, now: Timestamp, limit: u32) -> Result<Vec<Row>, StoreError> {
        self.inner.list(user, now, limit).await
    }

    async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
        self.inner.changes(since, limit).await
    }

    async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        self.inner.renew_lineage(lost).await
    }

    async fn prune(
        &self,
        now: Timestamp,
        keep: Retention,
        limit: u32,
    ) -> Result<Pruned, StoreError> {
        self.inner.prune(now, keep, limit).await
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

struct Bed {
    store: Arc<Copied>,
    reader: Tiers<Basket>,
    /// Of the reader, which has its head only: handlers ask for its body.
    head: Session<Basket>,
}

impl Bed {
    /// A node with a copy of the database as it is now, that hears of no change for a while.
    async fn new(service: &Service, id: SessionId) -> Self {
        let inner = open(&service.cold).await.unwrap();
        let store = Arc::new(Copied {
            copy: inner.load(Key::Id(id)).await.unwrap().unwrap(),
            inner,
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(0),
        });
        let reader = Tiers::builder(service.quiet(), service.keys())
            .store(Arc::clone(&store) as Arc<dyn ColdStore>)
            .start()
            .await
            .unwrap();
        let head = reader.find(id).await.unwrap();
        assert_eq!(head.tier(), Tier::Warm);
        Self {
            store,
            reader,
            head,
        }
    }

    /// The answer to `asking`, which begins while a body is being fetched from the copy, and is over
    /// before the copy has answered.
    async fn beside_a_body<T>(&self, asking: impl Future<Output = T>) -> T {
        let head = self.head.clone();
        let body = tokio::spawn(async move { head.body().await.map(drop) });
        eventually("the copy is asked", async || {
            self.store.asked.load(Ordering::SeqCst) == 1
        })
        .await;
        let answer = asking.await;
        self.store.answers.add_permits(1000);
        // It may have been overtaken.
        drop(body.await.unwrap());
        answer
    }
}

#[tokio::test]
async fn a_strict_request_is_not_answered_by_a_copy_that_another_asks() {
    let service = Service::new(Cold::postgres());
    let writer = service.quiet_node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let bed = Bed::new(&service, id).await;
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false, revoked_at = now() WHERE id = '{id}'"
    ));
    let reader = bed.reader.clone();
    let strict = async move { reader.find_strict(id, Strictness::Row).await };
    let found = bed.beside_a_body(strict).await;
    assert!(matches!(found, Err(Refusal::Revoked)), "{found:?}");
}

#[tokio::test]
async fn a_new_token_is_not_refused_by_a_copy_that_another_asks() {
    let service = Service::new(Cold::postgres());
    let writer = service.quiet_node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let bed = Bed::new(&service, issued.session.id()).await;
    // On a node whose push through Redis does not come, or not yet.
    let mut config = service.quiet();
    config.warm.url = None;
    let other = service.node_with(config).await;
    let newer = other.refresh(&issued.refresh).await.unwrap();
    let (reader, token) = (bed.reader.clone(), newer.access.clone());
    let found = bed
        .beside_a_body(async move { reader.find(token).await })
        .await;
    // It is remembered too, for half a minute, as what no later change can make good again.
    let again = bed.reader.find(newer.access).await;
    assert!(found.is_ok() && again.is_ok(), "{found:?}, then {again:?}");
}
