//! Every schedule of a small world; and for each rule the shortest schedule that needs it.
//!
//! `FENCE_MODEL=large cargo test --release -p fence-model -- --nocapture` checks larger worlds,
//! which takes long and some tens of gigabytes.

use fence_model::{Change, LATE, Loss, NodeStep, RECOVERS, Rule, Step, World};
use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

/// Tries every schedule.
fn holds(world: World) {
    let checker = world.clone().checker().threads(2).spawn_bfs().join();
    println!("{} states: {world:?}", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Tries so many steps by chance.
fn holds_by_chance(world: World, steps: usize) {
    let checker = world
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(steps)
        .target_max_depth(120)
        .spawn_simulation(7, UniformChooser)
        .join();
    println!("{} steps by chance: {world:?}", checker.state_count());
    assert!(checker.state_count() >= steps);
    assert!(checker.discovery(LATE).is_none());
    assert!(checker.discovery(RECOVERS).is_none());
}

fn large() -> bool {
    std::env::var("FENCE_MODEL").is_ok_and(|size| size == "large")
}

fn one_change(world: World) -> World {
    World {
        transactions: 1,
        changes: 1,
        ..world
    }
}

/// The session is revoked; a change makes it valid.
fn revoked(world: World) -> World {
    World {
        revoked: true,
        ..world
    }
}

#[test]
fn no_session_is_served_later_than_the_bound_in_any_schedule() {
    holds(World::small());
    if large() {
        holds(World {
            bound: 2,
            ..World::small()
        });
        holds(World {
            transactions: 3,
            ..World::small()
        });
    }
}

#[test]
fn it_holds_without_push() {
    holds(World {
        push: false,
        ..World::small()
    });
}

/// Nodes have nothing to do with each other but by what one can read of another in Redis, and in
/// this world that is everything at any time: so what holds for one holds for several. This tries
/// three all the same, by chance.
#[test]
fn it_holds_for_several_nodes_in_a_million_random_steps() {
    let world = World {
        nodes: 3,
        ..World::small()
    };
    holds_by_chance(world, 1_000_000);
}

/// With one transaction of each history; with two, by chance, since there are too many states.
#[test]
fn it_holds_when_a_crash_loses_the_last_commits() {
    let world = World::going_back(&[Loss::Crash]);
    holds(one_change(world.clone()));
    holds_by_chance(world, 1_000_000);
}

/// What a node does after that is the same as after a crash, so this begins with a revoked
/// session: what made it valid may be lost.
#[test]
fn it_holds_when_older_files_are_put_back() {
    let world = World::going_back(&[Loss::PutBack]);
    holds(one_change(revoked(world.clone())));
    holds_by_chance(world, 1_000_000);
}

#[test]
fn it_holds_when_a_dump_is_restored_in_place() {
    let world = World::going_back(&[Loss::Restore]);
    holds(one_change(world.clone()));
    holds_by_chance(revoked(world.clone()), 1_000_000);
    if large() {
        holds(one_change(revoked(world)));
    }
}

#[test]
fn it_holds_beside_a_copy_that_was_promoted() {
    holds(one_change(World::forking()));
    holds(one_change(revoked(World::forking())));
    holds_by_chance(World::forking(), 1_000_000);
}

/// A crash loses the renewal of the one before; a dump brings an old lineage back; a copy goes on
/// in the lineage that it had; and so on.
#[test]
fn it_holds_when_the_database_goes_back_more_than_once() {
    let world = World {
        losses: 2,
        fork_changes: 1,
        ..World::going_back(&Loss::ALL)
    };
    holds_by_chance(world.clone(), 5_000_000);
    holds_by_chance(revoked(world.clone()), 5_000_000);
    let world = World {
        nodes: 2,
        losses: 3,
        fork_changes: 2,
        restarts: true,
        ..world
    };
    holds_by_chance(world, 2_000_000);
}

/// An open transaction holds the marks back, so that after a crash none lies below one that the
/// node has seen, although the number that it gave to a commit is given out again.
#[test]
fn marks_alone_do_not_tell_of_a_crash() {
    use NodeStep::*;
    let poll = [Ask, Answer, Raise, Trust];
    let node = |steps: &[NodeStep]| -> Vec<Step> {
        steps.iter().map(|&step| Step::Node(0, step)).collect()
    };
    let revoke_and_poll = [
        vec![Step::Begin, Step::Begin, Step::Change(3, Change::Revoke)],
        vec![Step::Commit(3)],
        node(&poll),
    ];
    let restore_and_cache = [
        vec![Step::Change(2, Change::Restore), Step::Commit(2)],
        node(&[Load, Read, Gate, Insert, Admit, Collect]),
    ];
    let crash = vec![Step::Lose(Loss::Crash, 1), Step::Tick, Step::Tick];
    let serve = node(&[ReadTrust, Look, Serve]);

    let world = World::going_back(&[Loss::Crash]);
    let until_crash = [revoke_and_poll.concat(), restore_and_cache.concat(), crash].concat();
    let unnoticed = [until_crash.clone(), node(&poll), serve.clone()].concat();
    assert!(serves_late(
        &world.clone().without(Rule::CrashMarker),
        &unnoticed
    ));
    let start_over = node(&[Ask, Answer, Answer, Doubt, Clear, ForgetAll]);
    let noticed = [
        until_crash,
        start_over,
        node(&poll),
        node(&[ReadTrust, Look]),
    ]
    .concat();
    assert!(!serves_late(&world, &noticed));
}

/// Takes steps that must all be possible.
fn serves_late(world: &World, steps: &[Step]) -> bool {
    let mut state = world.init_states().remove(0);
    for step in steps {
        let mut possible = Vec::new();
        world.actions(&state, &mut possible);
        assert!(possible.contains(step), "{step:?} of {steps:?}");
        let next = world.next_state(&state, step.clone());
        state = next.expect("each step leads somewhere");
    }
    let late = world.property(LATE).condition;
    !late(world, &state)
}

#[test]
fn each_rule_is_needed() {
    for rule in Rule::ALL {
        let going_back = |ways| one_change(revoked(World::going_back(ways)));
        let (world, breaks, length) = match rule {
            Rule::Lineage => (going_back(&[Loss::Crash]), LATE, 17),
            Rule::Generation => (going_back(&[Loss::Crash]), LATE, 17),
            Rule::FloorsLast => (one_change(World::going_back(&[Loss::Crash])), LATE, 22),
            Rule::CrashMarker => (going_back(&[Loss::Crash]), LATE, 16),
            Rule::Run => (going_back(&[Loss::PutBack]), LATE, 16),
            Rule::Incarnation => (going_back(&[Loss::Restore]), LATE, 16),
            Rule::CopyMoved => (one_change(revoked(World::forking())), LATE, 13),
            Rule::HistoryBegins => (World::going_back(&[Loss::Crash]), RECOVERS, 2),
            Rule::AskAfterInsert => (World::small(), LATE, 19),
            Rule::AskAtCollection => (World::small(), LATE, 18),
            Rule::TrustBeforeCache => (World::small(), LATE, 17),
            _ => (World::small(), LATE, 14),
        };
        let steps = counterexample(world.without(rule), breaks, length);
        println!("without {rule:?}, {} steps: {steps:?}", steps.len());
    }
}

/// A schedule of at most so many steps that breaks this promise.
fn counterexample(world: World, breaks: &'static str, length: usize) -> Vec<Step> {
    // By one thread, so that each state is reached by a shortest way, which is what is counted.
    let checker = world
        .clone()
        .checker()
        .target_max_depth(length + 2)
        .finish_when(HasDiscoveries::AllOf([breaks].into()))
        .spawn_bfs()
        .join();
    match checker.discovery(breaks) {
        Some(path) => path.into_actions(),
        None => panic!(
            "{} states, and no schedule of {length} steps needs the rule: {world:?}",
            checker.unique_state_count()
        ),
    }
}
