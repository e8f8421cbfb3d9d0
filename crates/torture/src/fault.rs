//! What goes wrong, by a seeded plan.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::Relay;

use crate::Plan;
use crate::warm::Warm;
use crate::world::World;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Redis is killed, and is back, empty, after a while.
    RedisKilled,
    /// Redis stands still.
    RedisPaused,
    /// Redis is killed, and is back as it was in a snapshot of a while ago.
    RedisSnapshot,
    /// A replica of Redis takes over that lacks what was written for a while.
    RedisPromoted,
    /// Some nodes are cut off from Redis while the others go on.
    RedisCutOff,
    /// Subscribers are cut off, so that messages are lost.
    MessagesLost,
    /// The database stands still.
    DatabasePaused,
    /// The database is killed and started again.
    DatabaseKilled,
    /// The replica of the database receives what is new, but does not show it.
    ReplicaLagging,
    /// A node stands still for longer than the bound.
    NodePaused,
    /// A write transaction is held open.
    LongTransaction,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::RedisKilled,
        Self::RedisPaused,
        Self::RedisSnapshot,
        Self::RedisPromoted,
        Self::RedisCutOff,
        Self::MessagesLost,
        Self::DatabasePaused,
        Self::DatabaseKilled,
        Self::ReplicaLagging,
        Self::NodePaused,
        Self::LongTransaction,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RedisKilled => "Redis killed, back empty",
            Self::RedisPaused => "Redis paused",
            Self::RedisSnapshot => "Redis killed, back from an old snapshot",
            Self::RedisPromoted => "Redis replica promoted, late writes lost",
            Self::RedisCutOff => "some nodes cut off from Redis",
            Self::MessagesLost => "subscribers cut off",
            Self::DatabasePaused => "database paused",
            Self::DatabaseKilled => "database killed and restarted",
            Self::ReplicaLagging => "database replica lagging",
            Self::NodePaused => "node paused for longer than the bound",
            Self::LongTransaction => "write transaction held open",
        })
    }
}

/// Makes one thing after the other go wrong, until `stop`; returns what.
pub(crate) fn inject(
    plan: &Plan,
    world: &World,
    mut warm: Option<&mut Warm>,
    stop: &AtomicBool,
) -> Vec<Fault> {
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
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let warm = warm.as_deref_mut();
        if strike(plan, world, warm, fault, &mut random, stop) {
            done.push(fault);
        }
    }
    done
}

/// Makes one thing go wrong and then right again; whether there is what it takes.
fn strike(
    plan: &Plan,
    world: &World,
    warm: Option<&mut Warm>,
    fault: Fault,
    random: &mut fastrand::Rng,
    stop: &AtomicBool,
) -> bool {
    let short = Duration::from_millis(random.u64(200..2000));
    let long = plan.bound + short;
    let either = if random.bool() { short } else { long };
    match (fault, warm) {
        (Fault::RedisKilled, Some(warm)) => {
            warm.redis.kill();
            rest(stop, short);
            warm.redis.restart();
        }
        (Fault::RedisPaused, Some(warm)) => {
            warm.redis.pause();
            rest(stop, short);
            warm.redis.resume();
        }
        (Fault::RedisSnapshot, Some(warm)) => {
            let snapshot = warm.redis.snapshot();
            rest(stop, long);
            warm.redis.restart_from(&snapshot);
        }
        (Fault::RedisPromoted, Some(warm)) => {
            // It follows nobody from here on, and nobody knows yet.
            let replica = warm.redis.replica();
            replica.promote();
            rest(stop, either);
            warm.hand_over(replica);
        }
        (Fault::RedisCutOff, Some(warm)) => {
            let mut ways: Vec<&Relay> = warm.ways.iter().collect();
            random.shuffle(&mut ways);
            ways.truncate(random.usize(1..ways.len().max(2)));
            ways.iter().for_each(|way| way.cut());
            rest(stop, either);
            ways.iter().for_each(|way| way.mend());
        }
        (Fault::MessagesLost, Some(warm)) => {
            warm.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        (Fault::DatabasePaused, _) => {
            world.cluster.pause();
            rest(stop, either);
            world.cluster.resume();
        }
        (Fault::DatabaseKilled, _) => {
            world.cluster.kill();
            rest(stop, short);
            world.cluster.restart();
        }
        (Fault::ReplicaLagging, _) => {
            let Some(standby) = &world.standby else {
                return false;
            };
            standby.pause_replay();
            rest(stop, long);
            standby.resume_replay();
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
