//! One node, step by step as the code takes them: between any two, anything else may happen.

use crate::database::{Row, Snapshot};
use crate::{Rule, State, World};

/// A record of the session, from wherever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    version: u8,
    valid: bool,
    as_of: u8,
}

impl From<Snapshot> for Record {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            version: snapshot.row.version,
            valid: snapshot.row.valid,
            as_of: snapshot.mark,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Floor {
    version: u8,
    mark: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Poll {
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
    /// The floor is raised; the hot tier does not know yet.
    Raised {
        age: u8,
        up_to: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Load {
    Idle,
    /// The database is asked.
    Asked {
        age: u8,
    },
    /// An answer is here, good by itself for so many ticks.
    Answered {
        record: Record,
        good_for: u8,
    },
    /// The gate let it in.
    Gated {
        record: Record,
        good_for: u8,
    },
    /// It is in the hot tier, not yet to be seen.
    Inserted {
        record: Record,
        good_for: u8,
    },
    /// A request may collect it.
    Landed {
        record: Record,
        good_for: u8,
    },
}

/// A request on its way through the hot tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    cursor: u8,
    since: u8,
    floor: Option<Floor>,
    /// Ticks for which it trusts its caches.
    trust: u8,
    /// A record, and whether the gate has admitted it since it was inserted.
    hot: Option<(Record, bool)>,
    poll: Poll,
    load: Load,
    request: Request,
}

/// What a node can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Ask the feed.
    Ask,
    /// The database answers the feed.
    Answer,
    /// Take the answer: raise the floor.
    Raise,
    /// The same, but the answer is complete only since this mark: too much had changed, or the
    /// node has just started.
    StartOver(u8),
    /// Throw out of the hot tier what is below the floor, and trust the caches.
    Trust,
    /// Forget the floors below this mark.
    Forget(u8),
    /// Start again with nothing.
    Restart,
    /// Hear of the row as it was in this snapshot.
    Hear(usize),
    /// Ask the database for the session.
    Load,
    /// The database answers.
    Read,
    /// Redis or a replica answers, with what was true in this snapshot.
    ReadElsewhere(usize),
    /// Ask the gate about what was read.
    Gate,
    /// Put it into the hot tier.
    Insert,
    /// Ask the gate again.
    Admit,
    /// A request collects what was loaded for it.
    Collect,
    /// A request reads the trust.
    ReadTrust,
    /// A request looks into the hot tier.
    Look,
    /// A request reads the clock, and is served or not.
    Serve,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            cursor: 0,
            since: 0,
            floor: None,
            trust: 0,
            hot: None,
            poll: Poll::Idle,
            load: Load::Idle,
            request: Request::Idle,
        }
    }

    pub(crate) fn steps(&self, world: &World, state: &State, steps: &mut Vec<NodeStep>) {
        let past = 0..state.database.past.len();
        match self.poll {
            Poll::Idle => steps.push(NodeStep::Ask),
            Poll::Asked { .. } => steps.push(NodeStep::Answer),
            Poll::Answered { snapshot, .. } => {
                steps.push(NodeStep::Raise);
                if world.restarts {
                    steps.extend((self.cursor + 1..=snapshot.mark).map(NodeStep::StartOver));
                }
            }
            Poll::Raised { .. } => steps.push(NodeStep::Trust),
        }
        if let Some(floor) = self.floor
            && floor.mark < self.cursor
        {
            steps.push(NodeStep::Forget(floor.mark + 1));
        }
        if world.restarts && *self != Self::new() {
            steps.push(NodeStep::Restart);
        }
        if world.push {
            steps.extend(past.clone().map(NodeStep::Hear));
        }
        match self.load {
            Load::Idle => {
                steps.push(NodeStep::Load);
                steps.extend(past.map(NodeStep::ReadElsewhere));
            }
            Load::Asked { .. } => steps.push(NodeStep::Read),
            Load::Answered { .. } => steps.push(NodeStep::Gate),
            Load::Gated { .. } => steps.push(NodeStep::Insert),
            Load::Inserted { .. } => steps.push(NodeStep::Admit),
            Load::Landed { .. } => steps.push(NodeStep::Collect),
        }
        match self.request {
            Request::Idle => steps.push(NodeStep::ReadTrust),
            Request::Trusting { .. } => steps.push(NodeStep::Look),
            Request::Holding { .. } => steps.push(NodeStep::Serve),
        }
    }

    fn admits(&self, world: &World, record: Record) -> bool {
        let above_floor = self
            .floor
            .is_none_or(|floor| record.version >= floor.version);
        let complete = record.as_of >= self.since;
        (above_floor || !world.keeps(Rule::Floor)) && (complete || !world.keeps(Rule::Mark))
    }

    fn raise(&mut self, row: Row) {
        if row.changed_at < self.since {
            return;
        }
        let floor = self.floor.get_or_insert(Floor {
            version: 0,
            mark: row.changed_at,
        });
        if row.version >= floor.version {
            *floor = Floor {
                version: row.version,
                mark: row.changed_at.max(floor.mark),
            };
        }
    }

    fn move_since(&mut self, since: u8) {
        if since > self.since {
            self.since = since;
            self.floor = self.floor.filter(|floor| floor.mark >= since);
        }
    }

    fn throw_out(&mut self) {
        if let (Some(floor), Some((record, _))) = (self.floor, self.hot)
            && record.version < floor.version
        {
            self.hot = None;
        }
    }

    fn insert(&mut self, record: Record, admitted: bool) {
        if self
            .hot
            .is_none_or(|(kept, _)| kept.version <= record.version)
        {
            self.hot = Some((record, admitted));
        }
    }

    /// A moment passes: what is left of trust gets less, what is under way gets older.
    pub(crate) fn tick(&mut self, world: &World) {
        let less = |left: &mut u8| *left = left.saturating_sub(1);
        let older = |age: &mut u8| *age = (*age + 1).min(world.bound);
        match &mut self.poll {
            Poll::Idle => {}
            Poll::Asked { age } | Poll::Answered { age, .. } | Poll::Raised { age, .. } => {
                older(age)
            }
        }
        match &mut self.load {
            Load::Idle => {}
            Load::Asked { age } => older(age),
            Load::Answered { good_for, .. }
            | Load::Gated { good_for, .. }
            | Load::Inserted { good_for, .. }
            | Load::Landed { good_for, .. } => less(good_for),
        }
        if world.keeps(Rule::TrustEnds) {
            less(&mut self.trust);
            match &mut self.request {
                Request::Idle => {}
                Request::Trusting { left } | Request::Holding { left, .. } => less(left),
            }
        }
    }
}

pub(crate) fn take(world: &World, state: &mut State, index: usize, step: NodeStep) {
    let snapshot = state.database.snapshot(world);
    let past = state.database.past.clone();
    let node = &mut state.nodes[index];
    match step {
        NodeStep::Ask => node.poll = Poll::Asked { age: 0 },
        NodeStep::Answer => {
            if let Poll::Asked { age } = node.poll {
                node.poll = Poll::Answered { age, snapshot };
            }
        }
        NodeStep::Raise | NodeStep::StartOver(_) => {
            if let Poll::Answered { age, snapshot } = node.poll {
                let mut since = node.cursor;
                if let NodeStep::StartOver(mark) = step {
                    node.move_since(mark);
                    node.hot = None;
                    since = mark;
                }
                if snapshot.row.changed_at >= since {
                    node.raise(snapshot.row);
                }
                node.poll = Poll::Raised {
                    age,
                    up_to: snapshot.mark,
                };
            }
        }
        NodeStep::Trust => {
            if let Poll::Raised { age, up_to } = node.poll {
                node.throw_out();
                let spent = match world.keeps(Rule::TrustFromAsking) {
                    true => age,
                    false => 0,
                };
                node.trust = node.trust.max(world.bound - spent);
                node.cursor = up_to;
                node.poll = Poll::Idle;
            }
        }
        NodeStep::Forget(since) => node.move_since(since),
        NodeStep::Restart => *node = Node::new(),
        NodeStep::Hear(at) => {
            node.raise(past[at].row);
            node.throw_out();
        }
        NodeStep::Load => node.load = Load::Asked { age: 0 },
        NodeStep::Read => {
            if let Load::Asked { age } = node.load {
                node.load = Load::Answered {
                    record: snapshot.into(),
                    good_for: world.bound - age,
                };
            }
        }
        NodeStep::ReadElsewhere(at) => {
            node.load = Load::Answered {
                record: past[at].into(),
                good_for: 0,
            };
        }
        NodeStep::Gate => {
            if let Load::Answered { record, good_for } = node.load {
                node.load = match node.admits(world, record) {
                    true => Load::Gated { record, good_for },
                    false => Load::Idle,
                };
            }
        }
        NodeStep::Insert => {
            if let Load::Gated { record, good_for } = node.load {
                node.load = if world.keeps(Rule::AskAfterInsert) {
                    node.insert(record, false);
                    Load::Inserted { record, good_for }
                } else {
                    node.insert(record, true);
                    Load::Landed { record, good_for }
                };
            }
        }
        NodeStep::Admit => {
            if let Load::Inserted { record, good_for } = node.load {
                let admitted = node.admits(world, record);
                if let Some((hot, seen)) = &mut node.hot
                    && *hot == record
                {
                    *seen |= admitted;
                    if !admitted {
                        node.hot = None;
                    }
                }
                node.load = match admitted {
                    true => Load::Landed { record, good_for },
                    false => Load::Idle,
                };
            }
        }
        NodeStep::Collect => {
            if let Load::Landed { record, good_for } = node.load {
                node.load = Load::Idle;
                let admitted = node.admits(world, record) || !world.keeps(Rule::AskAtCollection);
                let fresh = node.trust > 0 || good_for > 0;
                if admitted && fresh {
                    serve(world, state, record);
                }
            }
        }
        NodeStep::ReadTrust => {
            node.request = Request::Trusting { left: node.trust };
        }
        NodeStep::Look => {
            if let Request::Trusting { left } = node.request {
                node.request = match node.hot {
                    Some((record, true)) => Request::Holding { record, left },
                    _ => Request::Idle,
                };
            }
        }
        NodeStep::Serve => {
            if let Request::Holding { record, left } = node.request {
                node.request = Request::Idle;
                let left = match world.keeps(Rule::TrustBeforeCache) {
                    true => left,
                    false => node.trust,
                };
                if left > 0 {
                    state.served_hot |= record.valid;
                    serve(world, state, record);
                }
            }
        }
    }
}

/// A request is given the session.
fn serve(world: &World, state: &mut State, record: Record) {
    let late = |revocation: &crate::database::Revocation| {
        revocation.version > record.version && revocation.age > world.bound
    };
    state.served_late |= record.valid && state.database.revocations.iter().any(late);
}

/// Whether a poll and a load that succeed bring a valid session into the hot tier, to be served
/// from there.
pub(crate) fn recovers(world: &World, state: &State, index: usize) -> bool {
    let mut state = state.clone();
    state.nodes[index].poll = Poll::Idle;
    state.nodes[index].load = Load::Idle;
    state.nodes[index].request = Request::Idle;
    for step in [
        NodeStep::Ask,
        NodeStep::Answer,
        NodeStep::Raise,
        NodeStep::Trust,
        NodeStep::Load,
        NodeStep::Read,
        NodeStep::Gate,
        NodeStep::Insert,
        NodeStep::Admit,
    ] {
        take(world, &mut state, index, step);
    }
    let node = &state.nodes[index];
    let hot = node
        .hot
        .is_some_and(|(record, admitted)| admitted && record.valid);
    let valid = state.database.snapshot(world).row.valid;
    !valid || (hot && node.trust > 0)
}
