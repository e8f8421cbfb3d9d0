//! Loading sessions before anybody asks for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use session_core::{Key, SessionId, Standing};
use tokio::time::{Instant, sleep_until};

use super::backfill::Fill;
use super::load::{fill, keep};
use super::{Shared, Tiers};
use crate::cold::ColdStore;
use crate::data::SessionData;
use crate::error::Error;

/// Which sessions to load before anybody asks for them, and how fast.
///
/// ```
/// # use tier_cache::WarmUp;
/// let gently = WarmUp::recent(50_000).per_second(2_000);
/// # let _ = gently;
/// ```
#[derive(Clone, Debug)]
pub struct WarmUp {
    which: Which,
    per_second: u32,
}

#[derive(Clone, Debug)]
enum Which {
    Recent(u32),
    These(Vec<SessionId>),
}

impl WarmUp {
    /// Those that were seen last, and can be accepted now; at most so many.
    ///
    /// To find them the database sorts its sessions once, without an index: one on when they were
    /// last seen would cost each use of a session more.
    pub fn recent(most: u32) -> Self {
        Self {
            which: Which::Recent(most),
            per_second: 5_000,
        }
    }

    /// These, as far as there are such.
    pub fn these(ids: impl IntoIterator<Item = SessionId>) -> Self {
        Self {
            which: Which::These(ids.into_iter().collect()),
            per_second: 5_000,
        }
    }

    /// Sessions in a second at most, from 1; by default 5,000. So that those who wait for theirs do
    /// not wait behind these.
    #[must_use]
    pub fn per_second(mut self, sessions: u32) -> Self {
        self.per_second = sessions.max(1);
        self
    }
}

/// How far a [`WarmUp`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmedUp {
    /// Sessions that were asked for so far.
    pub done: u64,
    /// Those of them that are hot now, and warm where there is a warm tier that takes them.
    pub loaded: u64,
    /// Sessions to be asked for in all.
    pub of: u64,
}

impl<D: SessionData> Tiers<D> {
    /// Loads sessions into the tiers before anybody asks for them: after a start, or when Redis has
    /// come back empty. Tells `progress` of each step, first of all of none done.
    ///
    /// The hot tier keeps no more than `hot.capacity`; those that were seen last come first. One
    /// statement reads `cold.batch_size` of them.
    ///
    /// Cancellation-safe: if the future is dropped, what was loaded until then stays.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database could not be read; what was loaded until then stays. It may
    /// be called again.
    #[tracing::instrument(level = "debug", name = "session.warm_up", skip_all)]
    pub async fn warm_up(
        &self,
        warm_up: WarmUp,
        mut progress: impl FnMut(WarmedUp),
    ) -> Result<WarmedUp, Error> {
        let shared = self.shared();
        let mut ids: VecDeque<SessionId> = match warm_up.which {
            Which::These(ids) => ids.into(),
            Which::Recent(most) => {
                let now = shared.clock.now().wall;
                let recent = async move |store: Arc<dyn ColdStore>| store.recent(now, most).await;
                shared.run_detached(recent).await?.into()
            }
        };
        let step = shared
            .config
            .cold
            .batch_size
            .min(warm_up.per_second as usize);
        let mut so_far = WarmedUp {
            of: ids.len() as u64,
            ..WarmedUp::default()
        };
        progress(so_far);
        let mut next = Instant::now();
        while !ids.is_empty() {
            sleep_until(next).await;
            let batch: Vec<Key> = ids.drain(..step.min(ids.len())).map(Key::Id).collect();
            let count = batch.len() as u64;
            // Not to be made up for: a database that is slow is not hurried afterwards.
            next = Instant::now()
                + Duration::from_secs_f64(count as f64 / f64::from(warm_up.per_second));
            so_far.loaded += shared.bring(batch).await?;
            so_far.done += count;
            progress(so_far);
        }
        Ok(so_far)
    }
}

impl<D: SessionData> Shared<D> {
    /// Brings sessions into the hot tier and the warm one; says how many.
    async fn bring(&self, keys: Vec<Key>) -> Result<u64, Error> {
        let generation = self.hot.generation();
        let load = async move |store: Arc<dyn ColdStore>| store.load_many(keys).await;
        let mut rows = self.run_detached(load).await?;
        let now = self.clock.now();
        for row in &rows {
            self.fence.saw(row.lineage, row.head.as_of);
        }
        rows.retain(|row| {
            // One of another history is out of date, or we are; the feed finds out which.
            self.fence
                .lineage()
                .is_none_or(|known| known == row.lineage)
                && row.head.standing(now.wall) == Standing::Valid
                && self.admits(&row.head)
        });
        if let Some(warm) = &self.warm {
            let fills: Vec<Fill> = rows.iter().filter_map(|row| fill(self, row, now)).collect();
            join_all(fills.iter().map(|fill| fill.send(warm))).await;
        }
        let kept = rows
            .into_iter()
            .filter_map(|row| keep(self, row, now, generation));
        Ok(kept.count() as u64)
    }
}
