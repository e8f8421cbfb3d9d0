//! Every schedule of a small world; and for each rule the shortest schedule that needs it.
//!
//! `FENCE_MODEL=large cargo test --release -p fence-model -- --nocapture` checks larger worlds,
//! which takes long and some tens of gigabytes.

use fence_model::{LATE, RECOVERS, Rule, Step, World};
use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

/// Tries every schedule.
fn holds(world: World) {
    let checker = world.clone().checker().threads(2).spawn_bfs().join();
    println!("{} states: {world:?}", checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

/// The shortest schedule that serves a revoked session too late.
fn counterexample(world: World) -> Vec<Step> {
    let checker = world
        .clone()
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AllOf([LATE].into()))
        .spawn_bfs()
        .join();
    match checker.discovery(LATE) {
        Some(path) => path.into_actions(),
        None => panic!(
            "{} states, and none needs the rule: {world:?}",
            checker.unique_state_count()
        ),
    }
}

#[test]
fn no_session_is_served_later_than_the_bound_in_any_schedule() {
    holds(World::small());
    if std::env::var("FENCE_MODEL").is_ok_and(|size| size == "large") {
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

/// With one transaction of each history; with two, by chance, since there are too many states.
#[test]
fn it_holds_when_the_database_loses_its_last_commits() {
    holds(World {
        transactions: 1,
        changes: 1,
        ..World::lossy()
    });
    by_chance(World::lossy());
}

/// Nodes have nothing to do with each other but by what one can read of another in Redis, and in
/// this world that is everything at any time: so what holds for one holds for several. This tries
/// three all the same, by chance.
#[test]
fn it_holds_for_several_nodes_in_a_million_random_steps() {
    by_chance(World {
        nodes: 3,
        ..World::small()
    });
}

/// Tries a million steps.
fn by_chance(world: World) {
    let checker = world
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(1_000_000)
        .target_max_depth(120)
        .spawn_simulation(7, UniformChooser)
        .join();
    println!("{} states by chance", checker.state_count());
    assert!(checker.state_count() >= 1_000_000);
    assert!(checker.discovery(LATE).is_none());
    assert!(checker.discovery(RECOVERS).is_none());
}

#[test]
fn each_rule_is_needed() {
    for rule in Rule::ALL {
        let world = match rule {
            Rule::Lineage | Rule::Generation => World::lossy(),
            Rule::FloorsLast => World {
                transactions: 1,
                changes: 1,
                ..World::lossy()
            },
            _ => World::small(),
        };
        let steps = counterexample(world.without(rule));
        println!("without {rule:?}, {} steps: {steps:?}", steps.len());
        assert!(steps.len() <= 25, "{rule:?}: {} steps", steps.len());
    }
}
