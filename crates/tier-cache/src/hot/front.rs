//! The front of the hot tier: sessions by their tokens as they are written.
//!
//! A token that was accepted a moment ago is [known again](Fingerprints): neither is it read nor its
//! secret hashed, and moka, which keeps account of each read, is not asked. The place of a session is
//! one line of the processor's caches, which also tells sessions apart that have the same place; who
//! finds one there looks at the entry itself whether it [is known](Entry::is_known_by) by this token.
//!
//! The front holds nothing that was taken out of moka. Whoever changes what moka holds of a session
//! has the front [forget](Front::forget) it *afterwards*. And whoever brings an entry to the
//! front has taken a [`Ticket`] of its place *before* asking moka; it is turned away if the place
//! was told to forget since. So an entry that is found here was still in moka when it was last told.
//! What moka drops by itself, to make room or at its end, is found no longer than somebody else
//! holds it: the front counts for nothing ([`Weak`]). An entry that ends has the front
//! [let go](Front::let_go) of its memory.

use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, Weak};

use bytesize::ByteSize;
use parking_lot::Mutex;
use session_core::{Fingerprints, Stem, WrittenToken};

use super::Entry;
use crate::sync::step;

/// Sessions that have one place. So many and the rest of a [`Place`] are 64 bytes.
const WAYS: usize = 6;

pub(super) struct Front<D> {
    fingerprints: Fingerprints,
    places: Box<[Place<D>]>,
}

/// A line of the processor's caches.
#[repr(align(64))]
struct Place<D>(Mutex<Ways<D>>);

struct Ways<D> {
    /// How often it was told to forget.
    forgotten: u32,
    tags: Tags,
    /// Those that came last first.
    entries: [Option<Weak<Entry<D>>>; WAYS],
}

/// A few bits of each session that is kept here, so that next to no other entry is looked at.
#[derive(Clone, Copy, Default)]
struct Tags(u32);

impl Tags {
    const BITS: u32 = 5;
    const MASK: u32 = (1 << Self::BITS) - 1;

    fn get(self, way: usize) -> u32 {
        (self.0 >> (Self::BITS * way as u32)) & Self::MASK
    }

    fn set(&mut self, way: usize, tag: u32) {
        let shift = Self::BITS * way as u32;
        self.0 = (self.0 & !(Self::MASK << shift)) | (tag << shift);
    }
}

/// Where a session is looked for.
#[derive(Clone, Copy)]
struct Spot {
    place: usize,
    tag: u32,
}

/// Lets an entry into the front that moka is asked for from here on.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u32);

/// What the front says of a session before it is shown the whole token.
#[derive(Clone, Copy)]
pub(crate) struct Glimpse {
    /// Whether it is worth showing it.
    pub(crate) may_be_known: bool,
    pub(crate) ticket: Ticket,
}

impl<D> Front<D> {
    /// Room for nearly all sessions that the hot tier of this capacity holds.
    pub(super) fn new(capacity: ByteSize) -> Self {
        /// Bytes of capacity for each place: three to four sessions'.
        const PLACE: u64 = 2340;
        const LEAST: u64 = 64;
        const MOST: u64 = 1 << 20;
        let places = (capacity.as_u64() / PLACE).clamp(LEAST, MOST);
        Self {
            fingerprints: Fingerprints::random(),
            places: (0..places).map(|_| Place::default()).collect(),
        }
    }

    /// The entry that this token was accepted for; and whether moka is to be told of this hit, for
    /// the account by which it keeps what is used most.
    #[inline]
    pub(super) fn get(&self, token: WrittenToken<'_>) -> Option<(Arc<Entry<D>>, bool)> {
        /// Of so many hits one, by chance.
        const TOLD: u8 = 16;
        let spot = self.spot(token.stem());
        // The line is on its way here while the token is hashed.
        black_box(self.places[spot.place].0.is_locked());
        let known = self.fingerprints.of(token);
        let mut from = 0;
        loop {
            let (way, entry) = self.with(spot, |ways| ways.find(spot.tag, from))?;
            entry.fetch();
            // Not before the lock is given back: what is dropped here may be the last of it.
            if entry.is_known_by(known) {
                return Some((entry, fastrand::u8(..TOLD) == 0));
            }
            from = way + 1;
        }
    }

    /// To be had before moka is asked for what is to be [brought](Self::bring).
    pub(super) fn glimpse(&self, stem: Stem) -> Glimpse {
        let spot = self.spot(stem);
        self.with(spot, |ways| Glimpse {
            may_be_known: ways.may_hold(spot.tag),
            ticket: Ticket(ways.forgotten),
        })
    }

    /// Knows this token from now on, which was accepted for this entry, unless its place was told
    /// to forget since the ticket was taken.
    pub(super) fn bring(&self, token: WrittenToken<'_>, entry: &Arc<Entry<D>>, ticket: Ticket) {
        let known = self.fingerprints.of(token);
        let spot = self.spot(token.stem());
        self.with(spot, |ways| {
            if ways.forgotten == ticket.0 {
                entry.know_by(known);
                ways.put(spot.tag, entry);
            }
        });
    }

    /// Forgets the session of this stem, and what cannot be told apart from it here.
    pub(super) fn forget(&self, stem: Stem) {
        let spot = self.spot(stem);
        self.with(spot, |ways| {
            ways.forgotten = ways.forgotten.wrapping_add(1);
            for (way, entry) in ways.entries.iter_mut().enumerate() {
                if ways.tags.get(way) == spot.tag {
                    *entry = None;
                }
            }
        });
    }

    /// Holds on no longer to entries of this stem that nobody else holds. No part of the protocol, since
    /// such are not found; so nobody is turned away for it.
    pub(super) fn let_go(&self, stem: Stem) {
        let spot = self.spot(stem);
        let mut ways = self.places[spot.place].0.lock();
        for entry in &mut ways.entries {
            if entry
                .as_ref()
                .is_some_and(|entry| entry.strong_count() == 0)
            {
                *entry = None;
            }
        }
    }

    /// How many entries it keeps from being freed.
    #[cfg(test)]
    pub(super) fn references(&self) -> usize {
        let places = self.places.iter();
        let held = places.map(|place| place.0.lock().entries.iter().flatten().count());
        held.sum()
    }

    #[inline]
    fn spot(&self, stem: Stem) -> Spot {
        // The bits of an id are random, or in ids of others' making at least different.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let [first, second] = stem.halves();
        let mixed = u128::from(first ^ ODD) * u128::from(second | 1);
        let mixed = mixed as u64 ^ (mixed >> 64) as u64;
        let upper = u128::from(mixed.wrapping_mul(ODD));
        Spot {
            place: ((upper * self.places.len() as u128) >> 64) as usize,
            tag: mixed as u32 & Tags::MASK,
        }
    }

    #[inline]
    fn with<T>(&self, spot: Spot, then: impl FnOnce(&mut Ways<D>) -> T) -> T {
        step();
        then(&mut self.places[spot.place].0.lock())
    }
}

impl<D> fmt::Debug for Front<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("places", &self.places.len())
            .finish_non_exhaustive()
    }
}

impl<D> Ways<D> {
    fn may_hold(&self, tag: u32) -> bool {
        let mut ways = self.entries.iter().enumerate();
        ways.any(|(way, entry)| entry.is_some() && self.tags.get(way) == tag)
    }

    /// The first entry of this tag that somebody holds, from a way on.
    #[inline]
    fn find(&self, tag: u32, from: usize) -> Option<(usize, Arc<Entry<D>>)> {
        (from..WAYS).find_map(|way| {
            let entry = self.entries[way].as_ref();
            let entry = entry.filter(|_| self.tags.get(way) == tag)?;
            Some((way, entry.upgrade()?))
        })
    }

    /// In its own way, else in one that is free, else in place of the one that came first.
    fn put(&mut self, tag: u32, entry: &Arc<Entry<D>>) {
        let is_own = |kept: &Option<Weak<Entry<D>>>| {
            let kept = kept.as_ref().map(Weak::as_ptr);
            kept == Some(Arc::as_ptr(entry))
        };
        let ways = &mut self.entries;
        let way = ways.iter().position(is_own);
        let way = way.or_else(|| ways.iter().position(Option::is_none));
        let way = way.unwrap_or_else(|| {
            ways.rotate_right(1);
            self.tags.0 <<= Tags::BITS;
            0
        });
        self.entries[way] = Some(Arc::downgrade(entry));
        self.tags.set(way, tag);
    }
}

impl<D> Default for Place<D> {
    fn default() -> Self {
        Self(Mutex::new(Ways {
            forgotten: 0,
            tags: Tags::default(),
            entries: Default::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_line_of_the_processors_caches() {
        assert_eq!(size_of::<Place<String>>(), 64);
        assert_eq!(align_of::<Place<String>>(), 64);
    }

    #[test]
    fn tags_stand_side_by_side() {
        let mut tags = Tags::default();
        (0..WAYS).for_each(|way| tags.set(way, 31 - way as u32));
        tags.set(2, 7);
        let found: Vec<u32> = (0..WAYS).map(|way| tags.get(way)).collect();
        assert_eq!(found, [31, 30, 7, 28, 27, 26]);
    }

    #[test]
    fn nearly_all_sessions_that_there_is_room_for_find_room_here() {
        const SESSIONS: u64 = 100_000;
        let front = Front::<()>::new(ByteSize(SESSIONS * 640));
        let mut places = vec![0; front.places.len()];
        for _ in 0..SESSIONS {
            let stem = Stem::of(session_core::SessionId::random());
            places[front.spot(stem).place] += 1;
        }
        let crowded: usize = places.iter().filter(|&&sessions| sessions > WAYS).sum();
        assert!(crowded < SESSIONS as usize / 5, "{crowded}");
    }
}
