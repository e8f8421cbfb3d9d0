//! How long another node still serves a session after the commit that revoked it.
//!
//! Nodes in one process, on a real PostgreSQL and a real Redis; the session is hot on the other
//! node, which is asked without a pause until it refuses. The commit counts from the moment that
//! whoever revoked was told of it.

use std::time::Duration;

use session_core::TokenKeys;
use testbed::{Database, Redis};
use tokio::runtime::Builder;
use tower_session::tier_cache::cold::{ColdStore as _, PostgresStore};
use tower_session::{Credential, Login, TierConfig, Tiers};

use crate::Failure;
use crate::chapter::Effort;
use crate::report::{Section, Table};
use crate::spread::number;

/// Who revokes, and how the other node hears of it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Push,
    Notify,
    Feed,
}

impl Way {
    const ALL: [Self; 3] = [Self::Push, Self::Notify, Self::Feed];

    fn name(self) -> &'static str {
        match self {
            Self::Push => "by the API, push through Redis",
            Self::Notify => "plain SQL, PostgreSQL's NOTIFY",
            Self::Feed => "the feed alone, every second",
        }
    }

    fn times(self, effort: Effort) -> usize {
        match self {
            Self::Push | Self::Notify => effort.of(200, 5),
            Self::Feed => effort.of(40, 3),
        }
    }
}

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (database, redis) = (Database::create(), Redis::start());
    let mut table = Table::new(["", "times", "p50, ms", "p99, ms", "worst, ms"]);
    for way in Way::ALL {
        let times = way.times(effort);
        let took = runtime.block_on(revoke_often(way, times, &database, &redis))?;
        let at = |part: f64| {
            let took = took[((took.len() - 1) as f64 * part) as usize];
            number(took.as_secs_f64() * 1e3, 2)
        };
        table.row([
            way.name().to_owned(),
            number(times as f64, 0),
            at(0.5),
            at(0.99),
            at(1.0),
        ]);
    }
    Ok(Section::default().table("revocation", table))
}

/// What each revocation took, in ascending order.
async fn revoke_often(
    way: Way,
    times: usize,
    database: &Database,
    redis: &Redis,
) -> Result<Vec<Duration>, Failure> {
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
    Ok(took)
}

/// From the commit to the moment that the other node refuses.
async fn revoke(
    way: Way,
    store: &PostgresStore,
    here: &Tiers<()>,
    there: &Tiers<()>,
) -> Result<Duration, Failure> {
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
