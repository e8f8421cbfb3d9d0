//! The same traces, played by the simulator and by real nodes.

use std::time::Duration;

use bytesize::ByteSize;
use metrics_util::debugging::DebuggingRecorder;
use simulator::{Counts, Event, Replay, Setting, Trace, What, Workload};
use tier_cache::{Clock, TierConfig};

use crate::service::Service;

/// What one side says at the end.
struct Played {
    counts: Counts,
    /// Sessions in the hot tier of a node, and their bytes.
    hot: (f64, f64),
    /// Records in Redis, and their bytes.
    warm: (f64, f64),
    /// Floors of a node.
    floors: f64,
}

/// Plays a trace on both sides: simulated, real. They stop each `touches_every` until the uses are
/// noted.
fn play(setting: &Setting, clock: Option<Clock>, trace: &[Event]) -> (Played, Played) {
    let recorder = DebuggingRecorder::new();
    // One thread, so that this recorder is the one that all of it finds.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let config = setting.config.clone();
            let mut service = Service::start(config, &setting.workload, clock, &recorder).await;
            let mut replay = Replay::new(setting.clone());
            let every = setting.touches_every.as_secs_f64();
            let mut stop = every;
            for event in trace {
                while event.at >= stop {
                    stop += every;
                    service.wait_for_touches().await;
                }
                let before = replay.counts();
                replay.play(event);
                service.play(event).await;
                if replay.counts().evalsha > before.evalsha {
                    service.settle(replay.counts().evalsha).await;
                }
            }
            replay.settle();
            service.wait_for_touches().await;
            let prediction = replay.prediction(&Counts::default(), 1.0);
            let held = prediction.held;
            let simulated = Played {
                counts: replay.counts(),
                hot: (held.hot_entries, held.hot_bytes),
                warm: (held.warm_records, held.warm_bytes),
                floors: held.floors,
            };
            let real = Played {
                counts: service.counts(),
                hot: service.hot(),
                warm: service.warm(),
                floors: service.floors(),
            };
            (simulated, real)
        })
    })
}

/// Both sides agree within a tenth; none of it is so little that this says nothing.
fn agree(compared: &[(&str, f64, f64)]) {
    let mut text = String::new();
    let mut far = Vec::new();
    for &(what, simulated, real) in compared {
        let off = 100.0 * (simulated / real - 1.0);
        text += &format!("{what:<24} simulated {simulated:>10} real {real:>10} {off:>6.1} %\n");
        if real < 50.0 || off.abs() > 10.0 {
            far.push(what);
        }
    }
    println!("{text}");
    assert!(far.is_empty(), "{far:?}\n{text}");
}

fn counts(simulated: &Counts, real: &Counts) -> Vec<(&'static str, f64, f64)> {
    let pair =
        |what, count: fn(&Counts) -> u64| (what, count(simulated) as f64, count(real) as f64);
    let mut all = vec![
        pair("hot", |c| c.hot),
        pair("warm", |c| c.warm),
        // Nodes count the fetching of a body as a lookup that the database answers.
        pair("cold, and bodies", |c| c.cold + c.bodies),
        pair("loads, and read back", |c| c.load + c.read_back),
        pair("GET", |c| c.get),
        pair("SET", |c| c.set),
        pair("EVALSHA", |c| c.evalsha),
    ];
    // Not all traces write.
    for written in [
        pair("begun", |c| c.create),
        pair("revoked", |c| c.revoke),
        pair("changed", |c| c.update),
        pair("told", |c| c.pushes),
        pair("rows touched", |c| c.touched_rows),
    ] {
        if written.1 > 1.0 {
            all.push(written);
        }
    }
    all
}

fn held(simulated: &Played, real: &Played) -> [(&'static str, f64, f64); 4] {
    [
        ("hot sessions of a node", simulated.hot.0, real.hot.0),
        ("their bytes", simulated.hot.1, real.hot.1),
        ("records in Redis", simulated.warm.0, real.warm.0),
        ("their bytes", simulated.warm.1, real.warm.1),
    ]
}

/// More sessions than there is room for, for an hour: hot capacity, routing at random, logins,
/// revocations, changes, bodies, renewals of what was hot for long, foreign keys, touches.
#[test]
fn an_hour_of_everything_costs_what_the_simulator_says() {
    const HOUR: f64 = 3600.0;
    let mut config = TierConfig::default();
    config.hot.capacity = ByteSize::kib(300);
    config.hot.ttl = Duration::from_secs(1500);
    config.session.touch_interval = Duration::from_secs(600);
    config.warm.ttl = Duration::from_secs(24 * 3600);
    config.warm.url = Some("of the service".into());
    config.cold.url = "postgres://of the service".into();
    let workload = Workload {
        requests: 2.2,
        zipf: 0.7,
        visit: 4.0,
        logins: 0.03,
        revocations: 0.03,
        updates: 0.05,
        bodies: 0.1,
        foreign: 0.1,
        ..Workload::of(900, 3)
    };
    let setting = Setting {
        // By the clock of the nodes, which stands still meanwhile.
        statement: Duration::ZERO,
        touches_every: Duration::from_secs(600),
        // Moka has a clock of its own, on which an hour takes some seconds.
        shelf_ages: false,
        ..Setting::new(config, workload)
    };
    let trace: Vec<_> = Trace::new(&setting.workload, None, 1)
        .take_while(|event| event.at < HOUR)
        .collect();
    let (simulated, real) = play(&setting, Some(Clock::manual()), &trace);
    let mut compared = counts(&simulated.counts, &real.counts);
    compared.extend(held(&simulated, &real));
    compared.push(("floors of a node", simulated.floors, real.floors));
    agree(&compared);
}

/// Rounds through all sessions, with pauses in which what is hot ends: `hot.ttl` by moka's own clock.
#[test]
fn what_is_hot_for_as_long_as_it_may_be_is_hot_no_more() {
    const SESSIONS: u32 = 120;
    let mut config = TierConfig::default();
    config.hot.ttl = Duration::from_secs(4);
    config.warm.url = Some("of the service".into());
    config.cold.url = "postgres://of the service".into();
    let workload = Workload::of(SESSIONS.into(), 2);
    let setting = Setting::new(config, workload);
    let mut trace = Vec::new();
    let mut at = 0.0;
    // Twice on the first node, once on the second, and again when it is over.
    for (node, pause) in [(0, 0.0), (0, 0.0), (1, 0.0), (0, 6.0), (1, 0.0), (1, 0.0)] {
        at += pause;
        for place in 0..SESSIONS {
            at += 0.005;
            let what = What::Request { body: false };
            trace.push(Event {
                at,
                node,
                place,
                what,
            });
        }
    }
    // A change has the nodes look at what they hold.
    let what = What::Update;
    trace.push(Event {
        at,
        node: 0,
        place: 0,
        what,
    });
    let (simulated, real) = play(&setting, None, &trace);
    let mut compared = counts(&simulated.counts, &real.counts);
    compared.extend(held(&simulated, &real));
    agree(&compared);
}
