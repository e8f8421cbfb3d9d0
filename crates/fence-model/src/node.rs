//! One node, step by step as the code takes them: between any two, anything else may happen.

use crate::database::{Revocation, Row, Snapshot};
use crate::{Rule, State, World};

/// A record of the session, from wherever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    version: u8,
    valid: bool,
    as_of: u8,
    lineage: u8,
    /// How often commits had been lost when it was read, which no node knows.
    losses: u8,
}

impl From<Snapshot> for Record {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            version: snapshot.row.version,
            valid: snapshot.row.valid,
            as_of: snapshot.mark,
            lineage: snapshot.lineage,
            losses: snapshot.losses,
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
    /// It was of another lineage. Nothing is trusted or followed; the hot tier does not know yet.
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
enum Load {
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
struct Answer {
    record: Record,
    /// For how many ticks it is good by itself.
    good_for: u8,
    /// The hot tier was not cleared since it was asked for.
    current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hot {
    record: Record,
    /// The gate has admitted it since it was inserted.
    admitted: bool,
    /// It was asked for after the hot tier was last cleared.
    current: bool,
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
    /// What its marks and floors are of.
    lineage: Option<u8>,
    cursor: u8,
    since: u8,
    floor: Option<Floor>,
    /// Ticks for which it trusts its caches.
    trust: u8,
    hot: Option<Hot>,
    poll: Poll,
    load: Load,
    request: Request,
}

/// What a node can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Ask the feed.
    Ask,
    /// The database answers the feed; or says that it has moved, and is given a new lineage.
    Answer,
    /// The answer is of another lineage: trust and follow nothing any more.
    Doubt,
    /// Then clear the hot tier.
    Clear,
    /// Then drop the floors and marks, to ask anew.
    ForgetAll,
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
    /// Ask Redis or a replica for the session.
    LoadElsewhere,
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
            lineage: None,
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
            Poll::Answered { snapshot, .. } if !self.follows(snapshot.lineage) => {
                steps.push(NodeStep::Doubt);
            }
            Poll::Answered { snapshot, .. } => {
                steps.push(NodeStep::Raise);
                if world.restarts {
                    steps.extend((self.cursor + 1..=snapshot.mark).map(NodeStep::StartOver));
                }
            }
            Poll::Doubted => steps.push(NodeStep::Clear),
            Poll::Cleared => steps.push(NodeStep::ForgetAll),
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
                match self.lineage {
                    // Nothing has been read in a lineage that is not known.
                    None => {}
                    // What is asked does not depend on when.
                    Some(_) if world.losses == 0 => {
                        steps.extend(past.map(NodeStep::ReadElsewhere));
                    }
                    Some(_) => steps.push(NodeStep::LoadElsewhere),
                }
            }
            Load::Asked { .. } => steps.push(NodeStep::Read),
            Load::AskedElsewhere { .. } => steps.extend(past.map(NodeStep::ReadElsewhere)),
            Load::Answered(_) => steps.push(NodeStep::Gate),
            Load::Gated(_) => steps.push(NodeStep::Insert),
            Load::Inserted(_) => steps.push(NodeStep::Admit),
            Load::Landed(_) => steps.push(NodeStep::Collect),
        }
        match self.request {
            Request::Idle => steps.push(NodeStep::ReadTrust),
            Request::Trusting { .. } => steps.push(NodeStep::Look),
            Request::Holding { .. } => steps.push(NodeStep::Serve),
        }
    }

    /// At the first poll after a start it follows whatever it is told.
    fn follows(&self, lineage: u8) -> bool {
        self.cursor == 0 || self.lineage == Some(lineage)
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

    fn forget_all(&mut self) {
        self.cursor = 0;
        self.since = 0;
        self.floor = None;
    }

    fn throw_out(&mut self) {
        if let Some(floor) = self.floor {
            self.remove_below(floor.version);
        }
    }

    fn remove_below(&mut self, version: u8) {
        self.hot = self.hot.filter(|hot| hot.record.version >= version);
    }

    fn insert(&mut self, answer: Answer, admitted: bool) {
        let outranks = |kept: Hot| {
            kept.current >= answer.current && kept.record.version > answer.record.version
        };
        if !self.hot.is_some_and(outranks) {
            self.hot = Some(Hot {
                record: answer.record,
                admitted,
                current: answer.current,
            });
        }
    }

    /// Clears the hot tier: what was asked for before is not shown any more.
    fn clear(&mut self) {
        self.hot = None;
        match &mut self.load {
            Load::Idle => {}
            Load::Asked { current, .. } | Load::AskedElsewhere { current, .. } => *current = false,
            Load::Answered(answer)
            | Load::Gated(answer)
            | Load::Inserted(answer)
            | Load::Landed(answer) => answer.current = false,
        }
    }

    /// A moment passes: what is left of trust gets less, what is under way gets older.
    pub(crate) fn tick(&mut self, world: &World) {
        let less = |left: &mut u8| *left = left.saturating_sub(1);
        let older = |age: &mut u8| *age = (*age + 1).min(world.bound);
        match &mut self.poll {
            Poll::Idle | Poll::Doubted | Poll::Cleared => {}
            Poll::Asked { age } | Poll::Answered { age, .. } | Poll::Raised { age, .. } => {
                older(age)
            }
        }
        match &mut self.load {
            Load::Idle | Load::AskedElsewhere { .. } => {}
            Load::Asked { age, .. } => older(age),
            Load::Answered(answer)
            | Load::Gated(answer)
            | Load::Inserted(answer)
            | Load::Landed(answer) => less(&mut answer.good_for),
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
    let State {
        database, nodes, ..
    } = state;
    let node = &mut nodes[index];
    match step {
        NodeStep::Ask => node.poll = Poll::Asked { age: 0 },
        NodeStep::Answer => {
            if database.moved {
                // The question is asked anew, and counts from when it was asked first.
                database.renew_lineage(world);
            } else if let Poll::Asked { age } = node.poll {
                node.poll = Poll::Answered { age, snapshot };
            }
        }
        NodeStep::Doubt => {
            node.trust = 0;
            node.lineage = None;
            if !world.keeps(Rule::FloorsLast) {
                node.forget_all();
            }
            node.poll = Poll::Doubted;
        }
        NodeStep::Clear => {
            node.clear();
            node.poll = Poll::Cleared;
        }
        NodeStep::ForgetAll => {
            node.forget_all();
            node.poll = Poll::Idle;
        }
        NodeStep::Raise | NodeStep::StartOver(_) => {
            if let Poll::Answered { age, snapshot } = node.poll {
                node.lineage = Some(snapshot.lineage);
                let mut since = node.cursor;
                if let NodeStep::StartOver(mark) = step {
                    since = mark;
                }
                if since > node.cursor || node.cursor == 0 {
                    node.move_since(since);
                    node.clear();
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
            let told = past[at];
            if node.lineage == Some(told.lineage) {
                node.raise(told.row);
                node.throw_out();
            } else {
                node.remove_below(told.row.version);
            }
        }
        NodeStep::Load => {
            node.load = Load::Asked {
                age: 0,
                current: true,
            };
        }
        NodeStep::LoadElsewhere => {
            if let Some(lineage) = node.lineage {
                node.load = Load::AskedElsewhere {
                    lineage,
                    current: true,
                };
            }
        }
        NodeStep::Read => {
            if let Load::Asked { age, current } = node.load {
                let ours = |known| known == snapshot.lineage || !world.keeps(Rule::Lineage);
                node.load = match node.lineage.is_none_or(ours) {
                    true => Load::Answered(Answer {
                        record: snapshot.into(),
                        good_for: world.bound - age,
                        current,
                    }),
                    false => Load::Idle,
                };
            }
        }
        NodeStep::ReadElsewhere(at) => {
            let (lineage, current) = match node.load {
                Load::AskedElsewhere { lineage, current } => (Some(lineage), current),
                _ => (node.lineage, true),
            };
            let record = Record::from(past[at]);
            let ours = lineage == Some(record.lineage) || !world.keeps(Rule::Lineage);
            node.load = match ours {
                true => Load::Answered(Answer {
                    record,
                    good_for: 0,
                    current,
                }),
                false => Load::Idle,
            };
        }
        NodeStep::Gate => {
            if let Load::Answered(answer) = node.load {
                node.load = match node.admits(world, answer.record) {
                    true => Load::Gated(answer),
                    false => Load::Idle,
                };
            }
        }
        NodeStep::Insert => {
            if let Load::Gated(answer) = node.load {
                node.load = if world.keeps(Rule::AskAfterInsert) {
                    node.insert(answer, false);
                    Load::Inserted(answer)
                } else {
                    node.insert(answer, true);
                    Load::Landed(answer)
                };
            }
        }
        NodeStep::Admit => {
            if let Load::Inserted(answer) = node.load {
                let admitted = node.admits(world, answer.record);
                if let Some(hot) = &mut node.hot
                    && hot.record == answer.record
                {
                    hot.admitted |= admitted;
                    if !admitted {
                        node.hot = None;
                    }
                }
                node.load = match admitted {
                    true => Load::Landed(answer),
                    false => Load::Idle,
                };
            }
        }
        NodeStep::Collect => {
            if let Load::Landed(answer) = node.load {
                node.load = Load::Idle;
                let admitted =
                    node.admits(world, answer.record) || !world.keeps(Rule::AskAtCollection);
                let vouched = answer.current || !world.keeps(Rule::Generation);
                let fresh = (vouched && node.trust > 0) || answer.good_for > 0;
                if admitted && fresh {
                    serve(world, state, answer.record);
                }
            }
        }
        NodeStep::ReadTrust => {
            node.request = Request::Trusting { left: node.trust };
        }
        NodeStep::Look => {
            if let Request::Trusting { left } = node.request {
                node.request = match node.hot {
                    Some(hot)
                        if hot.admitted && (hot.current || !world.keeps(Rule::Generation)) =>
                    {
                        let record = hot.record;
                        Request::Holding { record, left }
                    }
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
    let late = |revocation: &Revocation| {
        let lacks = revocation.losses > record.losses || revocation.version > record.version;
        lacks && revocation.age > world.bound
    };
    state.served_late |= record.valid && state.database.revocations.iter().any(late);
}

/// Whether a poll and a load that succeed bring a valid session into the hot tier, to be served
/// from there.
pub(crate) fn recovers(world: &World, state: &State, index: usize) -> bool {
    let mut state = state.clone();
    // An answer may be lost on its way; one that has come is taken to its end, with nothing between.
    match state.nodes[index].poll {
        Poll::Asked { .. } | Poll::Answered { .. } => state.nodes[index].poll = Poll::Idle,
        Poll::Raised { .. } => take(world, &mut state, index, NodeStep::Trust),
        Poll::Idle | Poll::Doubted | Poll::Cleared => {}
    }
    state.nodes[index].load = Load::Idle;
    state.nodes[index].request = Request::Idle;
    loop {
        let poll = match state.nodes[index].poll {
            Poll::Idle => NodeStep::Ask,
            Poll::Asked { .. } => NodeStep::Answer,
            Poll::Answered { snapshot, .. } if state.nodes[index].follows(snapshot.lineage) => {
                NodeStep::Raise
            }
            Poll::Answered { .. } => NodeStep::Doubt,
            Poll::Doubted => NodeStep::Clear,
            Poll::Cleared => NodeStep::ForgetAll,
            Poll::Raised { .. } => NodeStep::Trust,
        };
        take(world, &mut state, index, poll);
        if poll == NodeStep::Trust {
            break;
        }
    }
    for step in [
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
        .is_some_and(|hot| hot.admitted && hot.current && hot.record.valid);
    let valid = state.database.snapshot(world).row.valid;
    !valid || (hot && node.trust > 0)
}
