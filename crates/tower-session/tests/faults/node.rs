//! A node is stopped while its clients go on.

use std::time::Duration;

use testbed::{Database, Redis};
use tier_cache::Clock;

use crate::bed::{Bed, config};
use crate::row::Row;
use crate::service::Ask;

/// Every request gets its answer: those that were under way theirs, those that come later a session
/// that is hot or in the database, or a 503 for a change.
#[tokio::test(flavor = "multi_thread")]
async fn node_stops_under_load() {
    const TOUCH: Duration = Duration::from_secs(1);
    let (redis, database) = (Redis::start(), Database::create());
    let mut config = config(&database, redis.url());
    config.session.touch_interval = TOUCH;
    // From then on what is hot is not served any more: nothing is heard of changes.
    config.fence.staleness_bound = Duration::from_secs(5);
    let bed = Bed::start(database, config, Clock::system()).await;
    let mut row = Row::begin_undecidable("node: stopped under load", bed).await;

    let (here, id) = (&row.bed.here, row.untouched.id);
    let seen = || {
        let at = format!("SELECT extract(epoch FROM last_seen_at) FROM sessions WHERE id = '{id}'");
        row.bed
            .database
            .sql(&at)
            .trim()
            .parse::<f64>()
            .expect("an instant")
    };
    let before = seen();
    tokio::time::sleep(2 * TOUCH).await;
    let answer = here.ask(Ask::Me, &row.untouched.token).await;
    assert!(answer.shown().is_some(), "{answer:?}");
    let ended = here.tiers.shutdown(Duration::from_secs(60)).await;
    assert!(ended, "some of its tasks have not ended");
    assert!(
        seen() >= before + TOUCH.as_secs_f64(),
        "its last use was not noted"
    );

    let undecided = row.journal.writes.now().undecided;
    row.rounds().await;
    let undecided = row.journal.writes.now().undecided - undecided;
    assert!(undecided > 0, "it takes changes");
    row.recovery = "all tasks ended, the last use was noted".into();
    row.end().await;
}
