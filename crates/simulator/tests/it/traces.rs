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

/// Plays a trace on both sides: simulated, real.
fn play(setting: &Setting, clock: Option<Clock>, trace: &[Event]) -> (Played, Played) {
    let recorder = DebuggingRecorder::new();
    // One thread, so that this recorder is the one that all of it finds.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let mut service = Service::start(setting, clock, &recorder).await;
            let mut replay = Replay::new(setting.clone());
            for event in trace {
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
/// revocations, changes, bodies, foreign keys, touches, and renewals of what is in use.
#[test]
fn an_hour_of_everything_costs_what_the_simulator_says() {
    const HOUR: f64 = 3600.0;
    let mut config = TierConfig::default();
    config.hot.capacity = ByteSize::kib(300);
    config.hot.ttl = Duration::from_secs(1500);
    config.session.touch_interval = Duration::from_secs(600);
    config.warm.ttl = Duration::from_secs(24 * 3600);
    config.session.idle_ttl = None;
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
        touches_every: Duration::from_secs(100),
        // Moka and Redis have clocks of their own, on which an hour takes half a minute.
        caches_age: false,
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
    // Without them both sides would be farther apart than they may be.
    let Counts {
        renewed_in_use,
        evalsha,
        ..
    } = simulated.counts;
    assert!(
        10 * renewed_in_use > evalsha,
        "{renewed_in_use} of {evalsha}"
    );
}

/// Sessions that one node loads, and another finds in Redis when up to two of 31 parts of `warm.ttl` are
/// left: by chance it has some of them loaded anew.
#[test]
fn records_near_their_ends_are_renewed_as_often_as_the_simulator_says() {
    const SESSIONS: u32 = 400;
    // Redis keeps a record for longer than the test takes.
    const TTL: f64 = 930.0;
    const PART: f64 = TTL / 31.0;
    let mut config = TierConfig::default();
    config.hot.ttl = Duration::from_secs(24 * 3600);
    config.warm.ttl = Duration::from_secs_f64(TTL);
    config.session.idle_ttl = None;
    config.warm.jitter = 0.0;
    config.warm.url = Some("of the service".into());
    config.cold.url = "postgres://of the service".into();
    let setting = Setting {
        statement: Duration::ZERO,
        touches_every: Duration::from_secs(60),
        caches_age: false,
        ..Setting::new(config, Workload::of(SESSIONS.into(), 2))
    };
    let mut trace = Vec::new();
    for place in 0..SESSIONS {
        let loaded = f64::from(place);
        let left = 2.0 * PART * f64::from(place % 100) / 100.0;
        for (at, node) in [(loaded, 0), (loaded + TTL - left, 1), (loaded + TTL, 0)] {
            trace.push(Event {
                at,
                node,
                place,
                what: What::Request { body: false },
            });
        }
    }
    trace.sort_by(|a, b| a.at.total_cmp(&b.at));
    let (simulated, real) = play(&setting, Some(Clock::manual()), &trace);
    agree(&counts(&simulated.counts, &real.counts));
    let Counts {
        renewed_warm,
        evalsha,
        ..
    } = simulated.counts;
    assert!(4 * renewed_warm > evalsha, "{renewed_warm} of {evalsha}");
}

/// Sessions that are all hot for as long as they may be, by moka's own clock, and then looked for again:
/// the half that was in use shortly before is still there.
#[test]
fn what_is_in_use_stays_hot_for_longer_than_hot_ttl_and_the_rest_does_not() {
    const SESSIONS: u32 = 120;
    let mut config = TierConfig::default();
    config.hot.ttl = Duration::from_secs(15);
    config.session.touch_interval = Duration::from_secs(8);
    config.warm.url = Some("of the service".into());
    config.cold.url = "postgres://of the service".into();
    let workload = Workload::of(SESSIONS.into(), 2);
    let setting = Setting::new(config, workload);
    let mut trace = Vec::new();
    for (from, node, sessions) in [
        (0.0, 0, SESSIONS),
        (0.7, 1, SESSIONS),
        (9.5, 0, SESSIONS / 2),
        (9.9, 1, SESSIONS / 2),
        (20.2, 0, SESSIONS),
        (20.9, 1, SESSIONS),
    ] {
        trace.extend((0..sessions).map(|place| Event {
            at: from + 0.005 * f64::from(place),
            node,
            place,
            what: What::Request { body: false },
        }));
    }
    // A change has the nodes look at what they hold.
    trace.push(Event {
        at: 21.6,
        node: 0,
        place: 0,
        what: What::Update,
    });
    let (simulated, real) = play(&setting, None, &trace);
    let mut compared = counts(&simulated.counts, &real.counts);
    compared.extend(held(&simulated, &real));
    agree(&compared);
    // On both nodes, and now again.
    let renewed = simulated.counts.renewed_in_use;
    assert_eq!(renewed, u64::from(4 * SESSIONS / 2));
}
