//! One node, step by step as the code takes them: between any two, anything else may happen.

mod parts;
mod steps;

use crate::database::{Row, Snapshot};
use crate::{Rule, State, World};
use parts::{Answer, Floor, Hot, Load, Poll, Record, Request};

pub(crate) use steps::{recovers, take};

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
    /// The answer is not to be believed: trust and follow nothing any more.
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
            Poll::Answered { snapshot, .. } if !self.believes(snapshot) => {
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

    /// Not one of another lineage, and none from before what it has seen.
    fn believes(&self, snapshot: Snapshot) -> bool {
        self.follows(snapshot.lineage) && snapshot.mark >= self.cursor
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
