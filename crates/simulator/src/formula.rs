//! The same prediction by formulas, for as many sessions and nodes as one likes.
//!
//! Sessions of like rank are taken together. A session's requests come in visits that begin at random
//! instants (a Poisson process); what is in a cache for it is there by itself, since with many sessions
//! the time for which an unused entry is kept is the same for all (Che, Tung and Wang, Hierarchical Web
//! Caching Systems, 2002). Each request that is no miss falls into the time after a miss or a write for
//! which an entry is kept; so misses = (requests − writes × hits after each) / (1 + hits after each).

use crate::feed;
use crate::prediction::{Held, Lookups, Prediction, Redis, Sql};
use crate::reads::{self, Rules};
use crate::record;
use crate::setting::Setting;
use crate::sizes;
use crate::upkeep;
use crate::workload::Routing;

/// Predicts by formulas.
pub fn estimate(setting: &Setting) -> Prediction {
    let formula = Formula::new(setting);
    let kept = formula.unused_for();
    let mut sum = Sum::default();
    for like in formula.sessions() {
        sum.add(like.count, &formula.session(&like, kept));
    }
    formula.prediction(&sum)
}

/// Sessions of like rank.
struct Like {
    count: f64,
    /// Requests per second of each.
    requests: f64,
    /// Changes per second of each.
    updates: f64,
}

/// What one session costs per second, at all nodes together.
#[derive(Clone, Copy, Default)]
struct Session {
    requests: f64,
    warm: f64,
    cold: f64,
    /// Rows that are loaded anew since a use was noted shortly before a hot end, and since a record was
    /// found shortly before its end.
    in_use: f64,
    near_end: f64,
    bodies: f64,
    /// Sessions that begin for want of use.
    idle: f64,
    /// Uses that are told, by any node, and those that are noted.
    told: f64,
    noted: f64,
    /// How many nodes hold it, and how many of them its head alone.
    hot: f64,
    heads: f64,
    /// Whether Redis holds it.
    in_redis: f64,
}

/// The most that the chance of a renewal can be: what is always renewed ends at last all the same.
const MOST: f64 = 1.0 - 1e-9;

struct Formula<'a> {
    setting: &'a Setting,
    /// Nodes that a session's requests come to.
    spread: f64,
    /// The chance that a visit goes on after a request.
    goes_on: f64,
    think: f64,
    /// Seconds that a record in Redis is there for, and admitted for.
    warm_ttl: f64,
    warm_for: f64,
    /// The part of records that are admitted until their end.
    to_end: f64,
    /// For how many seconds whoever finds a record has it loaded anew.
    due: f64,
    /// Sessions that begin, of each, by logins and after revocations.
    begun: f64,
}

impl<'a> Formula<'a> {
    fn new(setting: &'a Setting) -> Self {
        let workload = &setting.workload;
        let config = &setting.config;
        let ttl = config.warm.ttl.as_secs_f64() * (1.0 - config.warm.jitter / 2.0);
        let full = config.fence.max_floors as f64 / workload.changes();
        Self {
            setting,
            spread: match workload.routing {
                Routing::Random => f64::from(workload.nodes),
                Routing::Sticky => 1.0,
            },
            goes_on: 1.0 - 1.0 / workload.visit,
            think: workload.think.as_secs_f64(),
            warm_ttl: ttl,
            warm_for: admitted_for(ttl, full),
            due: config.warm.ttl.as_secs_f64() * record::DUE / record::PARTS,
            to_end: (2.0 * (1.0 - ttl / full)).clamp(0.0, 1.0),
            begun: workload.begun() / workload.sessions as f64,
        }
    }

    /// All sessions, the first by themselves and the others in groups of like rank.
    fn sessions(&self) -> impl Iterator<Item = Like> {
        /// How much the last rank of a group is above its first.
        const WIDTH: f64 = 1.02;
        let workload = &self.setting.workload;
        let end = workload.sessions as f64 + 1.0;
        let mut from = 1.0;
        std::iter::from_fn(move || {
            (from < end).then(|| {
                let to = f64::floor(from * WIDTH).max(from + 1.0).min(end);
                let count = to - from;
                let share = workload.share(from, to) / count;
                from = to;
                Like {
                    count,
                    requests: workload.requests * share,
                    updates: workload.updates * share,
                }
            })
        })
    }

    /// For how long a node keeps what is not used: for ever, if there is room for all.
    fn unused_for(&self) -> f64 {
        /// A hundred days.
        const LONG: f64 = 1e7;
        let room = self.setting.config.hot.capacity.as_u64() as f64;
        let taken = |kept: f64| {
            let sessions = self.sessions();
            let nodes = f64::from(self.setting.workload.nodes);
            let bytes = sessions.map(|like| like.count * self.bytes(&self.session(&like, kept)));
            bytes.sum::<f64>() / nodes
        };
        if taken(LONG) <= room {
            return LONG;
        }
        let (mut low, mut high) = (1e-3_f64, LONG);
        for _ in 0..40 {
            let middle = (low * high).sqrt();
            match taken(middle) <= room {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }

    /// Bytes of a session in the hot tiers of all nodes.
    fn bytes(&self, session: &Session) -> f64 {
        let weight = |whole| f64::from(self.setting.weight(whole));
        session.heads * weight(false) + (session.hot - session.heads) * weight(true)
    }

    fn session(&self, like: &Like, kept: f64) -> Session {
        let setting = self.setting;
        let visits = like.requests * (1.0 - self.goes_on);
        let idle = setting
            .idle()
            .map_or(0.0, |idle| visits * (-visits * idle).exp());
        let requests = like.requests - idle;
        let begun = self.begun + idle;
        // Whatever makes all other nodes drop it, and keeps it at one.
        let writes = begun + like.updates;

        // The hot tier of one node.
        let here = requests / self.spread;
        let unused = 1.0 / self.spread;
        let skips = 1.0 - unused;
        let visited = 1.0 - self.visit_power(skips) * skips;
        let visits_here = visits * visited;
        let busy = ((visits_here * kept).min(600.0).exp_m1() / visits_here).max(kept);
        let interval = setting.config.session.touch_interval.as_secs_f64();
        let noted = |uses: f64, spread: f64| {
            let alone = uses * lasting(interval, begun);
            let after = alone + self.rest_of_visit(interval) / spread;
            rest(uses, begun / spread, alone, after)
        };
        let told = noted(here + like.updates / self.spread, self.spread);
        // It is loaded anew if a use is noted in the last part of its time: so long that there is hardly
        // more than one note in it.
        let ttl = setting.config.hot.ttl.as_secs_f64();
        let last = setting.lateness().as_secs_f64().min(ttl);
        let used = (told * last).min(1.0);
        let ended = writes + 1.0 / busy;
        let renewed = (used * (-ended * (ttl - last / 2.0)).exp()).min(MOST);
        let hot_for = lasting(ttl - used * last / 2.0, ended);
        let lasts = hot_for / (1.0 - renewed);
        // A visit goes on after a miss; a write comes by itself.
        let rest_of_visit = self.rest_of_visit(ttl.min(kept)) / self.spread;
        let after_write = here * lasts;
        let missed = rest(
            here,
            writes / self.spread,
            after_write,
            after_write + rest_of_visit,
        );
        let cycles = missed + writes / self.spread;
        let in_use = cycles * renewed / (1.0 - renewed) * self.spread;
        let hot = (cycles * lasts).min(1.0);
        // A change begins with a lookup, which is in no visit.
        let changed = like.updates * (1.0 - hot);

        // Redis. Asks come together as far as a visit comes to several nodes, or is forgotten by one
        // before it goes on.
        let asked = missed * self.spread + changed;
        let others = self.spread - 1.0;
        let elsewhere = others * (1.0 - self.visit_power(skips)) * (1.0 - hot);
        let rest_at_all = self.goes_on / (1.0 - self.goes_on);
        let forgotten = (-kept / (self.think * self.spread)).exp();
        let together = 1.0 + elsewhere + (rest_at_all - elsewhere).max(0.0) * forgotten;
        let (mut cold, mut near_end, mut bodies, mut in_redis) = (asked, 0.0, 0.0, 0.0);
        let share = setting.workload.bodies;
        // Of a head that came from Redis, while it is hot and not loaded anew.
        let uses = 1.0 + here * hot_for + rest_of_visit;
        let wants_body = 1.0 - (1.0 - share).powf(uses);
        if setting.has_warm() {
            for _ in 0..30 {
                let fills = in_use + bodies + writes;
                // It is there until it is not filled again for as long as it lasts.
                let there = match fills * self.warm_for > 1e-9 {
                    true => (fills * self.warm_for).min(50.0).exp_m1() / fills,
                    false => self.warm_for,
                };
                let own = (there - lasts).max(0.0);
                let found = asked * (others + own / there) / self.spread;
                let renewed = (self.to_end * -(-found * self.due).exp_m1()).min(MOST);
                let there = there / (1.0 - renewed);
                let hits = found * there + together - 1.0;
                let begins = (asked + writes * together) / (1.0 + hits + writes * there * together);
                let admitted = (begins * there).min(1.0);
                cold = (begins - writes * (1.0 - admitted)).clamp(0.0, asked);
                near_end = (begins * renewed / (1.0 - renewed)).min(asked - cold);
                // What is admitted no more is there all the same, until its time is over.
                let filled = -(-(fills + cold + near_end) * self.warm_ttl).exp_m1();
                in_redis = if self.warm_for < self.warm_ttl {
                    filled
                } else {
                    admitted
                };
                if !setting.warm_holds_all() {
                    bodies = (asked - cold - near_end) * wants_body;
                }
            }
        }
        // The part of its time for which a head that came from Redis is without its body.
        let alone = match share > 0.0 {
            true => (1.0 - share) * wants_body / (share * uses),
            false => 1.0,
        };
        let heads = match setting.warm_holds_all() {
            true => 0.0,
            false => (asked - cold - near_end) / (asked + writes + in_use) * alone,
        };
        Session {
            requests: requests + like.updates,
            warm: asked - cold,
            cold,
            in_use,
            near_end,
            bodies,
            idle,
            told: told * self.spread,
            noted: noted(requests + like.updates, 1.0),
            hot: hot * self.spread,
            heads: hot * self.spread * heads,
            in_redis,
        }
    }

    /// E z^K, where K is how many requests a visit has after one of its requests.
    fn visit_power(&self, z: f64) -> f64 {
        (1.0 - self.goes_on) / (1.0 - self.goes_on * z)
    }

    /// How many requests a visit has within so many seconds after one of its requests.
    fn rest_of_visit(&self, seconds: f64) -> f64 {
        let ends = (1.0 - self.goes_on) / self.think;
        self.goes_on / (1.0 - self.goes_on) * -(-ends * seconds).exp_m1()
    }

    fn prediction(&self, sum: &Sum) -> Prediction {
        let setting = self.setting;
        let workload = &setting.workload;
        let nodes = f64::from(workload.nodes);
        let all = &sum.all;
        let begun = workload.begun() + all.idle;
        let alone = all.cold + all.near_end + all.bodies;
        let rows = alone + all.in_use;
        let read_back = begun + workload.changes();
        let copies = 1.0 + workload.foreign * sizes::FOREIGN_KEYS as f64;
        let warm = f64::from(u8::from(setting.has_warm()));
        let floors = (setting.config.fence.max_floors as f64)
            .min(workload.changes() * setting.config.cold.tombstone_retention.as_secs_f64());
        // What is noted at once takes a statement, and so does what is then loaded anew.
        let batches = |rows: f64, most: f64| {
            let every = setting.touches_every.as_secs_f64();
            let here = rows / nodes * every;
            (-(-here).exp_m1()).max(here / most) * nodes / every
        };
        let rules = Rules::of(setting);
        let changes = if setting.is_notified() {
            workload.changes()
        } else {
            0.0
        };
        let poll = feed::polls(setting.config.fence.poll_interval.as_secs_f64(), changes);
        // Those of sessions that are over stay until their time is over too.
        let left = (workload.logins + all.idle) / 2.0 + workload.revocations;
        let records = (all.in_redis + left * self.warm_ttl * warm) * copies;
        let kept = setting.rows(begun);
        let lookups = sizes::FOREIGN_KEYS as f64 * f64::from(sizes::LOOKUP) * workload.foreign;
        let entries = all.hot / nodes;
        let bytes = self.bytes(all) / nodes;
        let room = setting.config.hot.capacity.as_u64() as f64;
        Prediction {
            nodes: workload.nodes,
            lookups: Lookups {
                hot: all.requests - all.warm - all.cold,
                warm: all.warm,
                cold: all.cold,
            },
            sql: Sql {
                load: reads::statements(alone / nodes, rules) * nodes
                    + batches(all.in_use, rules.batch as f64),
                loaded_rows: rows,
                poll: poll * nodes,
                touch: batches(all.told, 1000.0),
                touched_rows: all.noted,
                write: begun + workload.changes(),
                read_back,
                upkeep: upkeep::statements(setting),
            },
            redis: Redis {
                get: (all.warm + all.cold) * warm,
                set: if setting.has_leases() { all.cold } else { 0.0 },
                evalsha: (rows + read_back) * copies * warm,
                upkeep: upkeep::commands(setting),
                messages: workload.changes() * nodes * warm,
            },
            held: Held {
                hot_entries: entries,
                hot_bytes: bytes.min(room) + entries * lookups,
                floors,
                floor_bytes: floors * sizes::FLOOR,
                warm_records: records,
                warm_bytes: records * setting.record(),
                rows: kept,
                row_bytes: kept * sizes::row(setting),
            },
        }
    }
}

#[derive(Default)]
struct Sum {
    all: Session,
}

impl Sum {
    fn add(&mut self, count: f64, one: &Session) {
        let all = &mut self.all;
        all.requests += count * one.requests;
        all.warm += count * one.warm;
        all.cold += count * one.cold;
        all.in_use += count * one.in_use;
        all.near_end += count * one.near_end;
        all.bodies += count * one.bodies;
        all.idle += count * one.idle;
        all.told += count * one.told;
        all.noted += count * one.noted;
        all.hot += count * one.hot;
        all.heads += count * one.heads;
        all.in_redis += count * one.in_redis;
    }
}

/// How long something lasts on average that ends after so many seconds, or before by chance.
fn lasting(seconds: f64, ended: f64) -> f64 {
    match ended * seconds > 1e-9 {
        true => -(-ended * seconds).exp_m1() / ended,
        false => seconds,
    }
}

/// Misses per second, of so many requests: each of the others is one of the hits after a write, or after
/// a miss.
fn rest(requests: f64, writes: f64, after_write: f64, after: f64) -> f64 {
    ((requests - writes * after_write) / (1.0 + after)).max(0.0)
}

/// How long records are admitted on average that live for `ttl` seconds, where a node forgets the older
/// half of its floors each time that it has `full` seconds' worth of them.
fn admitted_for(ttl: f64, full: f64) -> f64 {
    let half = full / 2.0;
    if ttl <= half {
        return ttl;
    }
    // The oldest floor's age is anywhere between half and full.
    let end = ttl.min(full);
    let within = (end - half) / half;
    let forgotten = (half + end) / 2.0;
    within * forgotten + (1.0 - within) * end
}
