//! What is wrong is found, and what is right is not.

use super::*;

fn read(version: i64, asked_at: i64, served_at: i64) -> Read {
    Read {
        session: 1,
        node: 0,
        version,
        tag: None,
        asked_at,
        served_at,
    }
}

fn history(reads: &[Read], committed_by: i64) -> History {
    History {
        reads: reads.to_vec(),
        revocations: vec![Revocation {
            session: 1,
            setbacks: 0,
            committed_by,
        }],
        ..History::default()
    }
}

const BOUND: Duration = Duration::from_nanos(100);

#[test]
fn what_began_within_the_bound_is_no_violation_and_what_began_later_is() {
    assert_eq!(history(&[read(1, 200, 300)], 100).violations(BOUND), []);
    let late = read(1, 201, 202);
    let found = history(&[late], 100).violations(BOUND);
    let after = Duration::from_nanos(101);
    assert_eq!(found, [Violation::Late { read: late, after }]);
}

#[test]
fn a_version_that_goes_back_is_found_and_reads_that_overlap_are_not() {
    let back = read(1, 30, 40);
    let found = history(&[read(2, 10, 20), back], 1000).violations(BOUND);
    let before = 2;
    assert_eq!(found, [Violation::Backwards { read: back, before }]);
    let overlapping = [read(2, 10, 20), read(1, 15, 40)];
    assert_eq!(history(&overlapping, 1000).violations(BOUND), []);
}

#[test]
fn refusals_for_nothing_answers_for_others_and_lost_changes_are_found() {
    let history = History {
        false_refusals: vec![Refusal {
            session: 3,
            node: None,
            said: String::new(),
            setbacks: 0,
            asked_at: 1,
            refused_at: 2,
        }],
        mixed_up: vec![4],
        lost: vec!["one".into()],
        ..History::default()
    };
    let found = history.violations(BOUND);
    assert!(matches!(
        &found[0],
        Violation::RefusedForNothing { refusal, .. } if refusal.session == 3
    ));
    assert_eq!(found[1], Violation::MixedUp { session: 4 });
    assert_eq!(found[2], Violation::Lost("one".into()));
}

/// The database goes back at 1000 and answers again at 1100. From then on it has session 1 alone, at
/// version 5 with change 50.
fn went_back(reads: &[Read]) -> History {
    let row = Row {
        version: 5,
        active: true,
        tag: 50,
    };
    let early = Login {
        asked_at: 10,
        committed_by: 20,
    };
    History {
        reads: reads.to_vec(),
        logins: vec![early; 2],
        setbacks: vec![Setback {
            what: "a restore".into(),
            emptied: false,
            began_at: 1000,
            asked_at: 1090,
            answered_at: 1100,
            rows: [(1, row)].into(),
        }],
        ..History::default()
    }
}

fn of(session: usize, version: i64, tag: u64, asked_at: i64) -> Read {
    Read {
        session,
        tag: Some(tag),
        ..read(version, asked_at, asked_at + 1)
    }
}

fn lost(history: &History) -> usize {
    let found = history.violations(BOUND);
    let lost = found.iter();
    lost.filter(|it| matches!(it, Violation::OfLostHistory { .. }))
        .count()
}

#[test]
fn a_session_that_was_lost_may_be_served_within_the_bound_and_no_longer() {
    assert_eq!(went_back(&[of(0, 1, 0, 1200)]).violations(BOUND), []);
    assert_eq!(lost(&went_back(&[of(0, 1, 0, 1201)])), 1);
    // It may be of the history that goes on.
    let mut history = went_back(&[of(0, 1, 0, 1201)]);
    history.logins[0].committed_by = 1095;
    assert_eq!(history.violations(BOUND), []);
}

#[test]
fn a_revocation_that_was_lost_is_none_and_one_that_was_not_is_late_as_ever() {
    let mut history = went_back(&[of(1, 5, 50, 1201)]);
    history.revocations = vec![Revocation {
        session: 1,
        setbacks: 0,
        committed_by: 500,
    }];
    assert_eq!(history.violations(BOUND), []);
    // Once nobody can read of the lost history any more, reads before it went back are late.
    history.reads = vec![of(1, 5, 50, 700)];
    assert_eq!(history.violations(BOUND).len(), 1);
    // While it may be of either, it must be dead in both.
    history.reads = vec![of(1, 5, 50, 1001)];
    assert_eq!(history.violations(BOUND), []);
    history.revocations.push(Revocation {
        session: 1,
        setbacks: 1,
        committed_by: 1300,
    });
    assert_eq!(history.violations(BOUND), []);
    history.setbacks[0].rows.get_mut(&1).unwrap().active = false;
    assert!(matches!(
        history.violations(BOUND)[..],
        [Violation::Late { .. }]
    ));
}

#[test]
fn versions_and_changes_that_only_the_lost_history_had_are_found() {
    let change = |tag, asked_at, committed_by| Change {
        session: 1,
        tag,
        asked_at,
        committed_by,
    };
    let check = |read| {
        let mut history = went_back(&[read]);
        history.changes = vec![
            change(60, 900, 950),
            change(70, 1150, 1160),
            change(80, 1050, i64::MAX),
        ];
        lost(&history)
    };
    // Older than what it begins with, newer than it can be, and a change that was lost.
    assert_eq!(check(of(1, 4, 40, 1201)), 1);
    assert_eq!(check(of(1, 8, 80, 1201)), 1);
    assert_eq!(check(of(1, 6, 60, 1201)), 1);
    // What it begins with, what was added, and what may have been.
    for (version, tag) in [(5, 50), (6, 70), (7, 80)] {
        assert_eq!(check(of(1, version, tag, 1201)), 0, "{version}");
    }
    // Of the lost history, within the bound.
    assert_eq!(check(of(1, 6, 60, 1199)), 0);
}

#[test]
fn versions_go_backwards_only_within_a_history() {
    let reads = [of(1, 9, 9, 900), of(1, 5, 50, 1300)];
    assert_eq!(went_back(&reads).violations(BOUND), []);
    let mut reads = [of(1, 6, 50, 1300), of(1, 5, 50, 1310)];
    let mut history = went_back(&reads);
    history.changes = vec![Change {
        session: 1,
        tag: 0,
        asked_at: 1250,
        committed_by: 1260,
    }];
    let before = 6;
    let read = reads[1];
    assert_eq!(
        history.violations(BOUND),
        [Violation::Backwards { read, before }]
    );
    reads.reverse();
    history.reads = vec![of(1, 5, 50, 1300), of(1, 6, 50, 1310)];
    assert_eq!(history.violations(BOUND), []);
}

/// How many violations there are if a valid session is refused.
fn refused(history: History, why: &tier_cache::Refusal, setbacks: usize, asked_at: i64) -> usize {
    let refused = History {
        false_refusals: vec![Refusal {
            session: 1,
            node: None,
            said: why.to_string(),
            setbacks,
            asked_at,
            refused_at: asked_at + 10,
        }],
        ..history
    };
    refused.violations(BOUND).len()
}

#[test]
fn a_refusal_near_a_setback_is_no_violation_and_one_past_the_bound_is() {
    for why in [tier_cache::Refusal::Unknown, tier_cache::Refusal::Replaced] {
        let refused = |setbacks, asked_at| refused(went_back(&[]), &why, setbacks, asked_at);
        assert_eq!(refused(0, 900), 1);
        assert_eq!(refused(0, 995), 0);
        assert_eq!(refused(1, 1200), 0);
        assert_eq!(refused(1, 1201), 1);
    }
}

/// It was there again at 1090, so there is no answer later than a statement after that without it.
#[test]
fn that_there_is_no_session_may_be_said_for_a_statement_longer_if_its_row_was_missing() {
    let until = 1090 + 100 + i64::try_from(STATEMENT.as_nanos()).unwrap();
    let refused = |why, asked_at| {
        let mut history = went_back(&[]);
        history.setbacks[0].emptied = true;
        refused(history, &why, 1, asked_at)
    };
    assert_eq!(refused(tier_cache::Refusal::Unknown, until), 0);
    assert_eq!(refused(tier_cache::Refusal::Unknown, until + 1), 1);
    assert_eq!(refused(tier_cache::Refusal::Replaced, 1201), 1);
}

#[test]
fn the_longest_refusal_after_a_setback_is_told() {
    let refusal = |setbacks, asked_at| Refusal {
        session: 1,
        node: None,
        said: String::new(),
        setbacks,
        asked_at,
        refused_at: asked_at + 10,
    };
    let history = History {
        false_refusals: vec![refusal(0, 900), refusal(1, 1150)],
        ..went_back(&[])
    };
    assert_eq!(history.refused_after(), [Duration::from_nanos(50)]);
}

#[test]
fn data_of_a_forked_copy_are_found() {
    let found = went_back(&[of(1, 5, FORKED, 100)]).violations(BOUND);
    assert!(matches!(found[..], [Violation::OfForkedCopy { .. }]));
}
