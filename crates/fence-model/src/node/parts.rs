//! What a node holds, and how far its poll, its load and its request have come.

use crate::database::Snapshot;

/// A record of the session, from wherever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) version: u8,
    pub(super) valid: bool,
    pub(super) as_of: u8,
    pub(super) lineage: u8,
    /// The stretch of history that it is of, which no node knows.
    pub(super) line: u8,
}

impl From<Snapshot> for Record {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            version: snapshot.row.version,
            valid: snapshot.row.valid,
            as_of: snapshot.mark,
            lineage: snapshot.lineage,
            line: snapshot.line,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Floor {
    pub(super) version: u8,
    pub(super) mark: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Poll {
    Idle,
    /// The question is on its way.
    Asked {
        age: u8,
    },
    /// The answer is on its way.
    Answered {
        age: u8,
        snapshot: Snapshot,
    },
    /// It is not believed. Nothing is trusted or followed; the hot tier does not know yet.
    Doubted,
    /// The hot tier is cleared. The floors still stand.
    Cleared,
    /// The floor is raised; the hot tier does not know yet.
    Raised {
        age: u8,
        up_to: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Load {
    Idle,
    /// The database is asked.
    Asked {
        age: u8,
        current: bool,
    },
    /// Redis or a replica is asked, by a node that follows this lineage.
    AskedElsewhere {
        lineage: u8,
        current: bool,
    },
    /// An answer is here.
    Answered(Answer),
    /// The gate let it in.
    Gated(Answer),
    /// It is in the hot tier, not yet to be seen.
    Inserted(Answer),
    /// A request may collect it.
    Landed(Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) record: Record,
    /// For how many ticks it is good by itself.
    pub(super) good_for: u8,
    /// The hot tier was not cleared since it was asked for.
    pub(super) current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hot {
    pub(super) record: Record,
    /// The gate has admitted it since it was inserted.
    pub(super) admitted: bool,
    /// It was asked for after the hot tier was last cleared.
    pub(super) current: bool,
}

/// A request on its way through the hot tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Idle,
    /// It has read for how many ticks from then on the node trusts its caches.
    Trusting {
        left: u8,
    },
    /// It holds what was hot; the clock is still to be read.
    Holding {
        record: Record,
        left: u8,
    },
}
