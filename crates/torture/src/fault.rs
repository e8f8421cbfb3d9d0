//! What goes wrong, by a seeded plan.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::world::World;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Redis is killed, and is back, empty, after a while.
    RedisKilled,
    /// Redis stands still.
    RedisPaused,
    /// Redis is as it was a while ago.
    RedisOlder,
    /// Subscribers are cut off, so that messages are lost.
    MessagesLost,
    /// The database stands still.
    DatabasePaused,
    /// The database is killed and started again.
    DatabaseKilled,
    /// A node stands still for longer than the bound.
    NodePaused,
    /// A write transaction is held open.
    LongTransaction,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::RedisKilled,
        Self::RedisPaused,
        Self::RedisOlder,
        Self::MessagesLost,
        Self::DatabasePaused,
        Self::DatabaseKilled,
        Self::NodePaused,
        Self::LongTransaction,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RedisKilled => "Redis killed, back empty",
            Self::RedisPaused => "Redis paused",
            Self::RedisOlder => "Redis put back to an older state",
            Self::MessagesLost => "subscribers cut off",
            Self::DatabasePaused => "database paused",
            Self::DatabaseKilled => "database killed and restarted",
            Self::NodePaused => "node paused for longer than the bound",
            Self::LongTransaction => "write transaction held open",
        })
    }
}

/// Makes one thing after the other go wrong, until `stop`; returns what.
pub(crate) fn inject(plan: &Plan, world: &World, stop: &AtomicBool) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut done = Vec::new();
    let mut left = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        rest(stop, Duration::from_millis(random.u64(300..1200)));
        if left.is_empty() {
            // Each kind once before any comes again.
            left.clone_from(&plan.faults);
            random.shuffle(&mut left);
        }
        let Some(fault) = left.pop() else { continue };
        if !stop.load(Ordering::SeqCst) && strike(plan, world, fault, &mut random, stop) {
            done.push(fault);
        }
    }
    done
}

fn strike(
    plan: &Plan,
    world: &World,
    fault: Fault,
    random: &mut fastrand::Rng,
    stop: &AtomicBool,
) -> bool {
    let short = Duration::from_millis(random.u64(200..2000));
    let long = plan.bound + short;
    match (fault, &world.redis) {
        (Fault::RedisKilled, Some(redis)) => {
            redis.kill();
            rest(stop, short);
            redis.restart();
        }
        (Fault::RedisPaused, Some(redis)) => {
            redis.pause();
            rest(stop, short);
            redis.resume();
        }
        (Fault::RedisOlder, Some(redis)) => {
            let Ok(older) = Copy::take(&redis.url()) else {
                return false;
            };
            rest(stop, long);
            return older.put_back(&redis.url()).is_ok();
        }
        (Fault::MessagesLost, Some(redis)) => {
            redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        (Fault::DatabasePaused, _) => {
            world.cluster.pause();
            let pause = if random.bool() { short } else { long };
            rest(stop, pause);
            world.cluster.resume();
        }
        (Fault::DatabaseKilled, _) => {
            world.cluster.kill();
            rest(stop, short);
            world.cluster.restart();
        }
        (Fault::NodePaused, _) => {
            let node = &world.nodes[random.usize(..world.nodes.len())];
            node.pause();
            rest(stop, long);
            node.resume();
        }
        (Fault::LongTransaction, _) => {
            let seconds = long.as_secs_f64();
            let sql = format!(
                "BEGIN; INSERT INTO users (email, username) VALUES (gen_random_uuid(), gen_random_uuid()); \
                 SELECT pg_sleep({seconds}); COMMIT"
            );
            return world.database.try_sql(&sql).is_ok();
        }
        // There is no Redis.
        _ => return false,
    }
    true
}

fn rest(stop: &AtomicBool, pause: Duration) {
    let end = Instant::now() + pause;
    while Instant::now() < end && !stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// All that Redis holds.
struct Copy(Vec<(Vec<u8>, Vec<u8>)>);

impl Copy {
    fn take(url: &str) -> redis::RedisResult<Self> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection)?;
        let mut all = Vec::new();
        for key in keys {
            let value: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query(&mut connection)?;
            all.extend(value.map(|value| (key, value)));
        }
        Ok(Self(all))
    }

    fn put_back(self, url: &str) -> redis::RedisResult<()> {
        let mut connection = redis::Client::open(url)?.get_connection()?;
        for (key, value) in self.0 {
            redis::cmd("SET")
                .arg(key)
                .arg(value)
                .arg("EX")
                .arg(3600)
                .exec(&mut connection)?;
        }
        Ok(())
    }
}
