//! What a warm hit costs beside a bare `GET` of the same records.

mod askers;

use chart::{Axis, Chart, Corner};
use testbed::Redis;
use tokio::runtime::{Builder, Runtime};

use crate::Failure;
use crate::chapter::Effort;
use crate::crowd::{Asker, Crowds, crowd};
use crate::report::{Section, Table};

/// Who reads ours by token, of all askers.
const BY_TOKEN: usize = 1;
const TASKS: [usize; 4] = [1, 16, 64, 256];

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    // On TCP, as services reach theirs, and the same way for all.
    let redis = Redis::builder().tcp().start();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let bench = runtime.block_on(askers::all(&redis, effort.of(20_000, 2_000)))?;
    let crowds = Crowds::measure(&runtime, &bench.askers, &TASKS, effort);
    let commands = bench
        .askers
        .iter()
        .map(|asker| commands(&runtime, &redis, asker, effort))
        .collect();

    let mut table = crowds.table(&[crowds.processor(64), ("commands each".into(), commands)]);
    note(&mut table, &bench);
    for tasks in [64, 256] {
        let ratio = crowds.ratio(BY_TOKEN, tasks);
        table.target(
            &format!("by token, with {tasks} tasks, at least 80 % of `GET`s by hand"),
            &ratio.shown(2, ""),
            ratio.median >= 0.8,
        );
    }
    let chart = Chart {
        title: "Sessions read from Redis".into(),
        x: Axis::logarithmic("tasks that ask at the same time", 1.0, 256.0),
        y: Axis::logarithmic("a second", 1e3, 1e6),
        legend: Corner::UpperLeft,
        series: crowds.curves(),
    };
    Ok(Section::default().table("warm", table).chart("warm", chart))
}

fn note(table: &mut Table, bench: &askers::Bench) {
    let (bytes, key) = bench.record;
    table.note(format!(
        "A record of ours is {bytes} bytes under a key of {key}. Of our lookups {} were answered by another tier than Redis.",
        bench.elsewhere()
    ));
}

/// What one operation asks of Redis.
fn commands(runtime: &Runtime, redis: &Redis, asker: &Asker, effort: Effort) -> String {
    let slice = effort.slice(std::time::Duration::from_millis(300));
    let before = redis.calls();
    let (done, _) = runtime.block_on(crowd(&asker.ask, 16, slice));
    let calls = redis.calls_since(&before);
    let each = calls.iter().filter_map(|(name, count)| {
        let each = *count as f64 / done as f64;
        (each > 0.05).then(|| format!("{each:.2} {}", name.to_uppercase()))
    });
    each.collect::<Vec<_>>().join(", ")
}
