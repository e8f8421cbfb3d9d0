//! A trace played through tiers that do all that the real ones do, but hold no sessions: event by
//! event, and counted.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::feed::{Floors, Polls};
use crate::node::{Entry, Node};
use crate::prediction::{Held, Lookups, Prediction, Redis, Sql};
use crate::record::Record;
use crate::setting::Setting;
use crate::sizes;
use crate::trace::{Event, Trace, What};
use crate::upkeep;

/// Predicts by playing the trace of a seed, and counting for `seconds` what happens after `before`.
///
/// # Panics
///
/// If there are 2^32 sessions or more.
pub fn replay(setting: &Setting, seed: u64, before: f64, seconds: f64) -> Prediction {
    let mut replay = Replay::new(setting.clone());
    let mut trace = Trace::new(&setting.workload, setting.idle(), seed).peekable();
    let mut play_until = |end: f64| {
        while let Some(event) = trace.next_if(|event| event.at < end) {
            replay.play(&event);
        }
        replay.counts()
    };
    let counted = play_until(before);
    play_until(before + seconds);
    replay.settle();
    replay.prediction(&counted, seconds)
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "named as in `Prediction`, which says what they are"
)]
pub struct Counts {
    pub hot: u64,
    pub warm: u64,
    pub cold: u64,
    pub load: u64,
    pub loaded_rows: u64,
    /// Rows that were loaded for a body, of a session whose head was hot.
    pub bodies: u64,
    /// Rows that were loaded anew since the use of a session was noted shortly before its hot end.
    pub renewed_in_use: u64,
    /// Rows that were loaded anew since a record was found shortly before its end.
    pub renewed_warm: u64,
    pub touch: u64,
    pub touched_rows: u64,
    pub create: u64,
    pub revoke: u64,
    pub update: u64,
    pub read_back: u64,
    pub get: u64,
    pub set: u64,
    pub evalsha: u64,
    /// Writes that every node is told of through Redis.
    pub pushes: u64,
    /// Polls of all nodes.
    pub poll: u64,
}

/// The tiers of all nodes.
#[derive(Debug)]
pub struct Replay {
    setting: Setting,
    nodes: Vec<Node>,
    places: Vec<Place>,
    floors: Floors,
    polls: Polls,
    counts: Counts,
    /// When the records of sessions that are over will be gone from Redis.
    left: Vec<f64>,
    /// How many times uses have been noted.
    turn: u64,
    now: f64,
    random: Xoshiro256PlusPlus,
}

/// The session that lives in a place now.
#[derive(Clone, Copy, Debug)]
struct Place {
    life: u32,
    version: u32,
    /// When it was last seen, as the database knows.
    seen: f64,
    warm: Record,
}

impl Replay {
    /// Nodes that have just started, an empty Redis, and a database that holds a session in each
    /// place, seen just now.
    pub fn new(setting: Setting) -> Self {
        let place = Place {
            life: 0,
            version: 1,
            seen: 0.0,
            warm: Record::NONE,
        };
        Self {
            nodes: (0..setting.workload.nodes)
                .map(|_| Node::new(&setting))
                .collect(),
            places: vec![place; setting.workload.sessions as usize],
            floors: Floors::default(),
            polls: Polls::new(setting.config.fence.poll_interval.as_secs_f64()),
            counts: Counts::default(),
            left: Vec::new(),
            turn: 0,
            now: 0.0,
            random: Xoshiro256PlusPlus::seed_from_u64(0),
            setting,
        }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            poll: self.polls.count * self.nodes.len() as u64,
            ..self.counts
        }
    }

    /// Sessions that the hot tiers of all nodes hold, and their bytes, lookup entries among them.
    pub fn hot(&self) -> (u64, u64) {
        let foreign = self.setting.workload.foreign;
        let lookup = sizes::FOREIGN_KEYS as f64 * f64::from(sizes::LOOKUP) * foreign;
        self.nodes.iter().fold((0, 0), |(entries, bytes), node| {
            let here = node.shelf.len() as u64;
            let lookups = (here as f64 * lookup) as u64;
            (entries + here, bytes + node.shelf.weight() + lookups)
        })
    }

    /// Has every node write down the uses that wait, and decide what stays hot.
    pub fn settle(&mut self) {
        self.note();
        for node in &mut self.nodes {
            node.shelf.settle(self.now);
        }
    }

    /// Plays an event.
    pub fn play(&mut self, event: &Event) {
        self.note_until(event.at);
        self.now = event.at;
        self.polls.advance(self.now);
        let (node, place) = (event.node as usize, event.place as usize);
        match event.what {
            What::Request { body } => self.request(node, place, body),
            What::Login => self.begin(node, place),
            What::Revocation => {
                self.counts.revoke += 1;
                self.written(place);
                self.changed(place);
                self.begin(node, place);
            }
            What::Update => {
                self.request(node, place, true);
                self.counts.update += 1;
                self.places[place].version += 1;
                self.written(place);
                self.changed(place);
                self.keep(node, place, true, self.places[place].seen);
            }
        }
    }

    /// A lookup, and perhaps the fetching of the body.
    fn request(&mut self, node: usize, place: usize, body: bool) {
        let (key, now) = (self.key(place), self.now);
        let hot = self.nodes[node].shelf.get(key, now).copied();
        // Moka may have it for longer than it may be used.
        let (whole, due) = match hot.filter(|entry| now < entry.ends) {
            Some(entry) if now < entry.ready => {
                self.counts.cold += 1;
                (true, false)
            }
            Some(entry) => {
                self.counts.hot += 1;
                (entry.whole, self.is_due(&entry))
            }
            None => {
                // The load looks once more.
                self.nodes[node].shelf.ask(key);
                self.find_below(node, place)
            }
        };
        self.touch(node, place);
        if due || (body && !whole) {
            self.counts.bodies += u64::from(body && !whole);
            self.load(node, place);
        }
    }

    /// A lookup of a session that is not hot. Says whether its body came along, and whether it is to be
    /// loaded anew.
    fn find_below(&mut self, node: usize, place: usize) -> (bool, bool) {
        if self.is_warm(place) {
            self.counts.warm += 1;
            let whole = self.setting.warm_holds_all();
            self.keep(node, place, whole, self.places[place].warm.seen);
            let due = self.is_warm_due(place);
            self.counts.renewed_warm += u64::from(due);
            return (whole, due);
        }
        self.counts.cold += 1;
        self.counts.set += u64::from(self.setting.has_leases());
        let there = self.load(node, place);
        let key = self.key(place);
        if let Some(entry) = self.nodes[node].shelf.peek(key) {
            entry.ready = there;
        }
        (true, false)
    }

    /// Whether Redis has a record that the gate admits.
    fn is_warm(&mut self, place: usize) -> bool {
        if !self.setting.has_warm() {
            return false;
        }
        self.counts.get += 1;
        let Place { version, warm, .. } = self.places[place];
        let good =
            warm.version == version && warm.until > self.now && warm.from >= self.floors.since;
        if good && warm.from > self.now {
            // Another node is about to bring it: this one finds that out, and looks again.
            self.counts.set += u64::from(self.setting.has_leases());
            self.counts.get += 1;
        }
        good
    }

    /// Reads a session from the database, and keeps it here and in Redis. Says when it is there.
    fn load(&mut self, node: usize, place: usize) -> f64 {
        let (there, statement) = self.nodes[node].reads.ask(self.now);
        self.counts.load += u64::from(statement);
        self.counts.loaded_rows += 1;
        self.fill(place, there);
        self.keep(node, place, true, self.places[place].seen);
        there
    }

    fn is_warm_due(&mut self, place: usize) -> bool {
        let ttl = self.setting.config.warm.ttl.as_secs_f64();
        let chance = self.random.random();
        self.places[place].warm.is_due(self.now, ttl, chance)
    }

    fn is_due(&mut self, entry: &Entry) -> bool {
        let chance = self.random.random();
        entry.is_due(self.now, self.setting.statement.as_secs_f64(), chance)
    }

    /// Keeps a session in the hot tier of a node. What is there is looked at before, which counts.
    fn keep(&mut self, node: usize, place: usize, whole: bool, seen: f64) {
        let (key, now) = (self.key(place), self.now);
        let ends = now + self.setting.config.hot.ttl.as_secs_f64();
        let entry = Entry {
            ready: now,
            whole,
            ends,
            seen,
            noted: seen,
        };
        let weight = self.setting.weight(whole);
        let until = self.setting.removed_at(ends);
        let shelf = &mut self.nodes[node].shelf;
        shelf.ask(key);
        shelf.insert(key, entry, weight, until, now);
    }

    /// Keeps a record in Redis, under each key of the session.
    fn fill(&mut self, place: usize, from: f64) {
        if !self.setting.has_warm() {
            return;
        }
        self.counts.evalsha += 1 + self.copies(place);
        let config = &self.setting.config.warm;
        let part = 1.0 - config.jitter * self.random.random::<f64>();
        let ends = from + config.ttl.as_secs_f64() * part;
        let Place { version, seen, .. } = self.places[place];
        self.places[place].warm = Record {
            version,
            from,
            until: self.setting.removed_at(ends),
            ends,
            seen,
        };
    }

    /// Another session begins in a place.
    fn begin(&mut self, node: usize, place: usize) {
        let left = self.places[place].warm.until;
        if left > self.now {
            self.left.push(left);
        }
        self.counts.create += 1;
        self.places[place] = Place {
            life: self.places[place].life + 1,
            version: 1,
            seen: self.now,
            warm: Record::NONE,
        };
        self.written(place);
        self.keep(node, place, true, self.now);
    }

    /// A write is read back.
    fn written(&mut self, place: usize) {
        self.counts.read_back += 1;
        self.fill(place, self.now);
    }

    /// Every node is told of a change, by Redis or else by the feed, and the database says that there
    /// is something to tell.
    fn changed(&mut self, place: usize) {
        if self.setting.has_warm() {
            self.counts.pushes += 1;
        }
        if self.setting.is_notified() {
            self.polls.tell(self.now);
        }
        self.raise(place);
    }

    /// Every node raises its floor, and drops what it holds.
    fn raise(&mut self, place: usize) {
        let key = self.key(place);
        for node in &mut self.nodes {
            node.shelf.remove(key);
        }
        self.floors.raise(key, self.now);
        self.floors
            .forget_beyond(self.setting.config.fence.max_floors);
    }

    /// A use; it is to be noted in the database if the last note is old.
    fn touch(&mut self, node: usize, place: usize) {
        let (key, now) = (self.key(place), self.now);
        let interval = self.setting.config.session.touch_interval.as_secs_f64();
        let seen = self.seen(place);
        let told = match self.nodes[node].shelf.peek(key) {
            Some(entry) => entry.touch(now, interval),
            // There was no room for it; so much is known all the same.
            None => now - seen >= interval,
        };
        if told {
            self.nodes[node].touches.insert(key, now);
        }
    }

    /// Has every node write down the uses that wait, if it was time to before `now`.
    fn note_until(&mut self, now: f64) {
        let every = self.setting.touches_every.as_secs_f64();
        let turn = (now / every) as u64;
        if self.turn < turn {
            self.now = (self.turn + 1) as f64 * every;
            self.turn = turn;
            self.note();
        }
    }

    /// Writes down the uses that wait on each node: those of sessions that no other has noted lately.
    fn note(&mut self) {
        const BATCH: u64 = 1000;
        let interval = self.setting.config.session.touch_interval.as_secs_f64();
        for node in 0..self.nodes.len() {
            let touches = std::mem::take(&mut self.nodes[node].touches);
            self.counts.touch += (touches.len() as u64).div_ceil(BATCH);
            for (key, at) in touches {
                let place = key as u32 as usize;
                if self.key(place) != key {
                    continue;
                }
                if self.places[place].seen <= at - interval {
                    self.places[place].seen = at;
                    self.counts.touched_rows += 1;
                }
                self.renew_in_use(node, place);
            }
        }
    }

    /// Loads a session anew that would not be hot any more when its use is noted again.
    fn renew_in_use(&mut self, node: usize, place: usize) {
        let (key, now) = (self.key(place), self.now);
        let noted_again = now + self.setting.lateness().as_secs_f64();
        if let Some(entry) = self.nodes[node].shelf.get(key, now)
            && (now..=noted_again).contains(&entry.ends)
        {
            self.counts.renewed_in_use += 1;
            self.load(node, place);
        }
    }

    /// When a session was last seen, for a node that has just looked.
    fn seen(&self, place: usize) -> f64 {
        match self.setting.has_warm() {
            true => self.places[place].warm.seen,
            false => self.places[place].seen,
        }
    }

    /// The session that lives in a place, by name.
    fn key(&self, place: usize) -> u64 {
        u64::from(self.places[place].life) << 32 | place as u64
    }

    /// How many copies Redis holds of a session's record.
    fn copies(&self, place: usize) -> u64 {
        match self.setting.workload.is_foreign(place as u32) {
            true => sizes::FOREIGN_KEYS,
            false => 0,
        }
    }

    /// What was counted in `seconds` since `before`, as rates; and what is held now.
    pub fn prediction(&self, before: &Counts, seconds: f64) -> Prediction {
        let counts = self.counts();
        let rate = |count: fn(&Counts) -> u64| (count(&counts) - count(before)) as f64 / seconds;
        let setting = &self.setting;
        let nodes = self.nodes.len() as f64;
        let (entries, bytes) = self.hot();
        let here = self
            .places
            .iter()
            .filter(|place| place.warm.until > self.now);
        let left = self.left.iter().filter(|&&until| until > self.now);
        let copies = 1.0 + setting.workload.foreign * sizes::FOREIGN_KEYS as f64;
        let records = (here.count() + left.count()) as f64 * copies;
        let rows = setting.rows(rate(|c| c.create));
        Prediction {
            nodes: setting.workload.nodes,
            lookups: Lookups {
                hot: rate(|c| c.hot),
                warm: rate(|c| c.warm),
                cold: rate(|c| c.cold),
            },
            sql: Sql {
                load: rate(|c| c.load),
                loaded_rows: rate(|c| c.loaded_rows),
                poll: rate(|c| c.poll),
                touch: rate(|c| c.touch),
                touched_rows: rate(|c| c.touched_rows),
                write: rate(|c| c.create + c.revoke + c.update),
                read_back: rate(|c| c.read_back),
                upkeep: upkeep::statements(setting),
            },
            redis: Redis {
                get: rate(|c| c.get),
                set: rate(|c| c.set),
                evalsha: rate(|c| c.evalsha),
                upkeep: upkeep::commands(setting),
                messages: rate(|c| c.pushes) * nodes,
            },
            held: Held {
                hot_entries: entries as f64 / nodes,
                hot_bytes: bytes as f64 / nodes,
                floors: self.floors.len() as f64,
                floor_bytes: self.floors.len() as f64 * sizes::FLOOR,
                warm_records: records,
                warm_bytes: records * setting.record(),
                rows,
                row_bytes: rows * sizes::row(setting),
            },
        }
    }
}
