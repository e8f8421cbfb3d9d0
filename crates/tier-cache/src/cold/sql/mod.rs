//! The bundled cold tier: the same code for both databases, which differ only in how one connects
//! to them, and in a few words.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | where the answer to each of [`ColdStore`]'s questions is found |
//! | `reads.rs` | how sessions are read: by their keys, or as lists |
//! | `create.rs` | how a session is added |
//! | `writes.rs` | how sessions that are there are changed and revoked |
//! | `feed.rs` | what the feed asks |
//! | `lineage.rs` | how a lineage begins |
//! | `upkeep.rs` | how what nobody needs is removed, and how what there is is counted |
//! | `dialect.rs` | where the databases need different words for the same |
//! | `asking.rs` | who waits for an answer |
//! | `connections.rs` | which connections are still used after an error, and what is asked once more |
//! | `deadlines.rs` | for how long |
//!
//! The stores themselves are in `postgres.rs` and `sqlite.rs`. What diesel demands of a connection
//! is more than fits in a signature, so each file writes its methods by a macro, once for each.

mod asking;
mod connections;
mod create;
mod deadlines;
mod dialect;
mod feed;
mod lineage;
mod reads;
mod upkeep;
mod writes;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use session_core::{Key, Lineage, Mark, SessionId, Timestamp, UserId, Version};

pub(super) use asking::in_task;
#[cfg(feature = "postgres")]
pub(super) use connections::Sends;
pub(super) use connections::{Connections, Usable};
pub(super) use deadlines::Deadlines;
#[cfg(feature = "postgres")]
pub(super) use deadlines::Unreached;
#[cfg(feature = "sqlite")]
pub(super) use lineage::missing;

use super::cursor::Cursor;
#[cfg(feature = "postgres")]
use super::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteStore;
use super::store::{
    Change, Changes, ColdStore, Created, Limit, NewSession, Pruned, Retention, Row, Scope,
    StoreStats,
};
use crate::error::StoreError;

/// Makes a store a [`ColdStore`]; `more` is what it alone can do.
macro_rules! cold_store {
    ($store:ident { $($more:tt)* }) => {
        #[async_trait]
        impl ColdStore for $store {
            async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
                self.load_from(&self.main, "load", key).await
            }

            async fn load_many(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
                self.load_many_from(&self.main, "load_many", keys).await
            }

            async fn recent(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>, StoreError> {
                self.recently_seen(now, limit).await
            }

            async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
                self.version_of(id).await
            }

            async fn create(
                &self,
                session: NewSession,
                limit: Option<Limit>,
            ) -> Result<Created, StoreError> {
                self.add(session, limit).await
            }

            async fn update(
                &self,
                id: SessionId,
                version: Version,
                change: Change,
            ) -> Result<bool, StoreError> {
                self.change(id, version, change).await
            }

            async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
                self.revoke_one(id, at).await
            }

            async fn revoke_all(
                &self,
                scope: Scope,
                at: Timestamp,
                limit: u32,
            ) -> Result<Vec<SessionId>, StoreError> {
                self.revoke_within(scope, at, limit).await
            }

            async fn touch(
                &self,
                seen: Vec<(SessionId, Timestamp)>,
                interval: Duration,
            ) -> Result<u64, StoreError> {
                self.note_seen(seen, interval).await
            }

            async fn list(
                &self,
                user: UserId,
                now: Timestamp,
                after: Option<Cursor>,
                limit: u32,
            ) -> Result<Vec<Row>, StoreError> {
                self.live_of(user, now, after, limit).await
            }

            async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
                self.changes_since(since, limit).await
            }

            async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
                self.begin_lineage(lost).await
            }

            async fn prune(
                &self,
                now: Timestamp,
                keep: Retention,
                limit: u32,
            ) -> Result<Pruned, StoreError> {
                self.remove_old(now, keep, limit).await
            }

            async fn stats(&self, now: Timestamp) -> Result<Option<StoreStats>, StoreError> {
                self.count(now).await.map(Some)
            }

            fn begins_in_turn(&self) -> bool {
                true
            }

            fn kind(&self) -> &'static str {
                Self::DIALECT.kind
            }

            $($more)*
        }

        impl fmt::Debug for $store {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($store))
                    .field("pool", &self.pool().status())
                    .field("deadlines", &self.deadlines)
                    .finish()
            }
        }
    };
}

#[cfg(feature = "postgres")]
cold_store!(PostgresStore {
    async fn load_replica(&self, keys: Vec<Key>) -> Vec<Row> {
        self.load_from_replica(keys).await
    }

    async fn shares_connections(&self) -> bool {
        self.is_behind_a_pooler().await
    }

    async fn listen(&self, changed: &(dyn Fn() + Send + Sync)) {
        self.listener.listen(changed).await
    }
});

#[cfg(feature = "sqlite")]
cold_store!(SqliteStore {});
