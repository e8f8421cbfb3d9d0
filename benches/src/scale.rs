//! What one more node costs, and what revocations cost all of them: several nodes as processes of
//! their own, on one PostgreSQL and one Redis.
//!
//! All of it is processor time, not the clock's: more nodes than cores run here.

mod node;
mod storm;

use std::time::Duration;

use bytesize::ByteSize;
use chart::{Axis, Chart, Corner, Series};
use testbed::{Database, Redis};
use tokio::runtime::{Builder, Runtime};
use tower_session::{Login, TierConfig, Tiers};

use self::node::{Node, Place};
use self::storm::Storm;
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::in_turn;
use crate::report::{Section, Table};
use crate::sessions::{Basket, cookie};
use crate::spread::{Spread, number};

pub(crate) use node::serve;

const NODES: [usize; 4] = [1, 2, 4, 8];
/// Revocations a second.
const RATES: [f64; 4] = [0.0, 10.0, 100.0, 1000.0];
const HOT: usize = 1000;

/// The servers, and the node that everything is changed by.
struct World {
    runtime: Runtime,
    database: Database,
    tiers: Tiers<Basket>,
    place: Place,
}

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let redis = Redis::start();
    let world = World::make(&redis, effort)?;
    Ok(nodes(&world, effort)?.and(revocations(&world, effort)?))
}

impl World {
    fn make(redis: &Redis, effort: Effort) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let database = Database::create();
        // To be asked about statements here.
        database.sql("CREATE EXTENSION pg_stat_statements");
        let place = Place::new(&database.url(), &redis.url())?;
        let mut config = TierConfig::default();
        config.cold.url = database.url();
        config.warm.url = Some(redis.url());
        config.hot.capacity = ByteSize::mib(256);
        let tiers: Tiers<Basket> = runtime.block_on(Tiers::open(config, place.keys()?))?;
        let mut cookies = Vec::new();
        for _ in 0..HOT {
            let login = Login::guest().data(Basket { items: 1 });
            cookies.push(cookie(&runtime.block_on(tiers.login(login))?.access));
        }
        place.tell(&cookies)?;
        storm::prepare(&database, effort.of(300_000, 50_000));
        Ok(Self {
            runtime,
            database,
            tiers,
            place,
        })
    }

    /// While sessions are revoked at this rate.
    fn during<T>(&self, rate: f64, measure: impl FnOnce() -> T) -> Result<(T, f64), Failure> {
        let storm = Storm::begin(&self.runtime, &self.database, &self.tiers, rate)?;
        let measured = measure();
        Ok((measured, storm.end(&self.runtime)?))
    }

    /// Polls of the feed so far, of all nodes, and the rows that they were answered with.
    fn polls(&self) -> Result<(f64, f64), Failure> {
        let polls = self.database.sql(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(rows), 0) FROM pg_stat_statements \
             WHERE toplevel AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND query LIKE 'WITH now AS%session_tombstones%'",
        );
        let (calls, rows) = polls.split_once('|').ok_or("two columns")?;
        Ok((calls.parse()?, rows.parse()?))
    }
}

/// What was measured with so many nodes, round by round; of one node, in a second.
#[derive(Default)]
struct Costs {
    hit: Vec<f64>,
    over: Vec<f64>,
    idle: [Vec<f64>; 3],
    busy: [Vec<f64>; 3],
    revoked: Vec<f64>,
}

fn nodes(world: &World, effort: Effort) -> Result<Section, Failure> {
    let mut table = Table::new([
        "nodes",
        "processor time of a hot hit, ns",
        "over the bare service",
        "idle: processor time, ms",
        "idle: polls",
        "idle: rows",
        "revocations: processor time, ms",
        "revocations: polls",
        "revocations: rows",
        "revoked a second, in fact",
    ]);
    for count in NODES {
        let costs = with_nodes(world, count, effort)?;
        let mut row = vec![
            count.to_string(),
            Spread::of(costs.hit).to_string(),
            Spread::of(costs.over).to_string(),
        ];
        for figures in [costs.idle, costs.busy] {
            let [processor, polls, rows] = figures.map(Spread::of);
            row.extend([
                processor.shown(1, ""),
                number(polls.median, 1),
                number(rows.median, 0),
            ]);
        }
        row.push(number(Spread::of(costs.revoked).median, 0));
        table.row(row);
    }
    table.note(
        "Idle, and with 1,000 revocations a second: of one node, in a second. Polls of the feed are all that it asks of the database then; those of the node that revokes are counted too.",
    );
    Ok(Section::default().table("scale", table))
}

fn with_nodes(world: &World, count: usize, effort: Effort) -> Result<Costs, Failure> {
    let mut nodes = start(world, count)?;
    let slice = effort.slice(Duration::from_secs(2));
    let mut costs = Costs::default();
    for _ in 0..effort.of(5, 1) {
        for hits in Node::all(&mut nodes, |node| node.hit(slice / 2))? {
            costs.hit.push(hits.ours);
            costs.over.push(hits.ours - hits.bare);
        }
        let idle = feed(world, &mut nodes, slice)?;
        let (busy, revoked) = world.during(1000.0, || feed(world, &mut nodes, slice))?;
        for (all, one) in costs.idle.iter_mut().zip(idle) {
            all.push(one);
        }
        for (all, one) in costs.busy.iter_mut().zip(busy?) {
            all.push(one);
        }
        costs.revoked.push(revoked);
    }
    Ok(costs)
}

/// Milliseconds of processor time, polls and rows of one node in a second in which nobody asks it.
fn feed(world: &World, nodes: &mut [Node], slice: Duration) -> Result<[f64; 3], Failure> {
    let before = world.polls()?;
    let ran = Node::all(nodes, |node| node.rest(slice))?;
    let after = world.polls()?;
    // The node that revokes polls like the others.
    let each = slice.as_secs_f64() * (nodes.len() + 1) as f64;
    let ran: f64 = ran.iter().map(Duration::as_secs_f64).sum();
    Ok([
        ran * 1e3 / slice.as_secs_f64() / nodes.len() as f64,
        (after.0 - before.0) / each,
        (after.1 - before.1) / each,
    ])
}

fn revocations(world: &World, effort: Effort) -> Result<Section, Failure> {
    let mut nodes = start(world, 1)?;
    let slice = effort.slice(Duration::from_secs(2));
    let mut hits = vec![Vec::new(); RATES.len()];
    let mut revoked = vec![Vec::new(); RATES.len()];
    let mut failed = None;
    in_turn(effort.of(9, 1), RATES.len(), |at| {
        let measured = world.during(RATES[at], || Node::all(&mut nodes, |node| node.hit(slice)));
        match measured.and_then(|(hit, rate)| Ok((hit?, rate))) {
            Ok((hit, rate)) => {
                hits[at].push(hit[0].ours);
                revoked[at].push(rate);
            }
            Err(error) => failed = Some(error),
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }

    let mut table = Table::new([
        "revoked a second",
        "in fact",
        "processor time of a hot hit, ns",
        "of that with none",
    ]);
    for (at, rate) in RATES.iter().enumerate() {
        table.row([
            number(*rate, 0),
            number(Spread::of(revoked[at].iter().copied()).median, 0),
            Spread::of(hits[at].iter().copied()).to_string(),
            Spread::ratio(&hits[at], &hits[0]).shown(2, ""),
        ]);
    }
    let points = || {
        let medians = hits
            .iter()
            .map(|hits| Spread::of(hits.iter().copied()).median);
        // Where none would stand, there is no logarithm.
        RATES.iter().map(|rate| rate.max(1.0)).zip(medians)
    };
    let most = points().map(|(_, nanos)| nanos).fold(0.0, f64::max);
    let top = (most / 500.0).ceil() * 500.0 + 500.0;
    let chart = Chart {
        title: "A hot hit while other sessions are revoked".into(),
        x: Axis::logarithmic("revoked a second (1: none)", 1.0, 1000.0),
        y: Axis::linear("processor time of a request, ns", (0.0, top), 500.0),
        legend: Corner::LowerRight,
        series: vec![
            Series::line("ours, in tower", points()),
            Series::points("", points()),
        ],
    };
    Ok(Section::default()
        .table("scale-revocations", table)
        .chart("scale-revocations", chart))
}

/// So many nodes, on which all sessions are hot.
fn start(world: &World, count: usize) -> Result<Vec<Node>, Failure> {
    (0..count).map(|_| Node::start(&world.place)).collect()
}
