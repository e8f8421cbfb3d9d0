//! The fence against a reference that forgets nothing: after each of some random operations, every
//! record of a small world is shown to both.

use proptest::prelude::*;

use super::*;

const IDS: u8 = 3;
const VERSIONS: std::ops::RangeInclusive<i64> = 1..=4;
const MARKS: std::ops::RangeInclusive<i64> = 0..=9;

#[derive(Clone, Copy, Debug)]
enum Step {
    Raise(Change),
    Forget { keep: usize, complete: Mark },
    Restart(Mark),
    StartOver,
    Trust(Moment),
}

#[derive(Clone, Copy, Debug)]
struct Change {
    id: SessionId,
    version: Version,
    mark: Mark,
}

fn step() -> impl Strategy<Value = Step> {
    let mark = || MARKS.prop_map(Mark::new);
    let version = prop_oneof![
        8 => VERSIONS.prop_map(Version::new),
        1 => Just(Version::DELETED),
    ];
    let change = (0..IDS, version, mark()).prop_map(|(id, version, mark)| Change {
        id: SessionId::from_bytes([id; 16]),
        version,
        mark,
    });
    prop_oneof![
        12 => change.prop_map(Step::Raise),
        4 => (0..=usize::from(IDS), mark())
            .prop_map(|(keep, complete)| Step::Forget { keep, complete }),
        2 => mark().prop_map(Step::Restart),
        1 => Just(Step::StartOver),
        3 => (0_i64..100).prop_map(|nanos| Step::Trust(Moment::from_nanos(nanos))),
    ]
}

/// All that the fence was told since it last started over from nothing.
#[derive(Debug, Default)]
struct Reference {
    changes: Vec<Change>,
    restarts: Vec<Mark>,
    trust: Vec<Moment>,
}

impl Reference {
    /// The changes that a record of this version cannot contain.
    fn later(&self, id: SessionId, version: Version) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.id == id && change.version > version)
    }

    /// Whether a record lacks a change, or may lack one that nobody told of. (What lacks a change
    /// was read while that was not yet visible, so it has no mark above the change's: a record
    /// of this version with a higher mark cannot be.)
    fn refuses(&self, id: SessionId, version: Version, as_of: Mark) -> bool {
        let lacks = self.later(id, version).map(|change| change.mark).min();
        lacks.is_some_and(|mark| as_of <= mark) || self.restarts.iter().any(|&since| as_of < since)
    }

    /// How many sessions may have a floor at or above a mark.
    fn floors_from(&self, mark: Mark) -> usize {
        let ids = self.changes.iter().filter(|change| change.mark >= mark);
        let ids: std::collections::HashSet<_> = ids.map(|change| change.id).collect();
        ids.len()
    }
}

/// Does the step to both, and checks what can be seen of that step alone.
fn take(step: Step, fence: &Fence, reference: &mut Reference) -> Result<(), TestCaseError> {
    let before = fence.read().since;
    let held = fence.floors();
    let since = || fence.read().since;
    match step {
        Step::Raise(change) => {
            let Change { id, version, mark } = change;
            reference.changes.push(change);
            let older = Version::new(version.get() - 1);
            let passes = || fence.admits_at(id, older, Mark::new(i64::MAX));
            let passed = passes();
            let news = fence.raise(id, version, mark);
            prop_assert_eq!(news, passed && !passes(), "news is what refuses more");
            prop_assert_eq!(since(), before);
        }
        Step::Forget { keep, complete } => {
            fence.forget_beyond(keep, complete);
            let most = keep.max(reference.floors_from(complete));
            prop_assert!(fence.floors() <= most, "{} floors", fence.floors());
            prop_assert!(since() >= before && since() <= before.max(complete));
            if held <= keep {
                prop_assert_eq!((since(), fence.floors()), (before, held));
            }
        }
        Step::Restart(mark) => {
            reference.restarts.push(mark);
            fence.restart(mark);
            prop_assert_eq!(since(), before.max(mark));
        }
        Step::StartOver => {
            *reference = Reference::default();
            fence.start_over();
            prop_assert_eq!((since(), fence.floors()), (Mark::ZERO, 0));
        }
        Step::Trust(until) => {
            reference.trust.push(until);
            fence.trust_until(until);
        }
    }
    Ok(())
}

/// What the fence promises, of every record there can be.
fn promised(fence: &Fence, reference: &Reference) -> Result<(), TestCaseError> {
    let since = fence.read().since;
    for id in (0..IDS).map(|id| SessionId::from_bytes([id; 16])) {
        for version in std::iter::once(0)
            .chain(VERSIONS)
            .chain([i64::MAX])
            .map(Version::new)
        {
            for as_of in MARKS.chain([i64::MAX]).map(Mark::new) {
                let admitted = fence.admits_at(id, version, as_of);
                if reference.refuses(id, version, as_of) {
                    prop_assert!(!admitted, "{version} at {as_of} lacks what was told");
                } else if as_of >= since && reference.later(id, version).next().is_none() {
                    prop_assert!(admitted, "{version} at {as_of} lacks nothing");
                }
            }
        }
    }
    let trusted = reference.trust.iter().copied().max();
    let trusted = trusted.unwrap_or(Moment::LONG_AGO);
    prop_assert_eq!(fence.trusted_until(), trusted);
    for nanos in 0..100 {
        let now = Moment::from_nanos(nanos);
        prop_assert_eq!(fence.trusts(now), now < trusted);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_record_is_admitted_only_if_it_lacks_nothing_and_always_if_it_is_new(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (fence, mut reference) = (Fence::new(), Reference::default());
        for step in steps {
            take(step, &fence, &mut reference)?;
            promised(&fence, &reference)?;
        }
    }
}
