//! What the nodes hold: memory, tasks, connections, leases; and what of it they do not give back.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::warm::Warm;
use crate::wire::{Ask, Line, Say};
use crate::world::World;
use crate::{Plan, Store};

/// What the nodes held, in the course of a run.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Memory of all nodes together, at equal times.
    pub memory: Vec<Memory>,
    /// When nothing was asked of them yet.
    pub before: Held,
    /// When nothing is asked of them any more.
    pub after: Held,
}

/// Kilobytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, with what the allocator keeps of what was freed.
    pub resident: u64,
    /// In use on the heap of Rust.
    pub heap: u64,
}

/// What all nodes together hold at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Tasks of their runtimes.
    pub tasks: u64,
    /// Connections to the database.
    pub database: u64,
    /// Connections to Redis.
    pub redis: u64,
    /// Leases in Redis.
    pub leases: u64,
}

impl Resources {
    /// Memory in a part of the run: the middle values.
    pub fn memory_from_to(&self, from: f64, to: f64) -> Memory {
        let at = |part: f64| (self.memory.len() as f64 * part) as usize;
        let part = &self.memory[at(from)..at(to)];
        Memory {
            resident: middle(part.iter().map(|memory| memory.resident)),
            heap: middle(part.iter().map(|memory| memory.heap)),
        }
    }

    /// What was not given back, in words.
    pub(crate) fn left(&self, plan: &Plan) -> Vec<String> {
        /// By so much memory may vary, that is handed out and taken back all the time.
        const FLAT: f64 = 1.1;
        /// A shorter run shows only how the caches fill.
        const TELLING: Duration = Duration::from_secs(600);
        let mut left = Vec::new();
        let most = most(plan, self.before);
        let mut check = |what: &str, held: u64, most: u64| {
            if held > most {
                left.push(format!("{held} {what}, and {most} would do"));
            }
        };
        check("tasks", self.after.tasks, most.tasks);
        check(
            "connections to the database",
            self.after.database,
            most.database,
        );
        check("connections to Redis", self.after.redis, most.redis);
        check("leases", self.after.leases, most.leases);
        if plan.duration >= TELLING {
            let (early, late) = (self.memory_from_to(0.4, 0.6), self.memory_from_to(0.8, 1.0));
            let most = |early: u64| (early as f64 * FLAT) as u64;
            check("kB of heap", late.heap, most(early.heap));
            // Of what SQLite's page caches once took, and gave back, the allocator keeps much.
            if plan.store == Store::Postgres {
                check("kB resident", late.resident, most(early.resident));
            }
        }
        left
    }
}

fn middle(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The most that idle nodes may hold, which held so much before they had anything to do.
fn most(plan: &Plan, before: Held) -> Held {
    let nodes = plan.nodes as u64;
    let pool = tier_cache::TierConfig::default().cold.pool_size as u64;
    // To the replica too.
    let pools = if plan.replica { 2 * pool } else { pool };
    Held {
        // Each connection has one.
        tasks: before.tasks + nodes * pools,
        // The feed and the notifications have one each.
        database: nodes * (pool + 2),
        redis: before.redis,
        leases: 0,
    }
}

/// Looks at the memory of the nodes until `stop`, `SAMPLES` times in all.
pub(crate) fn watch(plan: &Plan, world: &World, stop: &AtomicBool) -> Vec<Memory> {
    const SAMPLES: u32 = 60;
    let pause = plan.duration / SAMPLES;
    let mut memory = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        if Instant::now() >= next {
            memory.extend(memory_of_all(world));
            next += pause;
        }
        thread::sleep(Duration::from_millis(20));
    }
    memory
}

/// Nothing if one of the nodes does not answer.
fn memory_of_all(world: &World) -> Option<Memory> {
    let mut all = Memory::default();
    for node in &world.nodes {
        let said = Line::open(node.address).and_then(|mut line| line.ask(&Ask::Heap));
        let Ok(Say::Heap(bytes)) = said else {
            return None;
        };
        all.heap += bytes / 1024;
        all.resident += resident(node.pid());
    }
    Some(all)
}

/// Kilobytes of resident memory of a process.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    kilobytes.map_or(0, |kilobytes| kilobytes.trim().parse().expect("a number"))
}

/// What the nodes hold now.
pub(crate) fn held(world: &World, warm: Option<&Warm>) -> Held {
    let tasks = world.nodes.iter().map(|node| {
        let said = Line::open(node.address).and_then(|mut line| line.ask(&Ask::Tasks));
        match said {
            Ok(Say::Tasks(tasks)) => tasks,
            other => panic!("a node does not count its tasks: {other:?}"),
        }
    });
    let clients = warm.map(|warm| warm.redis.cli(&["CLIENT", "LIST"]));
    let leases = warm.map(|warm| warm.redis.cli(&["--scan", "--pattern", "session:l:*"]));
    Held {
        tasks: tasks.sum(),
        database: world.cold.connections(&world.pids()),
        // The one that asks is not counted.
        redis: clients.map_or(0, |list| count(&list) - 1),
        leases: leases.map_or(0, |leases| count(&leases)),
    }
}

fn count(lines: &str) -> u64 {
    lines.lines().filter(|line| !line.is_empty()).count() as u64
}

/// What the nodes hold once they hold as little as they may, or after a while.
pub(crate) fn at_rest(plan: &Plan, world: &World, warm: Option<&Warm>, before: Held) -> Held {
    /// Connections and leases that a fault left hanging end by then.
    const PATIENCE: Duration = Duration::from_secs(60);
    let end = Instant::now() + PATIENCE;
    let most = most(plan, before);
    loop {
        let held = held(world, warm);
        let rests = held.tasks <= most.tasks
            && held.database <= most.database
            && held.redis <= most.redis
            && held.leases <= most.leases;
        if rests || Instant::now() >= end {
            return held;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |kind: fn(Memory) -> u64| {
            let tenths = (0..10).map(|tenth| f64::from(tenth) / 10.0);
            let tenths = tenths.map(|from| {
                let kilobytes = kind(self.memory_from_to(from, from + 0.1));
                format!("{:.1}", kilobytes as f64 / 1024.0)
            });
            tenths.collect::<Vec<_>>().join(" ")
        };
        writeln!(
            f,
            "resident memory of all nodes, MiB in each tenth of the time: {}",
            tenths(|memory| memory.resident)
        )?;
        writeln!(
            f,
            "of it in use on the heap: {}",
            tenths(|memory| memory.heap)
        )?;
        for (when, held) in [("before", self.before), ("after", self.after)] {
            writeln!(
                f,
                "{when}: {} tasks, {} connections to the database, {} to Redis, {} leases",
                held.tasks, held.database, held.redis, held.leases
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn plan() -> Plan {
        Plan {
            node: "torture-node".into(),
            nodes: 2,
            clients: 1,
            duration: HOUR,
            seed: 0,
            bound: HOUR,
            promised: HOUR,
            notify: true,
            redis: true,
            replica: false,
            by_sql: false,
            faults: Vec::new(),
            gate_open: false,
            unaware: false,
            store: Store::Postgres,
        }
    }

    fn resources(memory: impl Fn(u64) -> Memory, after: Held) -> Resources {
        Resources {
            memory: (0..60).map(memory).collect(),
            before: Held {
                tasks: 20,
                database: 4,
                redis: 4,
                leases: 0,
            },
            after,
        }
    }

    #[test]
    fn what_is_not_given_back_is_found() {
        let before = resources(|_| Memory::default(), Held::default()).before;
        let left = |after| resources(|_| Memory::default(), after).left(&plan());
        assert_eq!(left(before), [""; 0]);
        let after = Held {
            tasks: 1000,
            database: 1000,
            redis: 5,
            leases: 1,
        };
        assert_eq!(left(after).len(), 4);
    }

    #[test]
    fn memory_that_grows_is_found_and_caches_that_fill_are_not() {
        let left = |store, kilobytes: fn(u64) -> u64| {
            let resident = |minute| Memory {
                resident: kilobytes(minute),
                heap: 1000,
            };
            let heap = |minute| Memory {
                resident: 1000,
                heap: kilobytes(minute),
            };
            let plan = Plan { store, ..plan() };
            [
                resources(resident, Held::default()),
                resources(heap, Held::default()),
            ]
            .map(|resources| resources.left(&plan).len())
        };
        let filling = |minute: u64| 1000 + 100 * minute.min(20);
        let growing = |minute: u64| 1000 + 100 * minute;
        assert_eq!(left(Store::Postgres, filling), [0, 0]);
        assert_eq!(left(Store::Postgres, growing), [1, 1]);
        // What the allocator keeps of SQLite's is no leak.
        assert_eq!(left(Store::Sqlite, growing), [0, 1]);
    }
}
