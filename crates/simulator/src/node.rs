//! One node, as far as a replay needs it.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::reads::{Reads, Rules};
use crate::setting::Setting;
use crate::shelf::Shelf;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) shelf: Shelf<Entry>,
    pub(crate) reads: Reads,
    /// Uses that are to be noted in the database, by session; a seed has them noted in the same order.
    pub(crate) touches: HashMap<u64, f64, FixedState>,
}

impl Node {
    pub(crate) fn new(setting: &Setting) -> Self {
        Self {
            shelf: Shelf::new(setting.config.hot.capacity.as_u64(), setting.caches_age),
            reads: Reads::new(Rules::of(setting)),
            touches: HashMap::default(),
        }
    }
}

impl Rules {
    pub(crate) fn of(setting: &Setting) -> Self {
        let cold = &setting.config.cold;
        Self {
            statements: cold.load_concurrency.min(cold.pool_size).max(1),
            batch: cold.batch_size,
            takes: setting.statement.as_secs_f64(),
        }
    }
}

/// A hot session, as `tier-cache/src/hot.rs` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Until then it is being loaded; whoever asks for it waits for that.
    pub(crate) ready: f64,
    /// Its body is here too.
    pub(crate) whole: bool,
    /// From then on it is not hot any more.
    pub(crate) ends: f64,
    /// When it was last used, as this node knows; to the second.
    pub(crate) seen: f64,
    /// The same as far as the database knows, or is about to be told.
    pub(crate) noted: f64,
}

impl Entry {
    /// Notes a use. Says whether the database is to be told.
    pub(crate) fn touch(&mut self, now: f64, interval: f64) -> bool {
        if now - self.seen < 1.0 {
            return false;
        }
        self.seen = now;
        let due = now - self.noted >= interval;
        if due {
            self.noted = now;
        }
        due
    }

    /// Whether it is to be loaded anew, if loads take so long; `chance` is from 0 to 1.
    pub(crate) fn is_due(&self, now: f64, load: f64, chance: f64) -> bool {
        let early = load * -chance.max(f64::MIN_POSITIVE).ln();
        now + early >= self.ends
    }
}
