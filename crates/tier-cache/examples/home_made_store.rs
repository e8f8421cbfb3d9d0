//! A cold tier of one's own: here in memory, where one lock is a transaction.
//!
//! Each rule of `ColdStore` is named where it is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_core::{
    Head, Key, Lineage, Mark, SessionId, Timestamp, TokenKeys, User, UserId, Version,
};
use tier_cache::cold::{
    Change, Changed, Changes, ColdStore, Created, Cursor, Limit, NewSession, Pruned, RawBody,
    Retention, Row, Scope, WhenFull,
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

    /// Those sessions that can be accepted now, the most recently seen first.
    fn live(&self, now: Timestamp, theirs: impl Fn(&Row) -> bool) -> Vec<SessionId> {
        let live = |row: &&Row| accepted(row) && row.head.expires_at > now && theirs(row);
        let mut rows: Vec<&Row> = self.sessions.values().filter(live).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.head.last_seen_at, row.head.id)));
        rows.into_iter().map(|row| row.head.id).collect()
    }

    /// Rule 2: a read says which changes it contains, all of those numbered below the mark.
    fn read(&self, row: &Row) -> Row {
        let mut row = row.clone();
        row.head.as_of = Mark::new(self.mark + 1);
        row
    }
}

fn accepted(row: &Row) -> bool {
    row.head.is_active && row.head.revoked_at.is_none()
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

    /// One lock is a transaction: who holds it counts, makes room and adds, with nobody between.
    async fn create(&self, new: NewSession, limit: Option<Limit>) -> Result<Created, StoreError> {
        let mut tables = self.tables();
        let (now, user) = (new.last_seen_at, new.user);
        let mut live = tables.live(now, |row| {
            user.is_some() && row.head.user.as_ref().map(|owner| owner.id) == user
        });
        if let Some((old, version)) = new.replaces {
            let row = tables.sessions.get(&old);
            if !row.is_some_and(|row| row.head.version == version && accepted(row)) {
                return Ok(Created::Overtaken);
            }
            live.retain(|id| *id != old);
        }
        let most = limit.map_or(usize::MAX, |limit| limit.most as usize);
        if limit.is_some_and(|limit| limit.when_full == WhenFull::Refuse) && live.len() >= most {
            return Ok(Created::Full);
        }
        // The most recently seen come first.
        let revoked = live.split_off((most - 1).min(live.len()));
        for id in revoked
            .iter()
            .copied()
            .chain(new.replaces.map(|(old, _)| old))
        {
            tables.change(id, |row| row.head.revoked_at = Some(now));
        }
        tables.mark += 1;
        let row = Row {
            head: Head {
                // Here the application would join its own table of users.
                user: new.user.map(|id| User {
                    id,
                    email: format!("user{id}@example.com").into(),
                    username: format!("user{id}").into(),
                }),
                idle_ttl: new.idle_ttl,
                authenticated_at: new.authenticated_at,
                assurance: new.assurance,
                access: new.access,
                refresh: new.refresh,
                ..Head::new(new.id, now, new.expires_at)
            },
            changed_at: Mark::new(tables.mark),
            lineage: Lineage::ONLY,
            read_at: now,
            ttl: new.ttl,
            rotation: None,
            body: RawBody {
                device: new.device,
                created_at: new.created_at,
                data: new.data,
            },
        };
        tables.sessions.insert(new.id, row);
        Ok(Created::Yes { revoked })
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
        if row.head.version != version || !accepted(row) {
            return Ok(false);
        }
        tables.change(id, |row| {
            row.head.expires_at = change.expires_at.unwrap_or(row.head.expires_at);
            row.head.access = change.access.or(row.head.access);
            row.head.refresh = change.refresh.or(row.head.refresh);
            row.rotation = change.rotation.or(row.rotation);
            row.body.device.label = change.label.or(row.body.device.label.take());
            if let Some(data) = change.data {
                row.body.data = data;
            }
        });
        Ok(true)
    }

    async fn revoke(&self, id: SessionId, at: Timestamp) -> Result<bool, StoreError> {
        let scope = Scope::everyone().only(id);
        Ok(!self.revoke_all(scope, at, 1).await?.is_empty())
    }

    async fn revoke_all(
        &self,
        scope: Scope,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let mut tables = self.tables();
        let in_scope = tables.sessions.values().filter(|row| {
            let owner = row.head.user.as_ref().map(|user| user.id);
            accepted(row)
                && (scope.user.is_none() || scope.user == owner)
                && scope.only.is_none_or(|only| only == row.head.id)
                && scope.except != Some(row.head.id)
                && scope
                    .begun_before
                    .is_none_or(|end| row.body.created_at < end)
        });
        let ids: Vec<SessionId> = in_scope
            .map(|row| row.head.id)
            .take(limit as usize)
            .collect();
        for id in &ids {
            tables.change(*id, |row| row.head.revoked_at = Some(at));
        }
        Ok(ids)
    }

    /// Rule 1: no change that matters, so it raises no version.
    async fn touch(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        interval: Duration,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let mut noted = 0;
        for (id, at) in seen {
            if let Some(row) = tables.sessions.get_mut(&id)
                && row.head.last_seen_at + interval <= at
            {
                row.head.last_seen_at = at;
                noted += 1;
            }
        }
        Ok(noted)
    }

    async fn list(
        &self,
        user: UserId,
        now: Timestamp,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<Row>, StoreError> {
        let tables = self.tables();
        let comes = |head: &Head| {
            after.is_none_or(|after| (head.last_seen_at, head.id) < (after.last_seen_at, after.id))
        };
        let theirs = |row: &Row| {
            let owner = row.head.user.as_ref();
            owner.is_some_and(|owner| owner.id == user) && comes(&row.head)
        };
        let listed = tables.live(now, theirs).into_iter().take(limit as usize);
        Ok(listed
            .map(|id| tables.read(&tables.sessions[&id]))
            .collect())
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
            begun: None,
            moved: None,
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
