//! Real nodes, a real PostgreSQL and a real Redis under faults; and a checker of what they said.
//!
//! ```text
//! cargo run --release -p testbed -- cargo run --release -p torture -- --seconds 900 --seed 7
//! ```
//!
//! | file | says |
//! |---|---|
//! | `wire.rs` | what a driver and a node say to each other |
//! | `node.rs` | one node: a process of its own, driven over a socket |
//! | `unaware.rs` | a node that does not notice that the database went back |
//! | `world.rs` | the servers and nodes of a run |
//! | `cold/` | the database: PostgreSQL with a copy, or a SQLite file |
//! | `warm.rs` | Redis, and each node's way to it |
//! | `load/` | the clients: logins, reads, updates, revocations |
//! | `fault/` | what goes wrong, by a seeded plan |
//! | `history/` | what was done and said; and what of it must not be |
//! | `resources.rs` | what the nodes hold, and what of it they do not give back |
//! | `report.rs` | the summary, in words and as a picture |

mod cold;
mod fault;
mod history;
mod load;
pub mod node;
mod report;
mod resources;
mod unaware;
mod warm;
mod wire;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use fault::Fault;
pub use history::{Change, History, Login, Read, Refusal, Revocation, Row, Setback, Violation};
pub use report::Report;
pub use resources::{Held, Memory, Resources};

use load::Load;
use warm::Warm;
use world::World;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program `torture-node`.
    pub node: PathBuf,
    /// Nodes.
    pub nodes: usize,
    /// Clients at work at once.
    pub clients: usize,
    /// For how long.
    pub duration: Duration,
    /// What the faults and the clients do is drawn from this.
    pub seed: u64,
    /// The staleness bound that the nodes run with.
    pub bound: Duration,
    /// The bound that the checker holds them to: the same, or a shorter one, to see that it finds
    /// what it is there to find.
    pub promised: Duration,
    /// Whether the nodes hear of PostgreSQL's notifications.
    pub notify: bool,
    /// Whether there is a Redis.
    pub redis: bool,
    /// Whether the nodes read from a replica of the database too.
    pub replica: bool,
    /// Whether clients revoke by plain SQL too, of which nobody tells Redis.
    pub by_sql: bool,
    /// What goes wrong; nothing if there is none.
    pub faults: Vec<Fault>,
    /// Whether the nodes' gate is switched off, so that they break the promise.
    pub gate_open: bool,
    /// Whether the nodes do not notice that the database went back, so that they break the promise.
    pub unaware: bool,
    /// The database.
    pub store: Store,
}

/// The kind of a run's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A server, with a copy that takes reads.
    Postgres,
    /// A file.
    Sqlite,
}

impl Plan {
    /// Whether the database goes back, so that what was acknowledged may be lost.
    pub(crate) fn goes_back(&self) -> bool {
        self.faults.iter().any(|fault| fault.is_setback())
    }
}

/// Runs the plan, and checks what was said.
///
/// # Panics
///
/// Where there is no shared PostgreSQL, or a program is missing.
pub fn run(plan: &Plan) -> Report {
    let mut warm = plan.redis.then(|| Warm::start(plan.nodes));
    let world = World::start(plan, warm.as_ref());
    let before = resources::held(&world, warm.as_ref());
    let stop = AtomicBool::new(false);
    let load = Load::new(plan, &world);
    let (faults, memory) = thread::scope(|scope| {
        for client in 0..plan.clients {
            let (load, stop) = (&load, &stop);
            scope.spawn(move || load.client(client, stop));
        }
        let faults = scope.spawn(|| fault::inject(plan, &world, warm.as_mut(), &load, &stop));
        let memory = scope.spawn(|| resources::watch(plan, &world, &stop));
        let end = Instant::now() + plan.duration;
        while Instant::now() < end && !faults.is_finished() {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::SeqCst);
        (
            faults.join().expect("the faults end"),
            memory.join().expect("the nodes are watched"),
        )
    });
    if let Some(warm) = &warm {
        warm.heal();
    }
    world.heal();
    let history = load.finish();
    let resources = Resources {
        memory,
        before,
        after: resources::at_rest(plan, &world, warm.as_ref(), before),
    };
    Report::of(plan, history, faults, resources)
}
