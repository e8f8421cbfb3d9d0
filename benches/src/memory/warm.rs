//! In Redis.

use futures_util::future::try_join_all;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use testbed::Redis;
use tokio::runtime::Builder;
use tower_session::TierConfig;
use tower_sessions::session_store::SessionStore as _;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};

use crate::Failure;
use crate::apps;
use crate::chapter::Effort;
use crate::report::Table;
use crate::sessions::Sessions;
use crate::spread::{Spread, number};

/// Records that Redis is asked about one by one.
const SAMPLES: usize = 1000;

pub(super) fn table(effort: Effort) -> Result<Table, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let sessions = effort.of(1_000_000, 20_000);
    let mut table = Table::new([
        "",
        "records",
        "`MEMORY USAGE`, bytes",
        "`used_memory` for each",
        "the value alone",
    ]);
    runtime.block_on(async {
        let redis = Redis::builder().tcp().start();
        let before = used(&redis);
        let mut config = TierConfig::default();
        config.warm.url = Some(redis.url());
        config.warm.command_timeout = std::time::Duration::from_secs(10);
        let (made, _) = Sessions::with_tokens(sessions);
        let tiers = made.cached(config).await?;
        let (row, usage) = measured("**ours**, a head", &redis, before, sessions).await?;
        table.row(row);
        table.target(
            "a head takes at most 200 bytes",
            &usage.to_string(),
            usage.median <= 200.0,
        );
        drop(tiers);

        let redis = Redis::builder().tcp().start();
        let before = used(&redis);
        let sessions = sessions / 10;
        fill(&redis, sessions).await?;
        let (row, _) =
            measured("tower-sessions, ten small fields", &redis, before, sessions).await?;
        table.row(row);
        Ok::<_, Failure>(())
    })?;
    table.note(
        "Ours are of a user with an e-mail address of 23 characters and a name of 11, \
         an access token, and all times. `MEMORY USAGE` of 1,000 records at random.",
    );
    Ok(table)
}

async fn measured(
    name: &str,
    redis: &Redis,
    before: f64,
    sessions: usize,
) -> Result<(Vec<String>, Spread), Failure> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let held: usize = redis::cmd("DBSIZE").query_async(&mut connection).await?;
    if held < sessions {
        return Err(format!("Redis holds {held} of {sessions} records").into());
    }
    let each = (used(redis) - before) / held as f64;
    let keys = some_keys(&mut connection).await?;
    let (mut usage, mut values) = (Vec::new(), Vec::new());
    for key in keys {
        let mut asked = redis::cmd("MEMORY");
        let bytes: u64 = asked
            .arg("USAGE")
            .arg(&key)
            .query_async(&mut connection)
            .await?;
        usage.push(bytes as f64);
        values.push(connection.strlen::<_, u64>(&key).await? as f64);
    }
    let usage = Spread::of(usage);
    let row = vec![
        name.to_owned(),
        number(held as f64, 0),
        usage.to_string(),
        number(each, 0),
        Spread::of(values).to_string(),
    ];
    Ok((row, usage))
}

async fn some_keys(connection: &mut MultiplexedConnection) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for _ in 0..SAMPLES {
        keys.push(redis::cmd("RANDOMKEY").query_async(connection).await?);
    }
    Ok(keys)
}

/// What Redis has allocated.
fn used(redis: &Redis) -> f64 {
    let info = redis.cli(&["INFO", "memory"]);
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok())
        .unwrap_or(0.0)
}

/// Sessions of tower-sessions with ten small fields.
async fn fill(redis: &Redis, sessions: usize) -> Result<(), Failure> {
    let pool = Pool::new(Config::from_url(&redis.url())?, None, None, None, 1)?;
    pool.init().await?;
    let store = RedisStore::new(pool);
    for first in (0..sessions).step_by(1000) {
        let some = (first..sessions.min(first + 1000)).map(|number| {
            let store = store.clone();
            async move { store.create(&mut with_ten_fields(number)).await }
        });
        try_join_all(some).await?;
    }
    Ok(())
}

fn with_ten_fields(number: usize) -> tower_sessions::session::Record {
    let mut record = apps::record(number);
    let texts = [
        ("email", format!("user{number:07}@example.com")),
        ("username", format!("user{number:07}")),
        ("authenticated_at", "2026-11-26T03:56:56Z".to_owned()),
        ("last_seen_at", "2026-11-26T03:56:56Z".to_owned()),
        ("idle_until", "2026-11-26T15:56:56Z".to_owned()),
        ("assurance", "aal1".to_owned()),
        ("locale", "en".to_owned()),
        ("theme", "dark".to_owned()),
    ];
    for (name, text) in texts {
        record.data.insert(name.to_owned(), text.into());
    }
    record
}
