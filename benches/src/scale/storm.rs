//! Sessions revoked by one node at a steady rate, one by one, as users log out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use session_core::SessionId;
use testbed::Database;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tower_session::Tiers;

use crate::Failure;
use crate::sessions::Basket;

/// Between one handful of revocations and the next.
const TICK: Duration = Duration::from_millis(20);

pub(super) struct Storm {
    stop: Arc<AtomicBool>,
    /// Revocations a second, as far as they were done.
    done: JoinHandle<f64>,
}

/// So many sessions that nobody uses.
pub(super) fn prepare(database: &Database, sessions: usize) {
    database.sql(&format!(
        "CREATE TABLE doomed AS SELECT n, gen_random_uuid() AS id FROM generate_series(1, {sessions}) n; \
         CREATE INDEX ON doomed (n); \
         INSERT INTO sessions (id, expires_at) SELECT id, now() + interval '12 hours' FROM doomed; \
         ANALYZE"
    ));
}

impl Storm {
    pub(super) fn begin(
        runtime: &Runtime,
        database: &Database,
        tiers: &Tiers<Basket>,
        rate: f64,
    ) -> Result<Self, Failure> {
        /// Longer than any slice.
        const SECONDS: f64 = 5.0;
        let some = (rate * SECONDS) as usize;
        let ids = database.sql(&format!(
            "DELETE FROM doomed WHERE n IN (SELECT n FROM doomed ORDER BY n LIMIT {some}) RETURNING id"
        ));
        let ids: Vec<SessionId> = ids.lines().map(str::parse).collect::<Result<_, _>>()?;
        if ids.len() < some {
            return Err("all sessions are revoked".into());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let done = runtime.spawn(revoke(tiers.clone(), ids, rate, Arc::clone(&stop)));
        Ok(Self { stop, done })
    }

    /// How many were revoked in a second.
    pub(super) fn end(self, runtime: &Runtime) -> Result<f64, Failure> {
        self.stop.store(true, Ordering::SeqCst);
        Ok(runtime.block_on(self.done)?)
    }
}

async fn revoke(
    tiers: Tiers<Basket>,
    ids: Vec<SessionId>,
    rate: f64,
    stop: Arc<AtomicBool>,
) -> f64 {
    let begun = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ids = ids.into_iter();
    let (mut due, mut done) = (0.0, 0_u32);
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        due += rate * TICK.as_secs_f64();
        let some = ids.by_ref().take(due as usize);
        due = due.fract();
        let revoked = join_all(some.map(|id| tiers.revoke(id))).await;
        done += revoked.iter().filter(|it| it.is_ok()).count() as u32;
    }
    f64::from(done) / begun.elapsed().as_secs_f64()
}
