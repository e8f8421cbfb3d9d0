//! The node that is hit, and what goes on in it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use http::{Request, Response};
use testbed::{Database, Redis};
use tower::{Layer as _, Service as _, service_fn};
use tower_session::{Login, Session, SessionId, SessionLayer, TierConfig, Tiers, TokenKeys};

use super::{Beside, Took};
use crate::sessions::cookie;
use crate::{Failure, processor};

const HOT: usize = 1000;
const CROWD: usize = 10_000;

/// A node, another node, and their servers.
pub(super) struct Bed {
    node: Tiers<u64>,
    other: Tiers<u64>,
    _database: Database,
    redis: Redis,
    /// Sessions that are hot all the time.
    cookies: Vec<String>,
    /// Sessions that the other node changes.
    changed: Vec<SessionId>,
    /// Sessions that are in the database alone.
    cold: Vec<SessionId>,
}

impl Bed {
    pub(super) async fn start() -> Result<Self, Failure> {
        let (database, redis) = (Database::create(), Redis::start());
        let mut config = TierConfig::default();
        config.cold.url = database.url();
        config.warm.url = Some(redis.url());
        config.hot.capacity = bytesize::ByteSize::mib(4);
        let keys = TokenKeys::random();
        let node: Tiers<u64> = Tiers::open(config.clone(), keys.clone()).await?;
        let other: Tiers<u64> = Tiers::open(config, keys).await?;
        let mut cookies = Vec::new();
        let mut changed = Vec::new();
        for _ in 0..HOT {
            let access = node.login(Login::guest().data(1)).await?.access;
            cookies.push(cookie(&access));
            changed.push(other.login(Login::guest().data(1)).await?.session.id());
        }
        let cold = database
            .sql(&format!(
                "INSERT INTO sessions (id, expires_at, data) \
                 SELECT gen_random_uuid(), now() + interval '1 day', '1' \
                 FROM generate_series(1, {}) RETURNING id",
                10 * CROWD
            ))
            .lines()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            node,
            other,
            _database: database,
            redis,
            cookies,
            changed,
            cold,
        })
    }

    /// Hot hits for one slice.
    pub(super) fn hit(&self, slice: Duration) -> Took {
        let mut took = Took::new();
        let layer = SessionLayer::new(self.node.clone());
        let mut service = layer.layer(service_fn(read));
        let end = Instant::now() + slice;
        let mut next = 0;
        while Instant::now() < end {
            next = (next + 1) % self.cookies.len();
            let request = Request::builder()
                .header("cookie", self.cookies[next].as_str())
                .body(())
                .expect("a request");
            let (clock, processor) = (Instant::now(), processor::of_thread());
            let answered = service.call(request).now_or_never();
            let (clock, processor) = (clock.elapsed(), processor::of_thread() - processor);
            // It may just have been driven out: then it is no hot hit, and is asked for again.
            if answered.is_some() {
                took.clock.saturating_record(clock.as_nanos() as u64);
                took.processor
                    .saturating_record(processor.as_nanos() as u64);
            }
        }
        took
    }

    /// What goes on until `stop`; how many sessions it touched.
    pub(super) async fn work(self: Arc<Self>, beside: Beside, stop: Arc<AtomicBool>) -> u64 {
        let mut done = 0;
        while !stop.load(Ordering::SeqCst) {
            match beside {
                Beside::Nothing => tokio::time::sleep(Duration::from_millis(10)).await,
                Beside::Floors => {
                    let id = self.changed[fastrand::usize(..HOT)];
                    if let Ok(session) = self.other.find(id).await {
                        let _ = session.update(|data| *data += 1).await;
                    }
                    done += 1;
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Beside::Misses => {
                    let some = (0..50).map(|_| self.cold[fastrand::usize(..self.cold.len())]);
                    join_all(some.map(|id| self.node.find(id))).await;
                    done += 50;
                    // Some 10,000 a second, for a million hot hits a second on the other thread.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Beside::Storms => {
                    self.redis.cli(&["FLUSHALL"]);
                    let from = fastrand::usize(..self.cold.len() - CROWD);
                    let crowd = &self.cold[from..from + CROWD];
                    join_all(crowd.iter().map(|&id| self.node.find(id))).await;
                    done += CROWD as u64;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        done
    }
}

async fn read(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let session = request.extensions().get::<Session<u64>>();
    let body = session.and_then(|session| session.body_if_here());
    let data = body.and_then(|body| body.data().ok().copied());
    Ok(Response::new(data.unwrap_or_default()))
}
