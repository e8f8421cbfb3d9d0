//! What the gate goes by, for whoever asks why it refuses something.

use session_core::{Lineage, Mark, SessionId, Version};

use super::Fence;

/// What a node's gate goes by for one session, at one instant. A request asks the fence itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gate {
    /// The lineage that the node follows; `None` until it has heard of the database.
    pub lineage: Option<Lineage>,
    /// The mark since which the node knows every change.
    pub since: Mark,
    /// The lowest version that may be served, if the session changed since then, and the number
    /// of the change.
    pub floor: Option<(Version, Mark)>,
}

/// What a gate says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// It may be served.
    Admitted,
    /// The node knows of no lineage yet: it reads no records.
    Blind,
    /// It is of another lineage than the node follows.
    OtherLineage,
    /// The node knows of a change that the record does not have.
    BelowFloor,
    /// The record may lack changes that the node does not know either.
    BeforeSince,
}

impl Gate {
    /// Whether the gate admits a record of this lineage, version and mark, and if not, why.
    pub fn admission(&self, lineage: Lineage, version: Version, as_of: Mark) -> Admission {
        match self.lineage {
            None => Admission::Blind,
            Some(known) if known != lineage => Admission::OtherLineage,
            Some(_) if self.floor.is_some_and(|(floor, _)| version < floor) => {
                Admission::BelowFloor
            }
            Some(_) if as_of < self.since => Admission::BeforeSince,
            Some(_) => Admission::Admitted,
        }
    }
}

impl Fence {
    /// What the gate goes by for a session just now.
    pub(crate) fn gate(&self, id: SessionId) -> Gate {
        let floors = self.read();
        let floor = floors.by_session.get(&id);
        Gate {
            lineage: floors.lineage,
            since: floors.since,
            floor: floor.map(|floor| (floor.version, floor.mark)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_gate_is_what_the_gate_does() {
        let (id, lineage) = (SessionId::from_bytes([1; 16]), Lineage::new(7));
        let fence = Fence::new();
        let all = |fence: &Fence| {
            let gate = fence.gate(id);
            for (version, as_of) in (0..6).flat_map(|v| (0..15).map(move |m| (v, m))) {
                let (version, as_of) = (Version::new(version), Mark::new(as_of));
                assert_eq!(
                    gate.admission(lineage, version, as_of) == Admission::Admitted,
                    fence.admits_at(id, version, as_of),
                );
            }
        };
        assert_eq!(
            fence
                .gate(id)
                .admission(lineage, Version::new(1), Mark::ZERO),
            Admission::Blind
        );
        fence.follow(lineage);
        all(&fence);
        fence.restart(Mark::new(5));
        all(&fence);
        fence.raise(id, Version::new(3), Mark::new(10));
        all(&fence);
        let gate = fence.gate(id);
        assert_eq!(
            gate.admission(Lineage::new(8), Version::new(9), Mark::new(20)),
            Admission::OtherLineage
        );
        fence.restart(Mark::new(11));
        all(&fence);
        fence.raise(id, Version::DELETED, Mark::new(12));
        all(&fence);
    }
}
