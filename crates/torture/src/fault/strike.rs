//! Servers and nodes that stop, and are back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::Relay;

use super::Fault;
use crate::Plan;
use crate::cold::Cold;
use crate::load::Load;
use crate::warm::Warm;
use crate::world::World;

/// What can go wrong with a run, and what decides how.
pub(super) struct Strikes<'a> {
    pub(super) plan: &'a Plan,
    pub(super) world: &'a World,
    pub(super) warm: Option<&'a mut Warm>,
    pub(super) load: &'a Load<'a>,
    pub(super) stop: &'a AtomicBool,
    pub(super) random: fastrand::Rng,
}

/// For how long something goes wrong.
#[derive(Clone, Copy)]
pub(super) struct While {
    /// Shorter than the bound, as likely as not.
    pub(super) short: Duration,
    /// Longer than the bound.
    pub(super) long: Duration,
    pub(super) either: Duration,
}

impl Strikes<'_> {
    /// Makes one thing go wrong and then right again; whether there is what it takes.
    pub(super) fn strike(&mut self, fault: Fault) -> bool {
        let short = Duration::from_millis(self.random.u64(200..2000));
        let long = self.plan.bound + short;
        let either = if self.random.bool() { short } else { long };
        let pause = While {
            short,
            long,
            either,
        };
        match &self.world.cold {
            Cold::Postgres(postgres) if fault.is_setback() || fault == Fault::ReplicaPromoted => {
                self.strike_postgres(postgres, fault, pause)
            }
            Cold::Sqlite(sqlite) if fault.is_setback() => self.swap(sqlite, fault, pause),
            _ => self.strike_redis(fault, pause) || self.strike_others(fault, pause),
        }
    }

    fn strike_redis(&mut self, fault: Fault, pause: While) -> bool {
        let Some(warm) = self.warm.take() else {
            return false;
        };
        let is_done = self.strike_warm(warm, fault, pause);
        self.warm = Some(warm);
        is_done
    }

    fn strike_others(&mut self, fault: Fault, pause: While) -> bool {
        match (fault, &self.world.cold) {
            (Fault::DatabasePaused, Cold::Postgres(postgres)) => {
                postgres.cluster.pause();
                self.rest(pause.either);
                postgres.cluster.resume();
            }
            (Fault::DatabaseKilled, Cold::Postgres(postgres)) => {
                postgres.cluster.kill();
                self.rest(pause.short);
                postgres.cluster.restart();
            }
            (Fault::ReplicaLagging, Cold::Postgres(postgres)) => {
                let Some(copy) = &postgres.copy else {
                    return false;
                };
                copy.standby().pause_replay();
                self.rest(pause.long);
                copy.standby().resume_replay();
            }
            (Fault::NodePaused, _) => {
                let node = &self.world.nodes[self.random.usize(..self.world.nodes.len())];
                node.pause();
                self.rest(pause.long);
                node.resume();
            }
            (Fault::LongTransaction, cold) => {
                let seconds = pause.long.as_secs_f64();
                let sql = match cold {
                    Cold::Postgres(_) => format!(
                        "BEGIN; INSERT INTO users (email, username) VALUES (gen_random_uuid(), gen_random_uuid()); \
                         SELECT pg_sleep({seconds}); COMMIT"
                    ),
                    Cold::Sqlite(_) => format!(
                        "BEGIN IMMEDIATE; \
                         INSERT INTO users (email, username) VALUES (hex(randomblob(8)), hex(randomblob(8)));\n\
                         .shell sleep {seconds}\nCOMMIT;"
                    ),
                };
                return cold.try_sql(&sql).is_ok();
            }
            // There is no Redis, or it is none of this database's.
            _ => return false,
        }
        true
    }

    pub(super) fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn strike_warm(&mut self, warm: &mut Warm, fault: Fault, pause: While) -> bool {
        match fault {
            Fault::RedisKilled => {
                warm.redis.kill();
                self.rest(pause.short);
                warm.redis.restart();
            }
            Fault::RedisPaused => {
                warm.redis.pause();
                self.rest(pause.short);
                warm.redis.resume();
            }
            Fault::RedisSnapshot => {
                let snapshot = warm.redis.snapshot();
                self.rest(pause.long);
                warm.redis.restart_from(&snapshot);
            }
            Fault::RedisPromoted => {
                // It follows nobody from here on, and nobody knows yet.
                let replica = warm.redis.replica();
                replica.promote();
                self.rest(pause.either);
                warm.hand_over(replica);
            }
            Fault::RedisCutOff => {
                let mut ways: Vec<&Relay> = warm.ways.iter().collect();
                self.random.shuffle(&mut ways);
                ways.truncate(self.random.usize(1..ways.len().max(2)));
                ways.iter().for_each(|way| way.cut());
                self.rest(pause.either);
                ways.iter().for_each(|way| way.mend());
            }
            Fault::MessagesLost => {
                warm.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            _ => return false,
        }
        true
    }
}
