//! Short plans; and that the checker finds what it is there to find.

use std::time::Duration;

use torture::{Fault, Plan, Report, Store, Violation, run};

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
        unaware: false,
        store: Store::Postgres,
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

/// Restores, crashes and copies: each seed has some of them, and this one begins with a restore into tables
/// that were emptied.
#[test]
fn a_postgres_that_goes_back_is_obeyed_and_served_from_then_on() {
    let report = run(&Plan {
        duration: Duration::from_secs(24),
        bound: Duration::from_secs(1),
        promised: Duration::from_secs(1),
        faults: Fault::setbacks(Store::Postgres),
        seed: 38,
        ..plan()
    });
    println!("{report}");
    assert_eq!(report.violations, []);
    assert!(report.faults.len() >= 2, "{report}");
    assert!(
        report.faults.contains(&Fault::RestoredIntoEmptied),
        "{report}"
    );
}

#[test]
fn a_sqlite_file_that_is_replaced_is_obeyed_and_served_from_then_on() {
    let report = run(&Plan {
        duration: Duration::from_secs(12),
        bound: Duration::from_secs(1),
        promised: Duration::from_secs(1),
        store: Store::Sqlite,
        faults: Fault::setbacks(Store::Sqlite),
        ..plan()
    });
    println!("{report}");
    assert_eq!(report.violations, []);
    assert!(!report.faults.is_empty(), "{report}");
}

/// Nodes that do not notice that the database went back serve what it no longer has.
#[test]
fn the_checker_finds_nodes_that_do_not_notice_that_the_database_went_back() {
    let plan = Plan {
        duration: Duration::from_secs(12),
        bound: Duration::from_secs(1),
        promised: Duration::from_secs(1),
        redis: false,
        replica: false,
        faults: vec![Fault::RestoredAtOnce],
        unaware: true,
        ..plan()
    };
    must_find(&plan, |report| {
        let mut violations = report.violations.iter();
        violations.any(|it| matches!(it, Violation::OfLostHistory { .. }))
    });
}

/// Nodes that hear of revocations only by a feed that is slower than the bound they are held to.
#[test]
fn the_checker_finds_nodes_that_break_the_promise() {
    let plan = Plan {
        duration: Duration::from_secs(8),
        bound: Duration::from_secs(8),
        promised: Duration::from_millis(500),
        notify: false,
        redis: false,
        faults: Vec::new(),
        ..plan()
    };
    must_find(&plan, found_late);
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
    let plan = Plan {
        duration: Duration::from_secs(12),
        faults: vec![Fault::RedisSnapshot],
        ..plan
    };
    must_find(&plan, found_late);
}

/// On a busy machine a run does so little that what is to be found may not happen. Others follow then.
fn must_find(plan: &Plan, found: fn(&Report) -> bool) {
    let found = (plan.seed..plan.seed + 3).any(|seed| {
        let report = run(&Plan {
            seed,
            ..plan.clone()
        });
        println!("{report}");
        found(&report)
    });
    assert!(found, "none of the runs shows it");
}

fn found_late(report: &Report) -> bool {
    let mut violations = report.violations.iter();
    violations.any(|violation| matches!(violation, Violation::Late { .. }))
}
