//! What the database stores of its own history, and by what it notices that it went back.

use crate::{Rule, World};

/// What the database is now. It is compared with what it was when its lineage was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Stands for system identifier, timeline, and start time of the server.
    pub(crate) run: u8,
    /// Stands for oid and file node of each table, and for version and state of each trigger.
    pub(crate) incarnation: u8,
}

/// The row of `session_history`. It is data: a copy has it, and whoever goes on from the copy too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History {
    pub(crate) lineage: u8,
    /// What the database was when the lineage was begun.
    pub(crate) identity: Identity,
    /// `tombstones_since`: changes numbered below it are told to nobody.
    pub(crate) begins: u8,
}

impl History {
    /// Whether commits may have been lost since the lineage was begun.
    pub(crate) fn is_of_another(
        &self,
        world: &World,
        now: Identity,
        crash_marker: Option<u8>,
        mark: u8,
    ) -> bool {
        let run = now.run != self.identity.run;
        let incarnation = now.incarnation != self.identity.incarnation;
        let crashed = crash_marker != Some(self.lineage);
        (run && world.keeps(Rule::Run))
            || (incarnation && world.keeps(Rule::Incarnation))
            || (crashed && world.keeps(Rule::CrashMarker))
            || self.begins > mark
    }
}
