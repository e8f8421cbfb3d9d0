//! Each target over its seeds, and over what is made of them.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use session_fuzz::TARGETS;

/// The seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder:?} is empty");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A step that makes a new input of another.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, Index),
    Repeat(Index, Index),
    Splice(Index, Index, Index),
}

fn changes() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..8))
            .prop_map(|(at, more)| Change::Insert(at, more)),
        (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), at(), at()).prop_map(|(seed, from, to)| Change::Splice(seed, from, to)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let range = |one: &Index, other: &Index| {
            let ends = [one, other].map(|end| end.index(bytes.len() + 1));
            ends[0].min(ends[1])..ends[0].max(ends[1])
        };
        match self {
            Self::Set(at, to) if !bytes.is_empty() => *at.get_mut(bytes) = *to,
            Self::Flip(at, bit) if !bytes.is_empty() => *at.get_mut(bytes) ^= 1 << bit,
            Self::Set(..) | Self::Flip(..) => {}
            Self::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Cut(from, to) => {
                bytes.drain(range(from, to));
            }
            Self::Repeat(from, to) => {
                let range = range(from, to);
                let part = bytes[range.clone()].to_vec();
                bytes.splice(range.start..range.start, part);
            }
            Self::Splice(seed, from, to) => {
                let other = seed.get(seeds);
                let range = range(from, to);
                let from = range.start.min(other.len());
                bytes.splice(range, other[from..].iter().copied());
            }
        }
    }
}

#[test]
fn every_target_holds_over_its_seeds_and_accepts_some_of_them() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let accepted = seeds.iter().filter(|seed| target(seed)).count();
        assert!((1..seeds.len()).contains(&accepted), "{name}: {accepted}");
        println!("{name}: {accepted} of {} seeds accepted", seeds.len());
    }
}

#[test]
fn every_target_holds_over_changed_seeds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let inputs = (any::<Index>(), prop::collection::vec(changes(), 1..6));
        let inputs = inputs.prop_map(|(seed, changes)| {
            let mut bytes = seed.get(&seeds).clone();
            for change in &changes {
                change.apply(&mut bytes, &seeds);
            }
            bytes
        });
        let mut runner = TestRunner::new(Config {
            cases: 16 * Config::default().cases,
            failure_persistence: None,
            ..Config::default()
        });
        let ran = runner.run(&inputs, |bytes| {
            target(&bytes);
            Ok(())
        });
        ran.unwrap_or_else(|failed| panic!("{name}: {failed}"));
    }
}

#[test]
fn every_target_holds_over_any_bytes() {
    for (name, target) in TARGETS {
        let mut runner = TestRunner::new(Config {
            cases: 4 * Config::default().cases,
            failure_persistence: None,
            ..Config::default()
        });
        let ran = runner.run(&prop::collection::vec(any::<u8>(), 0..200), |bytes| {
            target(&bytes);
            Ok(())
        });
        ran.unwrap_or_else(|failed| panic!("{name}: {failed}"));
    }
}
