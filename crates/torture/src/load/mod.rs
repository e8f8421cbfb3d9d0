//! The clients: logins, reads, updates, revocations.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | what is noted of the clients' doings |
//! | `client.rs` | what a client does |
//! | `revoking.rs` | how it revokes sessions |
//! | `known.rs` | what the clients know of a session |
//! | `settle.rs` | what they know after the database went back |
//! | `finish.rs` | what must be there in the end |

mod client;
mod finish;
mod known;
mod revoking;
mod settle;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use session_core::{SecretKey, TokenKeys};
use tier_cache::Clock;

use crate::Plan;
use crate::history::{Change, History};
use crate::node::SECRET;
use crate::wire::{Ask, Line, Say};
use crate::world::World;

use known::Known;

/// Sessions that the clients keep alive between them.
const SESSIONS: usize = 60;
/// How long a client that got no answer waits before it asks anything again.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients together. Of its two locks a thread takes one after the other, never one within the other.
pub(crate) struct Load<'w> {
    world: &'w World,
    seed: u64,
    by_sql: bool,
    /// Whether the database may go back, so that more has to be noted.
    goes_back: bool,
    clock: Clock,
    /// Those of the nodes.
    keys: TokenKeys,
    /// The tag of the next change.
    next_tag: AtomicU64,
    state: Mutex<State>,
    history: Mutex<History>,
}

/// What the clients know.
#[derive(Default)]
struct State {
    known: Vec<Known>,
    phase: Phase,
}

/// How often the database began or ended to go back. While it is odd, nobody knows what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Phase(usize);

impl Phase {
    /// How often the database had gone back; `None` while it does.
    fn setbacks(self) -> Option<usize> {
        self.0.is_multiple_of(2).then_some(self.0 / 2)
    }
}

impl State {
    /// Whether something that was asked for in a phase, and acknowledged now, is in the history that goes on.
    fn is_sure(&self, asked_in: Phase) -> bool {
        self.phase == asked_in && asked_in.setbacks().is_some()
    }
}

impl<'w> Load<'w> {
    pub(crate) fn new(plan: &Plan, world: &'w World) -> Self {
        let secret = SecretKey::new(SECRET).expect("it is long enough");
        Self {
            world,
            seed: plan.seed,
            by_sql: plan.by_sql,
            goes_back: plan.goes_back(),
            clock: Clock::system(),
            keys: TokenKeys::new(&secret),
            next_tag: AtomicU64::new(1),
            state: Mutex::default(),
            history: Mutex::default(),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().moment.nanos()
    }

    fn tag(&self) -> u64 {
        self.next_tag.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that a session was changed, or may have been.
    fn changed(&self, session: usize, tag: u64, asked_at: i64, is_committed: bool) {
        if self.goes_back {
            let committed_by = if is_committed { self.now() } else { i64::MAX };
            lock(&self.history).changes.push(Change {
                session,
                tag,
                asked_at,
                committed_by,
            });
        }
    }

    fn did(&self, what: &'static str) {
        self.did_many(what, 1);
    }

    fn did_many(&self, what: &'static str, times: u64) {
        *lock(&self.history).done.entry(what).or_default() += times;
    }
}

/// Asks a node, and takes a rest where it could not answer.
fn ask(line: &mut Line, ask: &Ask) -> std::io::Result<Say> {
    let said = line.ask(ask)?;
    if let Say::Failed(_) = said {
        thread::sleep(PAUSE);
    }
    Ok(said)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
