//! The front of the hot tier: the sessions of the last requests, by their tokens as they are
//! written.
//!
//! A token that was accepted a moment ago is [known again](Fingerprints): neither is it read nor its
//! secret hashed, and moka, which keeps account of each read, is not asked.
//!
//! The front holds nothing that was taken out of moka. Whoever changes what moka holds of a session
//! has the front [forget](Front::forget) its bucket *afterwards*. And whoever brings an entry to the
//! front has taken a [`Ticket`] of the bucket *before* asking moka; it is turned away if the bucket
//! was told to forget since. So an entry that is found here was still in moka when it was last told.
//! What moka drops by itself, to make room or at its end, is found no longer than somebody else
//! holds it: the front counts for nothing ([`Weak`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytesize::ByteSize;
use session_core::{Fingerprint, Fingerprints, Stem, WrittenToken};

use super::Entry;
use crate::sync::step;

pub(super) struct Front<D> {
    fingerprints: Fingerprints,
    /// As many as a power of two.
    buckets: Box<[Mutex<Bucket<D>>]>,
}

/// Two tokens that are looked for in one place, so that one of them does not drive the other out.
struct Bucket<D> {
    /// How often it was told to forget.
    forgotten: u32,
    hits: u8,
    /// The one that came last is first.
    ways: [Option<Way<D>>; 2],
}

struct Way<D> {
    token: Fingerprint,
    entry: Weak<Entry<D>>,
}

/// Lets an entry into the front that moka is asked for from here on.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u32);

impl<D> Front<D> {
    /// Room for a third to a half of the sessions that the hot tier of this capacity holds: those that
    /// are asked for most.
    pub(super) fn new(capacity: ByteSize) -> Self {
        /// Bytes of capacity for each session that there is room for here.
        const SESSION: u64 = 1024;
        const LEAST: u64 = 64;
        const MOST: u64 = 1 << 20;
        let buckets = (capacity.as_u64() / SESSION / 2).clamp(LEAST, MOST);
        Self {
            fingerprints: Fingerprints::random(),
            buckets: (0..1 << buckets.ilog2())
                .map(|_| Mutex::default())
                .collect(),
        }
    }

    /// The entry that this token was accepted for; and whether moka is to be told of this hit, for
    /// the account by which it keeps what is used most.
    #[inline]
    pub(super) fn get(&self, token: WrittenToken<'_>) -> Option<(Arc<Entry<D>>, bool)> {
        /// Of so many hits one. A prime, so that of those who take turns here none goes untold.
        const TOLD: u8 = 17;
        let known = self.fingerprints.of(token);
        let mut bucket = self.bucket(token.stem());
        let way = bucket.ways.iter().flatten().find(|way| way.token == known);
        let entry = way?.entry.upgrade()?;
        bucket.hits = (bucket.hits + 1) % TOLD;
        Some((entry, bucket.hits == 0))
    }

    /// To be taken before moka is asked for what is to be [brought](Self::bring).
    pub(super) fn ticket(&self, token: WrittenToken<'_>) -> Ticket {
        Ticket(self.bucket(token.stem()).forgotten)
    }

    /// Knows this token from now on, which was accepted for this entry, unless its bucket was told
    /// to forget since the ticket was taken.
    pub(super) fn bring(&self, token: WrittenToken<'_>, entry: &Arc<Entry<D>>, ticket: Ticket) {
        let brought = Way {
            token: self.fingerprints.of(token),
            entry: Arc::downgrade(entry),
        };
        let mut bucket = self.bucket(token.stem());
        if bucket.forgotten != ticket.0 {
            return;
        }
        let [first, second] = &mut bucket.ways;
        if first.as_ref().is_some_and(|way| way.token != brought.token) {
            std::mem::swap(first, second);
        }
        *first = Some(brought);
    }

    /// Forgets the session of this stem, and whatever shares its bucket.
    pub(super) fn forget(&self, stem: Stem) {
        let mut bucket = self.bucket(stem);
        bucket.forgotten = bucket.forgotten.wrapping_add(1);
        bucket.ways = [None, None];
    }

    /// How many entries it keeps from being freed.
    #[cfg(test)]
    pub(super) fn references(&self) -> usize {
        let buckets = self.buckets.iter();
        let ways = buckets.map(|bucket| bucket.lock().unwrap().ways.iter().flatten().count());
        ways.sum()
    }

    #[inline]
    fn bucket(&self, stem: Stem) -> MutexGuard<'_, Bucket<D>> {
        step();
        // The bits of an id are random, or in ids of others' making at least different.
        let [first, second] = stem.halves();
        let mixed = u128::from(first ^ 0x9e37_79b9_7f4a_7c15) * u128::from(second | 1);
        let place = (mixed as u64 ^ (mixed >> 64) as u64) as usize & (self.buckets.len() - 1);
        // Nothing panics while holding it.
        self.buckets[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D> Default for Bucket<D> {
    fn default() -> Self {
        Self {
            forgotten: 0,
            hits: 0,
            ways: [None, None],
        }
    }
}
