//! The race of loads and requests with polls, in thousands of schedules of the real code: fence,
//! hot tier, feed, loads, and what requests read. Only the database is made up.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | who races, and what must hold |
//! | `database.rs` | a database of one session |
//! | `broken.rs` | each step with a rule left out, to see that the race would show it |

mod broken;
mod database;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::FutureExt as _;
use session_core::{Key, TokenKeys, TokenKind, WrittenToken};
use shuttle::thread;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::broken::Rule;
use self::database::{Database, SESSION};
use super::cold_loader::ColdLoader;
use super::key_lock::KeyLocks;
use super::warm_loader::WarmLoader;
use super::{Owned, Presented, Shared, Tiers, backfill};
use crate::clock::{Clock, Moment, Now};
use crate::config::{Holds, TierConfig};
use crate::events::Events;
use crate::feed::Feed;
use crate::fence::Fence;
use crate::hot::{Entry, Hot};
use crate::metrics::{Meter, Metrics};
use crate::single_flight::{SingleFlight, Spawn};
use crate::sync::schedules;
use crate::touch;

/// Half of B and a little more.
const WHILE: Duration = Duration::from_secs(3);

/// What races in each schedule.
#[derive(Clone, Copy, Debug)]
struct Race {
    /// The session is hot before it begins; else a load brings it.
    begun_hot: bool,
    /// The feed never tells what changed: the node starts over at each poll.
    vague: bool,
    /// What becomes of the database.
    history: History,
    /// Loads ask a replica, which still has what was lost.
    replica: bool,
    /// Requests show a token, which brings the session to the front.
    by_token: bool,
    broken: Option<Rule>,
}

/// What becomes of the database, in which the session is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    /// It goes on.
    GoesOn,
    /// It loses its last commits, and gives their numbers out again.
    SetBack,
    /// The same, where an open transaction holds all marks back.
    Crash,
    /// A dump is restored into its tables, or a backup put in the place of its file.
    Restore,
    /// Its replica is promoted by mistake, and goes on by itself.
    Fork,
}

/// For loads behind a request's back, of which these worlds have none, and for the timers of those that
/// wait for the feed.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("it needs nothing")
});

/// What was seen in all schedules together.
#[derive(Debug, Default)]
struct Seen {
    /// A request got the session later than B after it was revoked.
    late: AtomicBool,
    /// How often one got it from the hot tier.
    hot: AtomicU32,
}

struct World {
    race: Race,
    /// An access token of the session.
    token: String,
    tiers: Tiers<()>,
    database: Arc<Database>,
    /// What requests have found, which their handlers hold for longer than all of this takes.
    held: Mutex<Vec<Arc<Entry<()>>>>,
    seen: Arc<Seen>,
}

impl World {
    fn new(race: Race, seen: Arc<Seen>) -> Self {
        let clock = Clock::manual();
        let mut database = Database::new(clock.clone(), race.vague);
        if race.broken == Some(Rule::Moved) {
            database = database.silent();
        }
        if race.replica && race.history != History::SetBack {
            database.keep_in_replica();
        }
        Self::on(database, clock, race, seen)
    }

    fn on(database: Database, clock: Clock, race: Race, seen: Arc<Seen>) -> Self {
        let database = Arc::new(database);
        let mut config = TierConfig::default();
        // Made anew for each schedule.
        config.hot.capacity = ByteSize::kib(64);
        assert_eq!(config.fence.staleness_bound, Duration::from_secs(5));
        let keys = TokenKeys::random();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Shared {
            hot: Hot::new(&config.hot),
            warm: None,
            cold_loader: ColdLoader::unbatched(Arc::clone(&database) as _),
            load_took: AtomicU32::new(0),
            forged: AtomicU64::new(0),
            store: Arc::clone(&database) as _,
            fence: Fence::new(),
            warm_loader: WarmLoader::new(
                SingleFlight::new(1, Spawn::Inline, tasks.clone(), RUNTIME.handle().clone()),
                Holds::Head,
            ),
            loads: SingleFlight::new(1, Spawn::Inline, tasks.clone(), RUNTIME.handle().clone()),
            backfill: backfill::channel().0,
            admission: Arc::new(Semaphore::new(1)),
            clock,
            keys: keys.clone(),
            config,
            metrics: Metrics::new(Meter::default()),
            polled: AtomicI64::new(Moment::LONG_AGO.nanos()),
            heard: AtomicBool::new(false),
            told: Notify::new(),
            poll_ended: Notify::new(),
            doubted: AtomicBool::new(false),
            events: Events::new(),
            touches: touch::channel().0,
            key_locks: KeyLocks::default(),
            tasks,
            stop: stop.clone(),
        };
        let owned = Owned {
            shared: Arc::new(shared),
            stop: Arc::new(stop.drop_guard()),
        };
        let token = keys.mint(TokenKind::Access, SESSION).expose().to_string();
        Self {
            race,
            token,
            tiers: Tiers {
                owned: Arc::new(owned),
            },
            database,
            held: Mutex::default(),
            seen,
        }
    }

    fn broken(&self, rule: Rule) -> bool {
        self.race.broken == Some(rule)
    }

    fn now(&self) -> Now {
        self.tiers.shared().clock.now()
    }

    /// Loads the session, and collects it for a request.
    fn load(&self) {
        let shared = self.tiers.shared();
        if self.race.replica {
            let key = Key::Id(SESSION);
            let landed = match self.race.broken {
                Some(Rule::Lineage) => broken::replica(shared),
                _ => now(super::load::replica(shared, key)),
            };
            let asked = self.now().moment;
            if landed.is_some_and(|landed| self.tiers.judge(landed, Presented::Nothing).is_ok()) {
                self.served(asked);
            }
            return;
        }
        let loaded = match self.race.broken {
            Some(rule @ (Rule::AskAfterInsert | Rule::GenerationOfAsking)) => {
                broken::load(shared, rule)
            }
            _ => {
                let _timers = RUNTIME.enter();
                let load = super::load::cold(Arc::clone(shared), Key::Id(SESSION));
                match load.now_or_never() {
                    Some(loaded) => loaded,
                    // It read another lineage, and waits for the feed to follow that one.
                    None => return,
                }
            }
        };
        let Ok(landed) = loaded else { return };
        let asked = self.now().moment;
        let served = if self.broken(Rule::AskAtCollection) {
            broken::collect_unasked(shared, &landed)
        } else {
            self.tiers.judge(landed, Presented::Nothing).is_ok()
        };
        if served {
            self.served(asked);
        }
    }

    /// A request that is answered from the hot tier, or not at all.
    fn request(&self) {
        let shared = self.tiers.shared();
        let found = match self.race.broken {
            Some(Rule::TrustBeforeCache) => broken::trust_after_cache(shared),
            Some(Rule::ClockLast) => broken::clock_before_cache(shared),
            Some(Rule::TicketFirst) => broken::ticket_after_cache(shared, self.token()),
            _ if self.race.by_token => self.known_or_brought(),
            _ => shared.hot_entry(Key::Id(SESSION)),
        };
        if let Some((entry, now)) = found
            && entry.head().is_active
        {
            self.seen.hot.fetch_add(1, Ordering::Relaxed);
            self.served(now.moment);
            self.held.lock().unwrap().push(entry);
        }
    }

    /// As a layer does, by `Tiers::try_known` and then by `Tiers::look_up`; with the ticket taken as late
    /// as it may be.
    fn known_or_brought(&self) -> Option<(Arc<Entry<()>>, Now)> {
        let (shared, token) = (self.tiers.shared(), self.token());
        shared.known_entry(token).or_else(|| {
            let ticket = shared.hot.glimpse(token.stem()).ticket;
            let found = shared.hot_entry(Key::Id(SESSION))?;
            shared.hot.bring(token, &found.0, ticket);
            Some(found)
        })
    }

    fn token(&self) -> WrittenToken<'_> {
        WrittenToken::access(&self.token).expect("it is an access token")
    }

    fn served(&self, at: Moment) {
        let bound = self.tiers.config().fence.staleness_bound;
        if self
            .database
            .revoked()
            .is_some_and(|revoked| at > revoked + bound)
        {
            self.seen.late.store(true, Ordering::Relaxed);
        }
    }

    /// A load from a replica races with a node that starts over, for a request that has read the
    /// trust before; the revocation is known, and B has passed.
    fn start_over(race: Race, seen: Arc<Seen>) {
        let clock = Clock::manual();
        let world = Self::on(Database::frozen(clock.clone()), clock.clone(), race, seen);
        let mut polls = Polls::new(&world);
        polls.poll();
        world.database.revoke();
        clock.advance(WHILE);
        clock.advance(WHILE);
        polls.poll();
        let trusted_until = world.tiers.shared().fence.trusted_until();
        world.database.fail_over();
        let world = Arc::new(world);
        let start = |act: fn(&Self, Moment)| {
            let world = Arc::clone(&world);
            thread::spawn(move || act(&world, trusted_until))
        };
        let threads = [
            start(|world, _| {
                let shared = world.tiers.shared();
                drop(now(super::load::replica(shared, Key::Id(SESSION))));
            }),
            start(Self::look),
        ];
        let polling = thread::spawn(move || polls.poll());
        threads
            .into_iter()
            .chain([polling])
            .for_each(|thread| thread.join().unwrap());
        world.look(trusted_until);
    }

    /// What is left to do of a request that has read the trust.
    fn look(&self, trusted_until: Moment) {
        let hot = self.tiers.shared().hot.get(SESSION).is_some();
        let now = self.now().moment;
        if hot && now < trusted_until {
            self.served(now);
        }
    }

    /// What happens in the database, and how long it takes.
    fn history(&self) {
        let clock = &self.tiers.shared().clock;
        match self.race.history {
            History::GoesOn => self.database.revoke(),
            History::SetBack => self.database.set_back(),
            History::Crash => self.database.crash(),
            History::Restore => self.database.restore(),
            History::Fork => self.database.fork(),
        }
        clock.advance(WHILE);
        clock.advance(WHILE);
    }

    fn run(self) {
        let world = Arc::new(self);
        let mut polls = Polls::new(&world);
        polls.poll();
        if world.race.begun_hot {
            world.load();
        }
        let start = |act: fn(&Self)| {
            let world = Arc::clone(&world);
            thread::spawn(move || act(&world))
        };
        let threads = [
            start(Self::history),
            start(Self::request),
            start(|world| {
                world.load();
                world.request();
            }),
        ];
        let polling = thread::spawn(move || {
            polls.poll();
            polls.poll();
            polls
        });
        let mut polls = polling.join().unwrap();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        // What was wrongly left in the hot tier is seen now.
        polls.poll();
        world.request();
    }
}

/// The feed, or one that breaks a rule.
enum Polls {
    Real(Feed<()>),
    Broken(broken::Feed),
}

impl Polls {
    fn new(world: &World) -> Self {
        let shared = Arc::clone(world.tiers.shared());
        match world.race.broken {
            Some(
                rule @ (Rule::FloorFirst
                | Rule::ClearAtRestart
                | Rule::TrustLast
                | Rule::TrustFromAsking
                | Rule::LineageFirst
                | Rule::ForgetLast
                | Rule::FloorsLast),
            ) => Self::Broken(broken::Feed::new(shared, rule)),
            _ => Self::Real(Feed::new(shared)),
        }
    }

    fn poll(&mut self) {
        match self {
            Self::Real(feed) => now(feed.poll()),
            Self::Broken(feed) => feed.poll(),
        }
    }
}

/// What needs no wait: the database steps and answers.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits for nothing")
}

fn seen_in(race: Race, seed: u64, count: usize) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let world = Arc::clone(&seen);
    schedules(seed, count, move || {
        World::new(race, Arc::clone(&world)).run();
    });
    seen
}

const COUNT: usize = 2000;

fn holds(race: Race) {
    let seen = seen_in(race, 1, COUNT);
    assert!(!seen.late.load(Ordering::Relaxed), "{race:?}");
    let hot = seen.hot.load(Ordering::Relaxed);
    assert!(hot as usize > COUNT / 40, "{hot} hits: {race:?}");
}

/// Whether some schedule shows that the rule was left out.
fn shows(race: Race) -> bool {
    (1..=60).any(|seed| {
        let seen = seen_in(race, seed, 200);
        seen.late.load(Ordering::Relaxed)
    })
}

const LOADED: Race = Race {
    begun_hot: false,
    vague: false,
    history: History::GoesOn,
    replica: false,
    by_token: false,
    broken: None,
};

const KNOWN: Race = Race {
    begun_hot: true,
    by_token: true,
    ..LOADED
};

const HOT: Race = Race {
    begun_hot: true,
    ..LOADED
};

#[test]
fn a_load_that_races_with_a_raised_floor_is_never_served_late() {
    holds(LOADED);
}

#[test]
fn a_load_that_races_with_a_new_start_is_never_served_late() {
    holds(Race {
        vague: true,
        ..LOADED
    });
}

#[test]
fn a_hot_session_is_never_served_late_by_a_request_that_races_with_polls() {
    holds(HOT);
}

#[test]
fn a_hot_session_is_never_served_late_when_the_node_starts_over() {
    holds(Race { vague: true, ..HOT });
}

#[test]
fn what_a_database_has_lost_is_not_served_when_its_load_comes_late() {
    holds(Race {
        history: History::SetBack,
        ..LOADED
    });
    holds(Race {
        history: History::SetBack,
        ..HOT
    });
}

#[test]
fn what_a_database_has_lost_is_not_served_although_a_replica_has_it() {
    holds(Race {
        history: History::SetBack,
        replica: true,
        ..LOADED
    });
}

#[test]
fn what_a_crash_or_a_restore_has_undone_is_not_served() {
    for history in [History::Crash, History::Restore] {
        for race in [LOADED, KNOWN] {
            holds(Race { history, ..race });
        }
        holds(Race {
            history,
            replica: true,
            ..LOADED
        });
    }
}

#[test]
fn rows_of_a_promoted_copy_are_not_served() {
    holds(Race {
        history: History::Fork,
        replica: true,
        ..LOADED
    });
}

#[test]
fn a_session_at_the_front_is_never_served_late() {
    holds(KNOWN);
    holds(Race {
        vague: true,
        ..KNOWN
    });
    holds(Race {
        history: History::SetBack,
        ..KNOWN
    });
}

/// Whether one of so many times 500 schedules serves what the floors had kept out.
fn started_over(broken: Option<Rule>, times: u64) -> bool {
    let race = Race { broken, ..LOADED };
    (1..=times).any(|seed| {
        let seen = Arc::new(Seen::default());
        let world = Arc::clone(&seen);
        schedules(seed, 500, move || {
            World::start_over(race, Arc::clone(&world))
        });
        seen.late.load(Ordering::Relaxed)
    })
}

#[test]
fn a_node_that_starts_over_lets_nothing_in_that_its_floors_kept_out() {
    assert!(!started_over(None, 20));
    for rule in [Rule::LineageFirst, Rule::FloorsLast] {
        assert!(started_over(Some(rule), 200), "{rule:?}");
    }
}

#[test]
fn the_race_shows_each_rule_that_is_left_out() {
    let vague = Race { vague: true, ..HOT };
    let set_back = Race {
        history: History::SetBack,
        ..LOADED
    };
    let replica = Race {
        replica: true,
        ..set_back
    };
    let fork = Race {
        history: History::Fork,
        ..replica
    };
    let crash = Race {
        history: History::Crash,
        ..HOT
    };
    let restore = Race {
        history: History::Restore,
        ..HOT
    };
    for (rule, race) in [
        (Rule::AskAfterInsert, LOADED),
        (Rule::AskAtCollection, LOADED),
        (Rule::FloorFirst, LOADED),
        (Rule::ClearAtRestart, vague),
        (Rule::GenerationOfAsking, set_back),
        (Rule::TrustLast, HOT),
        (Rule::TrustFromAsking, HOT),
        (Rule::TrustBeforeCache, HOT),
        (Rule::ClockLast, HOT),
        (Rule::TicketFirst, KNOWN),
        (Rule::ForgetLast, KNOWN),
        (Rule::Lineage, replica),
        (Rule::Lineage, fork),
        (Rule::Moved, crash),
        (Rule::Moved, restore),
    ] {
        let broken = Some(rule);
        assert!(shows(Race { broken, ..race }), "{rule:?}");
    }
}
