//! How long another node still serves a session after its revocation was asked for, the commit
//! included:
//! `cargo run --release -p testbed -- cargo run --release -p benches --bin revocation [TIMES]`.
//!
//! Two nodes in one process, on a real PostgreSQL and a real Redis; the session is hot on the
//! other node, which is asked without a pause until it refuses.

use std::time::{Duration, Instant};

use session_core::TokenKeys;
use testbed::{Database, Redis};
use tower_session::{Credential, Login, TierConfig, Tiers};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let times = std::env::args()
        .nth(1)
        .map_or(Ok(500), |times| times.parse())?;
    let database = Database::create();
    let redis = Redis::start();
    for (name, warm, times) in [
        ("by push through Redis", Some(redis.url()), times),
        ("by the feed alone, every second", None, times.min(20)),
    ] {
        let mut config = TierConfig::default();
        config.cold.url = database.url();
        config.warm.url = warm;
        let keys = TokenKeys::random();
        let here: Tiers<()> = Tiers::open(config.clone(), keys.clone()).await?;
        let there: Tiers<()> = Tiers::open(config, keys).await?;
        let mut took = Vec::new();
        for _ in 0..times {
            took.push(revoke(&here, &there).await?);
        }
        took.sort();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        println!(
            "{name:34} p50 {:>9.3?}  p99 {:>9.3?}  worst {:>9.3?}  ({times} times)",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    Ok(())
}

/// From the call that revokes to the moment that the other node refuses. The commit lies between
/// them, so from the commit it is less.
async fn revoke(
    here: &Tiers<()>,
    there: &Tiers<()>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let issued = here.login(Login::guest()).await?;
    there.find(issued.access.clone()).await?;
    let credential = Credential::from(issued.access);
    let (there, asked) = (there.clone(), credential.clone());
    // A thread of its own, which sees the refusal to the microsecond.
    let watch = std::thread::spawn(move || {
        loop {
            match there.try_hot(&asked) {
                Some(Ok(_)) => std::hint::spin_loop(),
                _ => return Instant::now(),
            }
        }
    });
    // At any moment between two polls, not just after one.
    let anywhen = Duration::from_micros(fastrand::u64(..1_000_000));
    tokio::time::sleep(anywhen).await;
    let called = Instant::now();
    here.revoke(issued.session.id()).await?;
    while !watch.is_finished() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let refused = watch.join().map_err(|_| "the watch ends")?;
    Ok(refused.saturating_duration_since(called))
}
