//! A store that does not say when the database went back, to show that the checker finds nodes
//! that do not notice it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tier_cache::ColdConfig;
use tier_cache::StoreError;
use tier_cache::cold::{
    Change, Changes, ColdStore, Created, Cursor, Key, Limit, Lineage, Mark, NewSession,
    PostgresStore, Pruned, Retention, Row, Scope, SessionId, SqliteStore, StoreStats, Timestamp,
    UserId, Version,
};

/// Forwards everything, but shows one lineage for all histories and says of none that it moved.
#[derive(Debug)]
pub(crate) struct Unaware(Arc<dyn ColdStore>);

impl Unaware {
    pub(crate) async fn open(config: &ColdConfig) -> Result<Self, StoreError> {
        if config.url.starts_with("sqlite:") {
            let store = SqliteStore::open(config)?;
            store.migrate().await?;
            return Ok(Self(Arc::new(store)));
        }
        let store = PostgresStore::open(config)?;
        store.migrate().await?;
        Ok(Self(Arc::new(store)))
    }
}

fn shown(mut row: Row) -> Row {
    row.lineage = Lineage::ONLY;
    row
}

#[async_trait]
impl ColdStore for Unaware {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        Ok(self.0.load(key).await?.map(shown))
    }

    async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        let rows = self.0.load_replica(keys).await;
        rows.into_iter().map(shown).collect()
    }

    async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.load_many(keys).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
        let mut changes = self.0.changes(since, limit).await?;
        changes.moved = None;
        changes.lineage = Lineage::ONLY;
        Ok(changes)
    }

    async fn recent(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.0.recent(now, limit).await
    }

    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
        self.0.version(id).await
    }

    async fn create(&self, new: NewSession, limit: Option<Limit>) -> Result<Created, StoreError> {
        self.0.create(new, limit).await
    }

    async fn update(&self, id: SessionId, at: Version, to: Change) -> Result<bool, StoreError> {
        self.0.update(id, at, to).await
    }

    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
        self.0.revoke(id, at).await
    }

    async fn revoke_all(
        &self,
        scope: Scope,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.0.revoke_all(scope, at, limit).await
    }

    async fn touch(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        interval: Duration,
    ) -> Result<u64, StoreError> {
        self.0.touch(seen, interval).await
    }

    async fn list(
        &self,
        user: UserId,
        now: Timestamp,
        after: Option<Cursor>,
        most: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.list(user, now, after, most).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        self.0.renew_lineage(lost).await
    }

    async fn listen(&self, changed: &(dyn Fn() + Send + Sync)) {
        self.0.listen(changed).await;
    }

    async fn prune(
        &self,
        now: Timestamp,
        keep: Retention,
        limit: u32,
    ) -> Result<Pruned, StoreError> {
        self.0.prune(now, keep, limit).await
    }

    async fn stats(&self, now: Timestamp) -> Result<Option<StoreStats>, StoreError> {
        self.0.stats(now).await
    }

    fn begins_in_turn(&self) -> bool {
        self.0.begins_in_turn()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }
}
