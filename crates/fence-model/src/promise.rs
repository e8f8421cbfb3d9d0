//! What was promised: which revocations hold in the history that goes on, and who lacks them. No
//! node knows any of this.

use crate::World;

/// A revocation of the history that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Revocation {
    line: u8,
    version: u8,
    /// Ticks since it was committed, or since the database goes on from it; counted up to B + 1.
    age: u8,
}

/// A stretch of history in which nothing was lost: versions above `base` were made in it, the
/// others in its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    parent: u8,
    base: u8,
}

/// All lines there ever were, and what must be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Promise {
    lines: Vec<Line>,
    revocations: Vec<Revocation>,
}

impl Promise {
    pub(crate) fn new() -> Self {
        Self {
            lines: vec![Line { parent: 0, base: 0 }],
            revocations: Vec::new(),
        }
    }

    /// Begins a line that goes on from this version of another.
    pub(crate) fn branch(&mut self, parent: u8, base: u8) -> u8 {
        self.lines.push(Line { parent, base });
        self.lines.len() as u8 - 1
    }

    /// A revocation is committed; or a line begins with a session that is revoked, so that what
    /// made it valid elsewhere does not count.
    pub(crate) fn revoked(&mut self, line: u8, version: u8) {
        self.revocations.push(Revocation {
            line,
            version,
            age: 0,
        });
    }

    /// The revocations so far, for a copy.
    pub(crate) fn copy(&self) -> Vec<Revocation> {
        let new = |&revocation| Revocation {
            age: 0,
            ..revocation
        };
        self.revocations.iter().map(new).collect()
    }

    /// Goes on with the revocations of a copy. One that had been lost counts from now on.
    pub(crate) fn go_on_from(&mut self, copy: Vec<Revocation>) {
        let same = |one: &Revocation, other: &Revocation| {
            (one.line, one.version) == (other.line, other.version)
        };
        let known = std::mem::replace(&mut self.revocations, copy);
        for revocation in &mut self.revocations {
            if let Some(known) = known.iter().find(|known| same(known, revocation)) {
                revocation.age = known.age;
            }
        }
    }

    pub(crate) fn tick(&mut self, world: &World) {
        for revocation in &mut self.revocations {
            revocation.age = (revocation.age + 1).min(world.bound + 1);
        }
    }

    /// Whether a revocation older than B is not in this version of this line.
    pub(crate) fn is_broken_by(&self, world: &World, line: u8, version: u8) -> bool {
        self.revocations
            .iter()
            .any(|revocation| revocation.age > world.bound && !self.has(line, version, revocation))
    }

    fn has(&self, mut line: u8, version: u8, revocation: &Revocation) -> bool {
        while line > revocation.line {
            let Line { parent, base } = self.lines[usize::from(line)];
            if base < revocation.version {
                return false;
            }
            line = parent;
        }
        line == revocation.line && version >= revocation.version
    }
}
