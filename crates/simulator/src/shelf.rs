//! What one node's hot tier holds, by the rules of moka: what is used least recently goes first, and
//! only for what was asked for more often (TinyLFU). What is new is here until that is decided, which is
//! once in so many operations.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

/// No entry, at either end of the list.
const END: u32 = u32::MAX;

/// A cache of bounded weight, on a clock that the caller reads.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    capacity: u64,
    weight: u64,
    places: HashMap<u64, u32, RandomState>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// The ends of the list of uses: longest ago, and last.
    oldest: u32,
    newest: u32,
    /// Entries by the end of their lifetimes, which are all of one length.
    ends: VecDeque<(f64, u64)>,
    asked: Option<Sketch>,
    /// Those of which it is not decided whether they stay.
    waiting: Vec<u64>,
    /// Operations since that was decided last, and when that was.
    reads: u32,
    settled: f64,
    /// Whether it is decided after a while too.
    ages: bool,
}

#[derive(Debug)]
struct Slot<T> {
    key: u64,
    value: T,
    weight: u32,
    until: f64,
    stays: bool,
    older: u32,
    newer: u32,
}

impl<T> Shelf<T> {
    /// One on which time passes or, if it does not age, stands still.
    pub(crate) fn new(capacity: u64, ages: bool) -> Self {
        Self {
            capacity,
            weight: 0,
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: END,
            newest: END,
            ends: VecDeque::new(),
            asked: None,
            waiting: Vec::new(),
            reads: 0,
            settled: 0.0,
            ages,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// An entry that is used by this, if it is here.
    pub(crate) fn get(&mut self, key: u64, now: f64) -> Option<&mut T> {
        self.ask(key);
        self.settle_if_due(now);
        let place = *self.places.get(&key)?;
        if self.slots[place as usize].until <= now {
            return None;
        }
        self.use_now(place);
        Some(&mut self.slots[place as usize].value)
    }

    /// The same without a use of it.
    pub(crate) fn peek(&mut self, key: u64) -> Option<&mut T> {
        let place = *self.places.get(&key)?;
        Some(&mut self.slots[place as usize].value)
    }

    /// Counts a question for a key, whatever becomes of it.
    pub(crate) fn ask(&mut self, key: u64) {
        self.reads += 1;
        if let Some(asked) = &mut self.asked {
            asked.increment(mixed(key));
        }
    }

    /// Keeps a value in place of an older one; or for now, and then if there is room, or if it was asked
    /// for more often than what would have to go for it.
    pub(crate) fn insert(&mut self, key: u64, value: T, weight: u32, until: f64, now: f64) {
        self.settle_if_due(now);
        if let Some(&place) = self.places.get(&key) {
            let slot = &mut self.slots[place as usize];
            if slot.stays {
                self.weight = self.weight - u64::from(slot.weight) + u64::from(weight);
            }
            (slot.value, slot.weight, slot.until) = (value, weight, until);
            self.use_now(place);
            self.note_end(until, key);
            return;
        }
        let slot = Slot {
            key,
            value,
            weight,
            until,
            stays: false,
            older: END,
            newer: END,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.places.insert(key, place);
        self.note_end(until, key);
        self.waiting.push(key);
    }

    /// Drops an entry. Looking for it counts as a question, as it does in moka.
    pub(crate) fn remove(&mut self, key: u64) {
        self.ask(key);
        if let Some(&place) = self.places.get(&key) {
            self.remove_at(place);
        }
    }

    fn settle_if_due(&mut self, now: f64) {
        /// Seconds after which moka does so in any case.
        const PAUSE: f64 = 0.3;
        /// Reads, or inserts, after which it does.
        const FLUSH: u32 = 64;
        let flush = self.reads >= FLUSH || self.waiting.len() >= FLUSH as usize;
        if flush || (self.ages && now >= self.settled + PAUSE) {
            self.settled = now;
            self.settle(now);
        }
    }

    /// Decides which of the new ones stay, and drops what is over.
    pub(crate) fn settle(&mut self, now: f64) {
        self.reads = 0;
        for key in std::mem::take(&mut self.waiting) {
            let Some(&place) = self.places.get(&key) else {
                continue;
            };
            let Slot { weight, stays, .. } = self.slots[place as usize];
            if stays {
                continue;
            }
            if self.makes_room(key, weight) {
                self.slots[place as usize].stays = true;
                self.weight += u64::from(weight);
                self.link(place);
                self.count_from_half_full_on();
            } else {
                self.remove_at(place);
            }
        }
        self.expire(now);
        while self.weight > self.capacity {
            self.remove_at(self.oldest);
        }
    }

    /// Whether there is room for a candidate, made by removing what was asked for less often.
    fn makes_room(&mut self, key: u64, weight: u32) -> bool {
        if self.weight + u64::from(weight) <= self.capacity {
            return true;
        }
        let Some(asked) = &self.asked else {
            return false;
        };
        let candidate = asked.frequency(mixed(key));
        let (mut freed, mut frequency, mut victims) = (0, 0, Vec::new());
        let mut next = self.oldest;
        while freed < weight && frequency <= candidate && next != END {
            let slot = &self.slots[next as usize];
            freed += slot.weight;
            frequency += asked.frequency(mixed(slot.key));
            victims.push(next);
            next = slot.newer;
        }
        let admitted = freed >= weight && candidate > frequency;
        if admitted {
            for victim in victims {
                self.remove_at(victim);
            }
        }
        admitted
    }

    /// Moka begins to count when it is half full, for as many entries as it then guesses.
    fn count_from_half_full_on(&mut self) {
        if self.asked.is_none() && self.weight >= self.capacity / 2 {
            let full = self.weight as f64 / self.capacity as f64;
            self.asked = Some(Sketch::new((self.len() as f64 * full) as u32));
        }
    }

    fn expire(&mut self, now: f64) {
        while let Some(&(end, key)) = self.ends.front()
            && end <= now
        {
            self.ends.pop_front();
            if let Some(&place) = self.places.get(&key)
                && self.slots[place as usize].until <= now
            {
                self.remove_at(place);
            }
        }
    }

    fn note_end(&mut self, until: f64, key: u64) {
        if until.is_finite() {
            self.ends.push_back((until, key));
        }
    }

    fn remove_at(&mut self, place: u32) {
        let Slot {
            key, weight, stays, ..
        } = self.slots[place as usize];
        if stays {
            self.unlink(place);
            self.weight -= u64::from(weight);
        }
        self.places.remove(&key);
        self.free.push(place);
    }

    fn use_now(&mut self, place: u32) {
        if self.slots[place as usize].stays {
            self.unlink(place);
            self.link(place);
        }
    }

    fn unlink(&mut self, place: u32) {
        let Slot { older, newer, .. } = self.slots[place as usize];
        match older {
            END => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            END => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    fn link(&mut self, place: u32) {
        let newest = self.newest;
        let slot = &mut self.slots[place as usize];
        (slot.older, slot.newer) = (newest, END);
        match newest {
            END => self.oldest = place,
            newest => self.slots[newest as usize].newer = place,
        }
        self.newest = place;
    }
}

/// Roughly how often each key was asked for lately: a count-min sketch of four-bit counters, all of
/// which are halved now and then.
#[derive(Debug)]
struct Sketch {
    rows: [Vec<u8>; 4],
    mask: u64,
    counted: u32,
    /// When so many were counted, all are halved.
    halve_at: u32,
}

impl Sketch {
    const MOST: u8 = 15;

    fn new(entries: u32) -> Self {
        let entries = entries.max(128);
        let width = u64::from(entries.next_power_of_two());
        // Moka has so many words, each of sixteen counters, of which a key uses one in four words.
        let row = || vec![0; width as usize * 4];
        Self {
            rows: [row(), row(), row(), row()],
            mask: width * 4 - 1,
            counted: 0,
            halve_at: 10 * entries,
        }
    }

    fn place(&self, hash: u64, row: usize) -> usize {
        const SEEDS: [u64; 4] = [
            0xc3a5_c85c_97cb_3127,
            0xb492_b66f_be98_f273,
            0x9ae1_6a3b_2f90_404f,
            0xcbf2_9ce4_8422_2325,
        ];
        let mixed = hash.wrapping_add(SEEDS[row]).wrapping_mul(SEEDS[row]);
        (mixed.wrapping_add(mixed >> 32) & self.mask) as usize
    }

    fn frequency(&self, hash: u64) -> u32 {
        let counts = (0..4).map(|row| self.rows[row][self.place(hash, row)]);
        counts.min().map_or(0, u32::from)
    }

    fn increment(&mut self, hash: u64) {
        let mut added = false;
        for row in 0..4 {
            let place = self.place(hash, row);
            let count = &mut self.rows[row][place];
            if *count < Self::MOST {
                *count += 1;
                added = true;
            }
        }
        if added {
            self.counted += 1;
            if self.counted >= self.halve_at {
                self.halve();
            }
        }
    }

    fn halve(&mut self) {
        let mut odd = 0;
        for count in self.rows.iter_mut().flatten() {
            odd += u32::from(*count & 1);
            *count >>= 1;
        }
        self.counted = (self.counted >> 1).saturating_sub(odd >> 2);
    }
}

/// Spreads a key over all bits (the finaliser of SplitMix64).
fn mixed(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use moka::policy::EvictionPolicy;
    use rand::SeedableRng as _;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand_distr::{Distribution as _, Zipf};

    use super::*;

    /// How many of the questions find what they ask for, where what is missing is kept.
    fn hits(mut find_or_keep: impl FnMut(u64) -> bool, exponent: f64) -> f64 {
        const QUESTIONS: u32 = 60_000;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let keys = Zipf::new(10_000.0, exponent).unwrap();
        let found = (0..QUESTIONS).filter(|_| find_or_keep(keys.sample(&mut random) as u64));
        found.count() as f64 / f64::from(QUESTIONS)
    }

    #[test]
    fn it_keeps_what_moka_keeps() {
        for (capacity, exponent) in [(500, 0.6), (2000, 0.6), (1000, 0.9), (1000, 1.1)] {
            let mut shelf = Shelf::new(capacity * 100, true);
            let ours = hits(
                |key| {
                    let found = shelf.get(key, 0.0).is_some();
                    if !found {
                        shelf.ask(key);
                        shelf.insert(key, (), 100, f64::INFINITY, 0.0);
                    }
                    found
                },
                exponent,
            );
            let cache = moka::sync::Cache::builder()
                .max_capacity(capacity * 100)
                .weigher(|_, ()| 100)
                .eviction_policy(EvictionPolicy::tiny_lfu())
                .build();
            let theirs = hits(
                |key| {
                    let found = cache.get(&key).is_some();
                    if !found {
                        cache.get(&key);
                        cache.insert(key, ());
                    }
                    found
                },
                exponent,
            );
            assert!(
                (ours - theirs).abs() < 0.02,
                "{capacity} entries, exponent {exponent}: {ours} and moka {theirs}"
            );
        }
    }

    #[test]
    fn an_entry_ends_with_its_time_and_the_weight_is_bounded() {
        let mut shelf = Shelf::new(1000, true);
        shelf.insert(1, 'a', 100, 10.0, 0.0);
        assert_eq!(shelf.get(1, 9.0), Some(&mut 'a'));
        assert_eq!(shelf.get(1, 10.0), None);
        for key in 0..100 {
            shelf.insert(key, 'b', 100, 20.0, 10.0);
        }
        shelf.settle(10.0);
        assert_eq!((shelf.len(), shelf.weight()), (10, 1000));
        shelf.remove(0);
        assert_eq!((shelf.len(), shelf.weight()), (9, 900));
        // Renewed, it does not end with its first time.
        shelf.insert(1, 'c', 100, 30.0, 15.0);
        assert_eq!(shelf.get(1, 25.0), Some(&mut 'c'));
        shelf.settle(25.0);
        assert_eq!(shelf.len(), 1);
    }
}
