//! What a cold load costs beside the same statement by hand, and how loads go together.

mod by_hand;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use chart::{Axis, Chart, Corner};
use session_core::{SessionId, TokenKeys};
use testbed::Database;
use tokio::runtime::{Builder, Runtime};
use tower_session::{Tier, TierConfig, Tiers};

use crate::Failure;
use crate::chapter::Effort;
use crate::crowd::{Asker, Crowds, crowd};
use crate::report::Section;
use crate::sessions::Basket;

/// Ours, of all askers.
const OURS: usize = 2;
const TASKS: [usize; 6] = [1, 4, 16, 64, 256, 1024];

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let database = Database::create();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut config = TierConfig::default();
    config.cold.url = database.url();
    config.hot.capacity = ByteSize::b(0);
    config.session.touch_interval = Duration::from_secs(60 * 60);
    let tiers: Tiers<Basket> =
        runtime.block_on(Tiers::open(config.clone(), TokenKeys::random()))?;
    let ids: Arc<[SessionId]> = fill(&database, effort.of(50_000, 5_000))?.into();

    let by_hand = runtime.block_on(by_hand::askers(&database, config.cold.pool_size, &ids))?;
    let askers: Vec<Asker> = by_hand
        .into_iter()
        .chain([ours("**ours**", tiers, ids)])
        .collect();
    let crowds = Crowds::measure(&runtime, &askers, &TASKS, effort);
    let statements: Vec<String> = askers
        .iter()
        .map(|asker| statements(&runtime, &database, asker, effort))
        .collect();

    let mut table = crowds.table(&[
        crowds.processor(64),
        ("statements each, of 1 / 64 / 1,024".into(), statements),
    ]);
    let (alone, many) = (crowds.ratio(OURS, 1), crowds.ratio(OURS, 64));
    table.target(
        "one task gets at least 90 % of the same statements by hand",
        &alone.shown(2, ""),
        alone.median >= 0.9,
    );
    table.target("64 tasks get more", &many.shown(2, ""), many.median > 1.0);
    let chart = Chart {
        title: "Sessions read from PostgreSQL".into(),
        x: Axis::logarithmic("tasks that ask at the same time", 1.0, 1024.0),
        y: Axis::logarithmic("a second", 1e3, 1e6),
        legend: Corner::UpperLeft,
        series: crowds.curves(),
    };
    let section = Section::default().table("cold", table).chart("cold", chart);
    Ok(section.and(sqlite::measure(&runtime, effort)?))
}

/// So many sessions, each of another user.
fn fill(database: &Database, sessions: usize) -> Result<Vec<SessionId>, Failure> {
    let ids = database.sql(&format!(
        "INSERT INTO users (id, email, username) \
             SELECT n, 'user' || n || '@example.com', 'user' || n FROM generate_series(1, {sessions}) n; \
         INSERT INTO sessions (id, user_id, expires_at, access_jti, data) \
             SELECT gen_random_uuid(), n, now() + interval '12 hours', uuid_send(gen_random_uuid()), '{{\"items\": 1}}' \
             FROM generate_series(1, {sessions}) n; \
         ANALYZE; \
         SELECT id FROM sessions;"
    ));
    Ok(ids.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn ours(name: &'static str, tiers: Tiers<Basket>, ids: Arc<[SessionId]>) -> Asker {
    Asker::new(name, move || {
        let (tiers, id) = (tiers.clone(), ids[fastrand::usize(..ids.len())]);
        async move {
            let session = tiers.find(id).await.expect("it is valid");
            assert_eq!(session.tier(), Tier::Cold);
            assert_eq!(
                session
                    .body_if_here()
                    .map(|body| body.data().map_or(0, |it| it.items)),
                Some(1)
            );
        }
    })
}

/// How many statements the database counts for one session.
fn statements(runtime: &Runtime, database: &Database, asker: &Asker, effort: Effort) -> String {
    let each = [1, 64, 1024].map(|tasks| {
        database.reset_statements();
        let slice = effort.slice(Duration::from_millis(500));
        let (done, _) = runtime.block_on(crowd(&asker.ask, tasks, slice));
        let calls: u64 = database.statements().iter().map(|it| it.calls).sum();
        format!("{:.2}", calls as f64 / done as f64)
    });
    each.join(" / ")
}
