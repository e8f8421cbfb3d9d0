//! How the caches come to know what was written: the database first, then they.
//!
//! Each write runs in a task of its own, so that a client who goes away between the commit and
//! the caches leaves no cache behind the times for longer than need be. A cache that cannot be
//! written fails nothing: the fence holds without it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use session_core::{Head, Key, KeyHash, SessionId, Standing, UserId, Version};

use super::admission::AdmissionPermit;
use super::cold_loader::left_alone;
use super::load::warm_record;
use super::verdict::{Presented, Verdict, verdict};
use super::{Shared, Tiers};
use crate::clock::Now;
use crate::cold::{Changed, Row};
use crate::data::SessionData;
use crate::error::{Error, Refusal};
use crate::hot::Entry;
use crate::session::{Session, Tier};
use crate::warm::{RecordTtl, WarmRecord};

impl<D: SessionData> Tiers<D> {
    /// Drives a write to its end even if the caller goes away.
    pub(super) async fn write<T, F>(
        &self,
        permit: &AdmissionPermit,
        work: impl FnOnce(Arc<Shared<D>>) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let shared = self.shared();
        if shared.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let circuit = shared.cold_loader.circuit();
        if !circuit.may_ask() {
            return Err(left_alone().into());
        }
        let (work, permit) = (work(Arc::clone(shared)), permit.clone());
        let work = async move {
            let _permit = permit;
            work.await
        };
        match shared.tasks.spawn(work).await {
            // A failure may be the row's, which somebody has locked; so it does not count.
            Ok(result) => result.inspect(|_| circuit.answered()),
            Err(_) => Err(Error::ShuttingDown),
        }
    }
}

impl<D: SessionData> Shared<D> {
    /// Reads back what was written, and makes every cache know it. Read by a statement of its
    /// own, whose snapshot is later than the commit: the one that wrote may have seen an older
    /// user.
    pub(super) async fn land_written(
        self: &Arc<Self>,
        id: SessionId,
        tiers: Tiers<D>,
        presented: Presented,
    ) -> Result<Session<D>, Error> {
        let generation = self.hot.generation();
        let Some(row) = self.store.load(Key::Id(id)).await? else {
            return Err(Refusal::Unknown.into());
        };
        self.raise_to(&row);
        let now = self.clock.now();
        self.tell(&row, now).await;
        let entry = Arc::new(Entry::cold(row, now, generation, &self.hot));
        // A floor that was raised meanwhile keeps it out of the cache; it is still what was
        // written.
        self.hot
            .insert(Arc::clone(&entry), |head| self.admits(head));
        match verdict(&entry, Presented::Nothing, now) {
            Verdict::Accepted => Ok(Session::new(tiers, entry, Tier::Cold, presented)),
            refused => Err(refused.into_refusal().into()),
        }
    }

    /// Makes every cache know that a session was revoked, and says whose it was. It is committed,
    /// so nothing here can fail it: what does not hear of it now hears of it by the feed.
    pub(super) async fn bury(self: &Arc<Self>, id: SessionId) -> Option<UserId> {
        match self.store.load(Key::Id(id)).await {
            Ok(Some(row)) => {
                self.bury_row(&row).await;
                row.head.user.map(|user| user.id)
            }
            Ok(None) => {
                self.hot.remove_below(id, Version::DELETED);
                None
            }
            Err(error) => {
                self.hot.remove_below(id, Version::DELETED);
                self.told.notify_one();
                tracing::warn!(%error, session = %id, "revoked; the caches hear of it by the feed");
                None
            }
        }
    }

    pub(super) async fn bury_row(&self, row: &Row) {
        self.raise_to(row);
        let now = self.clock.now();
        if row.head.standing(now.wall) != Standing::Valid {
            self.tell(row, now).await;
        }
    }

    /// From now on nothing older than this row is served here.
    fn raise_to(&self, row: &Row) {
        let Head { id, version, .. } = row.head;
        self.fence.saw(row.lineage, row.head.as_of);
        match self.fence.lineage() == Some(row.lineage) {
            true if is_new(row) => {}
            true => self.raise(id, version, row.changed_at),
            // The feed has yet to learn where it is.
            false => self.hot.remove_below(id, Version::DELETED),
        }
    }

    /// Applies a row to the warm tier, and pushes its version to the other nodes, unless it is the
    /// first: they can hold nothing older.
    async fn tell(&self, row: &Row, now: Now) {
        let Some(warm) = &self.warm else { return };
        let push = Changed {
            id: row.head.id,
            version: row.head.version,
            mark: row.changed_at,
        };
        let keys: Vec<KeyHash> = row.head.foreign_keys().collect();
        let config = &self.config.warm;
        let term = RecordTtl::from_now(row.head.expires_at, now.wall, config);
        let (record, ttl) = match (row.head.standing(now.wall), term) {
            (Standing::Valid, Some(term)) => (warm_record(row, config.holds, term.ends), term.ttl),
            (_, Some(term)) => (tombstone(row), term.ttl),
            // Over already: a trace is still left for the loads that are under way.
            (_, None) => (tombstone(row), Duration::from_secs(60)),
        };
        if is_new(row) {
            warm.fill(&record, row.lineage, ttl).await;
            return;
        }
        warm.apply(&record, &keys, push, row.lineage, ttl).await;
    }
}

/// Whether a row is as it was when it was created.
fn is_new(row: &Row) -> bool {
    row.head.version == Version::FIRST && row.head.is_active && row.head.revoked_at.is_none()
}

fn tombstone(row: &Row) -> WarmRecord {
    WarmRecord::Tombstone {
        id: row.head.id,
        version: row.head.version,
        as_of: row.head.as_of,
    }
}
