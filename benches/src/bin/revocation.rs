//! How long another node still serves a session after the commit that revoked it:
//! `cargo run --release -p testbed -- cargo run --release -p benches --bin revocation [TIMES]`.
//!
//! Nodes in one process, on a real PostgreSQL and a real Redis; the session is hot on the other
//! node, which is asked without a pause until it refuses. The commit counts from the moment that
//! whoever revoked was told of it.

use std::time::Duration;

use session_core::TokenKeys;
use testbed::{Database, Redis};
use tower_session::tier_cache::cold::{ColdStore as _, PostgresStore};
use tower_session::{Credential, Login, TierConfig, Tiers};

/// Who revokes, and how the other node hears of it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Push,
    Notify,
    Feed,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let times = std::env::args()
        .nth(1)
        .map_or(Ok(500), |times| times.parse())?;
    let database = Database::create();
    let redis = Redis::start();
    for (name, way, times) in [
        ("by the API, push through Redis", Way::Push, times),
        ("plain SQL, PostgreSQL's NOTIFY", Way::Notify, times),
        ("the feed alone, every second", Way::Feed, times.min(40)),
    ] {
        let mut config = TierConfig::default();
        config.cold.url = database.url();
        config.cold.notify = way == Way::Notify;
        config.warm.url = (way == Way::Push).then(|| redis.url());
        let keys = TokenKeys::random();
        let store = PostgresStore::open(&config.cold)?;
        let here: Tiers<()> = Tiers::open(config.clone(), keys.clone()).await?;
        let there: Tiers<()> = Tiers::open(config, keys).await?;
        let mut took = Vec::new();
        for _ in 0..times {
            took.push(revoke(way, &store, &here, &there).await?);
        }
        took.sort();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        println!(
            "{name:32} p50 {:>9.3?}  p99 {:>9.3?}  worst {:>9.3?}  ({times} times)",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    Ok(())
}

/// From the commit to the moment that the other node refuses.
async fn revoke(
    way: Way,
    store: &PostgresStore,
    here: &Tiers<()>,
    there: &Tiers<()>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let issued = here.login(Login::guest()).await?;
    there.find(issued.access.clone()).await?;
    let credential = Credential::from(issued.access);
    let (watched, asked) = (there.clone(), credential.clone());
    // A thread of its own, which sees the refusal to the microsecond.
    let watch = std::thread::spawn(move || {
        while let Some(Ok(_)) = watched.try_hot(&asked) {
            std::hint::spin_loop();
        }
        watched.now().moment
    });
    // At any moment between two polls, not just after one.
    let anywhen = Duration::from_micros(fastrand::u64(..1_000_000));
    tokio::time::sleep(anywhen).await;
    let id = issued.session.id();
    let bound = here.config().fence.staleness_bound;
    let effective = match way {
        Way::Push => here.revoke(id).await?.effective_at(),
        Way::Notify | Way::Feed => {
            store.revoke(id, here.now().wall).await?;
            here.now().moment + bound
        }
    };
    while !watch.is_finished() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let refused = watch.join().map_err(|_| "the watch ends")?;
    Ok((refused + bound).since(effective))
}
