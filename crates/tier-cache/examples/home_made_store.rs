//! A cold tier of one's own: here in memory, where one lock is a transaction.
//!
//! Each rule of `ColdStore` is named where it is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use session_core::{
    Head, Key, Lineage, Mark, SessionId, Timestamp, TokenKeys, User, UserId, Version,
};
use tier_cache::cold::{
    Change, Changed, Changes, ColdStore, NewSession, Pruned, RawBody, Retention, Row,
};
use tier_cache::{Login, StoreError, TierConfig, Tiers};

#[derive(Debug, Default)]
struct MemoryStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Numbers the changes; writers are serial, so a counter will do.
    mark: i64,
    sessions: HashMap<SessionId, Row>,
    /// What is left of deleted sessions. (This store keeps it for ever.)
    deleted: HashMap<SessionId, Mark>,
}

impl Tables {
    /// Rules 1 and 2: a change raises the version, and is numbered.
    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Row)) {
        self.mark += 1;
        if let Some(row) = self.sessions.get_mut(&id) {
            change(row);
            row.head.version = Version::new(row.head.version.get() + 1);
            row.changed_at = Mark::new(self.mark);
        }
    }

    /// Rule 2: a read says which changes it contains, all of those numbered below the mark.
    fn read(&self, row: &Row) -> Row {
        let mut row = row.clone();
        row.head.as_of = Mark::new(self.mark + 1);
        row
    }
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ColdStore for MemoryStore {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        let tables = self.tables();
        let leads_here = |row: &&Row| match key {
            Key::Id(id) => row.head.id == id,
            Key::AccessJti(hash) => row.head.access == Some(hash),
            Key::Refresh(hash) => row.head.refresh == Some(hash),
        };
        let row = tables.sessions.values().find(leads_here);
        Ok(row.map(|row| tables.read(row)))
    }

    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
        Ok(self.tables().sessions.get(&id).map(|row| row.head.version))
    }

    async fn create(&self, new: NewSession) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.mark += 1;
        let row = Row {
            head: Head {
                id: new.id,
                // Here the application would join its own table of users.
                user: new.user.map(|id| User {
                    id,
                    email: format!("user{id}@example.com").into(),
                    username: format!("user{id}").into(),
                }),
                is_active: true,
                revoked_at: None,
                expires_at: new.expires_at,
                version: Version::new(1),
                as_of: Mark::ZERO,
                access: new.access,
                refresh: new.refresh,
            },
            changed_at: Mark::new(tables.mark),
            lineage: Lineage::ONLY,
            body: RawBody {
                device: new.device,
                created_at: new.created_at,
                last_seen_at: new.created_at,
                data: new.data,
            },
        };
        tables.sessions.insert(new.id, row);
        Ok(())
    }

    async fn update(
        &self,
        id: SessionId,
        version: Version,
        change: Change,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(row) = tables.sessions.get(&id) else {
            return Ok(false);
        };
        if row.head.version != version || !row.head.is_active || row.head.revoked_at.is_some() {
            return Ok(false);
        }
        tables.change(id, |row| {
            row.head.expires_at = change.expires_at.unwrap_or(row.head.expires_at);
            row.head.access = change.access.or(row.head.access);
            row.head.refresh = change.refresh.or(row.head.refresh);
            if let Some(data) = change.data {
                row.body.data = data;
            }
        });
        Ok(true)
    }

    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let active = tables
            .sessions
            .get(&id)
            .is_some_and(|row| row.head.is_active);
        if active {
            tables.change(id, |row| {
                row.head.is_active = false;
                row.head.revoked_at = Some(at);
            });
        }
        Ok(active)
    }

    async fn list(&self, user: UserId, now: Timestamp, limit: u32) -> Result<Vec<Row>, StoreError> {
        let tables = self.tables();
        let listed = tables.sessions.values().filter(|row| {
            let theirs = row.head.user.as_ref().is_some_and(|owner| owner.id == user);
            theirs && row.head.is_active && row.head.expires_at > now
        });
        let mut rows: Vec<Row> = listed.map(|row| tables.read(row)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.body.last_seen_at));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    /// Rule 3: nothing is left out; what is cut off at the limit is said to be missing.
    async fn changes(&self, since: Mark, limit: u32) -> Result<Changes, StoreError> {
        let tables = self.tables();
        let rows = tables.sessions.values().map(|row| Changed {
            id: row.head.id,
            version: row.head.version,
            mark: row.changed_at,
        });
        let deleted = tables.deleted.iter().map(|(&id, &mark)| Changed {
            id,
            version: Version::DELETED,
            mark,
        });
        let mut sessions: Vec<_> = rows.chain(deleted).filter(|c| c.mark >= since).collect();
        sessions.sort_by_key(|changed| std::cmp::Reverse(changed.mark));
        let complete_since = match sessions.get(limit as usize) {
            Some(first_cut) => Mark::new(first_cut.mark.get() + 1),
            None => since,
        };
        sessions.truncate(limit as usize);
        Ok(Changes {
            up_to: Mark::new(tables.mark + 1),
            complete_since,
            sessions,
            // Rule 4: what is in memory is never put back to an older state.
            lineage: Lineage::ONLY,
        })
    }

    async fn prune(
        &self,
        now: Timestamp,
        keep: Retention,
        limit: u32,
    ) -> Result<Pruned, StoreError> {
        let mut tables = self.tables();
        let over = |row: &&Row| row.head.expires_at < now - keep.expired;
        let rows = tables.sessions.values().filter(over).take(limit as usize);
        let over: Vec<SessionId> = rows.map(|row| row.head.id).collect();
        for id in &over {
            tables.mark += 1;
            let mark = Mark::new(tables.mark);
            tables.sessions.remove(id);
            tables.deleted.insert(*id, mark);
        }
        Ok(Pruned {
            sessions: over.len() as u64,
            tombstones: 0,
        })
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryStore::default());
    let tiers: Tiers<()> = Tiers::builder(TierConfig::default(), TokenKeys::random())
        .store(store)
        .start()
        .await?;
    let issued = tiers.login(Login::user(7)).await?;
    let session = tiers.find(issued.access.clone()).await?;
    assert_eq!(session.user().unwrap().username.as_ref(), "user7");
    tiers.revoke(session.id()).await?;
    assert!(tiers.find(issued.access).await.is_err());
    println!("a session was found in {}, and revoked", session.tier());
    Ok(())
}
