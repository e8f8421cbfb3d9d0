//! A store that takes its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_core::{Key, Lineage, Mark, SessionId, Timestamp, UserId, Version};
use tier_cache::StoreError;
use tier_cache::cold::{
    Change, Changes, ColdStore, Created, Cursor, Limit, NewSession, Pruned, Retention, Row, Scope,
};
use tokio::sync::Semaphore;

use crate::cold::open;
use crate::support::Cold;

/// A store whose loads are answered when the test says so.
#[derive(Debug)]
pub(crate) struct Slow {
    inner: Arc<dyn ColdStore>,
    begins_in_turn: AtomicBool,
    /// Loads that were begun.
    begun: AtomicUsize,
    /// Loads that were read and wait for their permit.
    read: AtomicUsize,
    /// Those of them that had their answer.
    answered: AtomicUsize,
    answers: Semaphore,
    /// What a copy of the database holds, if there is one; it stands still.
    copy: Option<Row>,
    /// Questions to the copy.
    asked: AtomicUsize,
    copy_answers: Semaphore,
}

impl Slow {
    /// The bundled store, which answers so many loads.
    pub(crate) async fn on(cold: &Cold, answers: usize) -> Arc<Self> {
        Self::with(open(cold).await.unwrap(), answers, None)
    }

    /// One that answers at once, with a copy of a session as it is now, which answers nothing yet.
    pub(crate) async fn with_copy(cold: &Cold, id: SessionId) -> Arc<Self> {
        let inner = open(cold).await.unwrap();
        let copy = inner.load(Key::Id(id)).await.unwrap();
        Self::with(inner, Semaphore::MAX_PERMITS, copy)
    }

    fn with(inner: Arc<dyn ColdStore>, answers: usize, copy: Option<Row>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            begins_in_turn: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            answers: Semaphore::new(answers),
            copy,
            asked: AtomicUsize::new(0),
            copy_answers: Semaphore::new(0),
        })
    }

    /// How often the copy was asked.
    pub(crate) fn copy_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The copy answers from now on.
    pub(crate) fn copy_answers(&self) {
        self.copy_answers.add_permits(1000);
    }

    /// Loads of tiers that are opened from now on may begin in their askers' turns.
    pub(crate) fn begin_in_turn(&self) {
        self.begins_in_turn.store(true, Ordering::SeqCst);
    }

    /// How many loads have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many loads have read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }

    /// How many loads have been driven to their end.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Answers so many more loads.
    pub(crate) fn answer(&self, more: usize) {
        self.answers.add_permits(more);
    }

    /// Answers none from now on.
    pub(crate) fn stop(&self) {
        self.answers.forget_permits(usize::MAX);
    }

    async fn when_it_may<T>(&self, answer: T) -> T {
        self.read.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        self.answered.fetch_add(1, Ordering::SeqCst);
        answer
    }
}

#[async_trait]
impl ColdStore for Slow {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let row = self.inner.load(key).await;
        self.when_it_may(row).await
    }

    async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        let Some(copy) = &self.copy else {
            return Vec::new();
        };
        assert_eq!(keys.len(), 1, "one at a time");
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.copy_answers.acquire().await.unwrap().forget();
        vec![copy.clone()]
    }

    async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        let rows = self.inner.load_many(keys).await;
        self.when_it_may(rows).await
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

    async fn list(
        &self,
        user: UserId,
        now: Timestamp,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.list(user, now, after, limit).await
    }

    async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        self.inner.renew_lineage(lost).await
    }

    async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
        self.inner.changes(since, limit).await
    }

    async fn prune(
        &self,
        now: Timestamp,
        keep: Retention,
        limit: u32,
    ) -> Result<Pruned, StoreError> {
        self.inner.prune(now, keep, limit).await
    }

    fn begins_in_turn(&self) -> bool {
        self.begins_in_turn.load(Ordering::SeqCst)
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}
