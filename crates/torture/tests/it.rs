//! A short plan; and that the checker finds what it is there to find.

use std::time::Duration;

use torture::{Fault, Plan, Report, Violation, run};

fn plan() -> Plan {
    Plan {
        node: env!("CARGO_BIN_EXE_torture-node").into(),
        nodes: 3,
        clients: 8,
        duration: Duration::from_secs(30),
        seed: 7,
        bound: Duration::from_secs(2),
        promised: Duration::from_secs(2),
        notify: true,
        redis: true,
        replica: true,
        by_sql: true,
        faults: Fault::ALL.into(),
        gate_open: false,
    }
}

#[test]
fn under_faults_nothing_is_served_late_lost_or_refused_for_nothing() {
    let report = run(&plan());
    println!("{report}");
    assert_eq!(report.violations, []);
    assert!(report.operations() > 500, "{report}");
    assert!(report.faults.len() >= 2, "{report}");
}

/// Nodes that hear of revocations only by a feed that is slower than the bound they are held to.
#[test]
fn the_checker_finds_nodes_that_break_the_promise() {
    let report = run(&Plan {
        duration: Duration::from_secs(8),
        bound: Duration::from_secs(8),
        promised: Duration::from_millis(500),
        notify: false,
        redis: false,
        faults: Vec::new(),
        ..plan()
    });
    assert!(found_late(&report), "{report}");
}

/// Nodes whose gate is switched off serve what Redis brings back from an old snapshot, and by
/// nothing else are late: revocations go by the API alone, which leaves a tombstone in Redis.
#[test]
fn the_checker_finds_nodes_without_a_gate_once_redis_brings_old_records_back() {
    let plan = Plan {
        duration: Duration::from_secs(6),
        bound: Duration::from_secs(1),
        promised: Duration::from_secs(1),
        notify: false,
        replica: false,
        by_sql: false,
        faults: Vec::new(),
        gate_open: true,
        ..plan()
    };
    let report = run(&plan);
    assert!(!found_late(&report), "{report}");
    let report = run(&Plan {
        duration: Duration::from_secs(12),
        faults: vec![Fault::RedisSnapshot],
        ..plan
    });
    assert!(found_late(&report), "{report}");
}

fn found_late(report: &Report) -> bool {
    let mut violations = report.violations.iter();
    violations.any(|violation| matches!(violation, Violation::Late { .. }))
}
