//! The hot tier: whole typed sessions in the process, in moka.

mod entry;
mod front;
mod shelf;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;
use moka::sync::Cache;
use session_core::{Head, KeyHash, SessionId, Stem, Version, WrittenToken};

pub(crate) use self::entry::Entry;
use self::front::Front;
pub(crate) use self::front::{Glimpse, Ticket};
use self::shelf::Shelf;
use crate::clock::Moment;
use crate::config::HotConfig;
use crate::error::Refusal;
use crate::sync::AtomicU32;

/// How often the hot tier has been cleared. What was asked for in an earlier generation may be of
/// a history that the database no longer has, however late the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u32);

/// How often refused tokens have been forgotten. A refusal that was asked for before that may rest on
/// what is not so any more, however late it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u32);

/// Why a token was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Taken before the database was asked.
    pub(crate) asked: Asked,
    pub(crate) why: Refusal,
    /// The session that the token names.
    pub(crate) session: SessionId,
    /// Its version then: a later one may take the token again. [`Version::DELETED`] if there was none.
    pub(crate) version: Version,
    /// Until when it holds if there was no session: no feed tells of one that was put there since.
    pub(crate) until: Moment,
}

/// Sessions by id, with lookup entries beside them: for foreign keys, and for whatever else a
/// session was asked for by.
pub(crate) struct Hot<D> {
    sessions: Shelf<D>,
    /// Those of them that were asked for last.
    front: Arc<Front<D>>,
    lookups: Cache<KeyHash, SessionId, RandomState>,
    /// Minted tokens that the database has refused.
    refused: Cache<KeyHash, Refused, RandomState>,
    /// Those of another [`Asked`] are misses. Not of [`crate::sync`]: nobody reads it but for a token that
    /// was refused.
    forgotten: std::sync::atomic::AtomicU32,
    /// How long a session is hot.
    ttl: Duration,
    /// Entries of another [`Generation`] are misses.
    generation: AtomicU32,
}

impl<D: Send + Sync + 'static> Hot<D> {
    pub(crate) fn new(config: &HotConfig) -> Self {
        /// A lookup entry: moka's part, the key and the id.
        const LOOKUP: u32 = 300;
        /// A client that goes on with a token that is over costs one query in this time.
        const REFUSED: Duration = Duration::from_secs(30);
        let capacity = config.capacity.as_u64();
        Self {
            sessions: Shelf::new(capacity, config.ttl),
            front: Arc::new(Front::new(config.capacity)),
            ttl: config.ttl,
            lookups: Cache::builder()
                .name("session lookups")
                .max_capacity(capacity / 4)
                .weigher(|_, _| LOOKUP)
                .time_to_live(config.ttl)
                .build_with_hasher(RandomState::default()),
            refused: Cache::builder()
                .name("refused tokens")
                .max_capacity(capacity / 16)
                .weigher(|_, _| LOOKUP)
                .time_to_live(REFUSED)
                .build_with_hasher(RandomState::default()),
            forgotten: 0.into(),
            generation: AtomicU32::new(0),
        }
    }

    /// To be taken before a question is asked whose refusal is to be remembered.
    pub(crate) fn asking(&self) -> Asked {
        Asked(self.forgotten.load(Ordering::Acquire))
    }

    /// Remembers why the database refused a token that we minted, as its session was then.
    pub(crate) fn refuse(&self, token: KeyHash, refused: Refused) {
        if matches!(refused.why, Refusal::Unknown | Refusal::Replaced) {
            self.refused.insert(token, refused);
        }
    }

    /// Why a token was refused a moment ago. The caller asks whether its session has changed since.
    pub(crate) fn refused(&self, token: KeyHash) -> Option<Refused> {
        let refused = self.refused.get(&token)?;
        // It may have been noted after the others were forgotten.
        (refused.asked == self.asking()).then_some(refused)
    }

    /// Forgets all refused tokens, since it is not known any more which sessions have changed.
    pub(crate) fn forget_refused(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.refused.invalidate_all();
    }

    /// The session, if an admitted one is here; for the caller to see whether it is still to be hot.
    /// No I/O, no lock held, nothing allocated.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        self.served(self.sessions.get(id)?)
    }

    /// The same for one who expects nothing.
    pub(crate) fn peek(&self, id: SessionId) -> Option<Arc<Entry<D>>> {
        self.served(self.sessions.peek(id)?)
    }

    fn served(&self, entry: Arc<Entry<D>>) -> Option<Arc<Entry<D>>> {
        (entry.admitted.load(Ordering::Acquire) && self.is_current(&entry)).then_some(entry)
    }

    /// The session of a token that was [brought to the front](Self::bring), if it is still here. No
    /// I/O; nothing allocated but for threads that wait for each other.
    #[inline]
    pub(crate) fn get_known(&self, token: WrittenToken<'_>) -> Option<Arc<Entry<D>>> {
        let (entry, tell) = self.front.get(token)?;
        if tell {
            self.tell(&entry);
        }
        self.is_current(&entry).then_some(entry)
    }

    /// Has moka take account of a hit.
    #[cold]
    fn tell(&self, entry: &Entry<D>) {
        self.sessions.get(entry.head().id);
    }

    /// What the front says of a session at once. To be asked for before the session is
    /// [got](Self::get) that is to be brought there.
    pub(crate) fn glimpse(&self, stem: Stem) -> Glimpse {
        self.front.glimpse(stem)
    }

    /// Has the token known again that was accepted for this entry, with no need to look at it closely.
    pub(crate) fn bring(&self, token: WrittenToken<'_>, entry: &Arc<Entry<D>>, ticket: Ticket) {
        self.front.bring(token, entry, ticket);
    }

    /// To be taken before a question is asked whose answer is to be inserted.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Whether all that was cleared was cleared before this was asked for.
    pub(crate) fn is_current(&self, entry: &Entry<D>) -> bool {
        entry.generation == self.generation()
    }

    /// The session that a lookup entry leads to. The caller compares the key with the head.
    pub(crate) fn get_by(&self, key: KeyHash) -> Option<Arc<Entry<D>>> {
        let id = self.lookups.get(&key)?;
        self.get(id)
    }

    /// Adds a lookup entry to a session that is here.
    pub(crate) fn remember(&self, key: KeyHash, entry: &Entry<D>) {
        self.lookups.insert(key, entry.head().id);
    }

    /// Keeps a session, unless a newer or fuller one is here already; hands out what is kept, or
    /// nothing if the gate refuses it.
    ///
    /// The gate is asked *after* the insert, and readers see the entry only then: a floor that
    /// was raised in between either fails the gate here, or removes the entry afterwards.
    pub(crate) fn insert(
        &self,
        entry: Arc<Entry<D>>,
        gate: impl Fn(&Head) -> bool,
    ) -> Option<Arc<Entry<D>>> {
        let id = entry.head().id;
        let stays = |kept: &Entry<D>| kept.outranks(&entry) && gate(kept.head());
        let (kept, is_new) = self.sessions.put(Arc::clone(&entry), stays);
        if is_new {
            self.front.forget(Stem::of(id));
        }
        for key in kept.head().foreign_keys() {
            self.remember(key, &kept);
        }
        if gate(kept.head()) {
            kept.admitted.store(true, Ordering::Release);
            Some(kept)
        } else {
            self.remove_below(id, Version::DELETED);
            None
        }
    }

    /// Drops what is older than `version`.
    pub(crate) fn remove_below(&self, id: SessionId, version: Version) {
        self.take_below(id, version);
        // Afterwards; and in any case: moka may have dropped what a request still holds.
        self.front.forget(Stem::of(id));
    }

    /// The same in the wrong order, for the test that shows it.
    #[cfg(test)]
    pub(crate) fn forget_and_remove_below(&self, id: SessionId, version: Version) {
        self.front.forget(Stem::of(id));
        self.take_below(id, version);
    }

    fn take_below(&self, id: SessionId, version: Version) {
        // Read past the generation and the admission: what is being inserted goes too.
        self.sessions
            .take_if(id, |kept| kept.head().version < version);
    }

    /// Drops everything, at once: entries of earlier generations are misses from here on.
    pub(crate) fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.sessions.clear();
        self.lookups.invalidate_all();
        self.forget_refused();
    }

    /// Entries and bytes held, after moka has done its pending work.
    pub(crate) fn size(&self) -> (u64, u64) {
        let sessions = self.sessions.settled();
        self.lookups.run_pending_tasks();
        self.refused.run_pending_tasks();
        (
            sessions.entry_count(),
            sessions.weighted_size() + self.lookups.weighted_size() + self.refused.weighted_size(),
        )
    }
}

#[cfg(test)]
mod tests;
