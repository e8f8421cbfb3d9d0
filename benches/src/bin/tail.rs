//! What a hot hit takes at worst, while all kinds of other things go on in the same node:
//! `cargo run --release -p testbed -- cargo run --release -p benches --bin tail [ROUNDS]`.
//!
//! One thread asks for one hot session after the other through the layer, and notes what each call
//! took: by the clock, in which the system may have run something else meanwhile, and by the
//! processor time of the thread, in which it may not. The rest of the node runs on another thread;
//! PostgreSQL and Redis are on the same machine, so that what they do takes its share of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use http::{Request, Response};
use rustix::time::{ClockId, clock_gettime};
use testbed::{Database, Redis};
use tower::{Layer as _, Service as _, service_fn};
use tower_session::{
    Login, Session, SessionCookie, SessionId, SessionLayer, TierConfig, Tiers, TokenKeys,
};

const HOT: usize = 1000;
const CROWD: usize = 10_000;
const SLICE: Duration = Duration::from_secs(3);

/// What goes on beside the hits.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    /// Another node changes 300 sessions a second, so that this one raises floors.
    Floors,
    /// Of a hundred requests one is for a session that is nowhere but in the database; each drives
    /// another out of the hot tier, which is full.
    Misses,
    /// 10,000 sessions are asked for at once, which are neither hot nor warm; again and again.
    Storms,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nothing, Self::Floors, Self::Misses, Self::Storms];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Floors => "floors are raised, 300 a second",
            Self::Misses => "1 % of requests miss, and evict",
            Self::Storms => "storms of 10,000 cold sessions",
        }
    }
}

/// What the calls of some slices took, in nanoseconds.
struct Took {
    clock: Histogram<u64>,
    processor: Histogram<u64>,
}

impl Took {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 1 << 40, 3).expect("some minutes");
        Self {
            clock: histogram(),
            processor: histogram(),
        }
    }
}

struct Bed {
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(5), |rounds| rounds.parse::<u32>())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bed = Arc::new(runtime.block_on(Bed::start())?);
    let _guard = runtime.enter();
    let mut took: Vec<Took> = Beside::ALL.iter().map(|_| Took::new()).collect();
    let mut done = [0; Beside::ALL.len()];
    for round in 0..rounds {
        for turn in 0..Beside::ALL.len() {
            let at = (turn + round as usize) % Beside::ALL.len();
            let stop = Arc::new(AtomicBool::new(false));
            let busy = runtime.spawn(Arc::clone(&bed).work(Beside::ALL[at], Arc::clone(&stop)));
            bed.hit(&mut took[at]);
            stop.store(true, Ordering::SeqCst);
            done[at] += runtime.block_on(busy)?;
        }
    }
    print(&took, &done, rounds);
    Ok(())
}

impl Bed {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
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
            cookies.push(format!("{}={}", SessionCookie::NAME, &*access.expose()));
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
    fn hit(&self, took: &mut Took) {
        let layer = SessionLayer::new(self.node.clone());
        let mut service = layer.layer(service_fn(read));
        let end = Instant::now() + SLICE;
        let mut next = 0;
        while Instant::now() < end {
            next = (next + 1) % self.cookies.len();
            let request = Request::builder()
                .header("cookie", self.cookies[next].as_str())
                .body(())
                .expect("a request");
            let (clock, processor) = (Instant::now(), processor_time());
            let answered = service.call(request).now_or_never();
            let (clock, processor) = (clock.elapsed(), processor_time() - processor);
            // It may just have been driven out: then it is no hot hit, and is asked for again.
            if answered.is_some() {
                took.clock.saturating_record(clock.as_nanos() as u64);
                took.processor.saturating_record(processor);
            }
        }
    }

    /// What goes on until `stop`; how many sessions it touched.
    async fn work(self: Arc<Self>, beside: Beside, stop: Arc<AtomicBool>) -> u64 {
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

/// Nanoseconds that this thread has run.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
}

fn print(took: &[Took], done: &[u64], rounds: u32) {
    println!(
        "{:33} {:>10} {:>9}   {:>32}   {:>32}",
        "beside", "hot hits", "others/s", "ns by the clock", "ns of processor time"
    );
    println!(
        "{:54}   {:>7} {:>7} {:>7} {:>8}   {:>7} {:>7} {:>7} {:>8}",
        "", "p50", "p99", "p99.9", "p99.99", "p50", "p99", "p99.9", "p99.99"
    );
    let seconds = SLICE.as_secs_f64() * f64::from(rounds);
    for ((took, done), beside) in took.iter().zip(done).zip(Beside::ALL) {
        print!(
            "{:33} {:>10} {:>9.0}",
            beside.name(),
            took.clock.len(),
            *done as f64 / seconds
        );
        for histogram in [&took.clock, &took.processor] {
            print!("  ");
            for part in [0.5, 0.99, 0.999, 0.9999] {
                print!(" {:>7}", histogram.value_at_quantile(part));
            }
            print!(" ");
        }
        println!();
    }
}
