//! A model of the fence protocol (`docs/protocol.md`), for a checker that tries every schedule.
//!
//! The world is small: one session and a few transactions; its clock has no end, since only ages up
//! to B matter. Within it anything may happen at any time: transactions overlap and commit in any
//! order, polls and loads take as long as they like or fail, nodes stand still, start again, lose
//! track, and forget floors.
//!
//! Redis and replicas are as bad as can be: a read of either may answer with **anything the
//! database ever was**, which is more than losing, delaying, duplicating and resurrecting. So there
//! are no messages between nodes to model: all that a node can hear of another is in that already.
//!
//! The database may go back to an earlier state of itself, in four ways ([`Loss`]). The state brings
//! the row of `session_history` back with it. Nobody tells the nodes: the feed's answer compares the
//! row with what the database is now. A copy of the database may also be promoted beside it, and
//! answer reads of replicas.
//!
//! | in the model | stands for |
//! |---|---|
//! | a run | system identifier, timeline and start time of the server: one of them changes |
//! | an incarnation | oid and file node of each table, version and state of each trigger: a restore changes one of them, and no value comes twice |
//! | the crash marker | the unlogged table; a crash and a promotion empty it, a copy of files and a dump bring it back |
//! | a copy | a backup of files, a dump, a standby, or what a crash left on disk: any commit or renewal, but a crash goes back no further than the last start |
//! | [`Step::Renew`] | another node, which noticed first |
//! | a renewal, in one step with the answer that asked for it | two transactions: another renewal in between makes the second do nothing, and is a schedule of its own |
//! | a renewal without a number | one that takes the next number |
//! | a row read from the primary before the renewal | presents the stored lineage, like the code at its most careless |
//! | a mark below the node's cursor | a mark below any that the node has seen |
//! | `begins` | `tombstones_since` of a lineage; a change below it is told to nobody |
//! | a fork's change, in one step | a transaction of its own, numbered like one of ours |
//! | a restore, in one step | all of its transactions; nobody reads tables that are half full |
//!
//! | file | says |
//! |---|---|
//! | `database.rs` | rows, transactions, snapshots and their marks |
//! | `history.rs` | the row of `session_history`, and how going back is noticed |
//! | `loss.rs` | ways of going back, copies, and a copy that goes on by itself |
//! | `promise.rs` | which revocations hold in the history that goes on |
//! | `node.rs` | what one node can do: feed, loads, gate, hot tier, requests |
//! | `node/parts.rs` | what a node holds |
//! | `node/steps.rs` | what each step does |
//! | `lib.rs` | the world, its steps, and what must hold |

mod database;
mod history;
mod loss;
mod node;
mod promise;

use stateright::{Model, Property};

use crate::database::Database;
use crate::node::Node;

pub use crate::database::Change;
pub use crate::loss::Loss;
pub use crate::node::NodeStep;

/// The property that all of it is for.
pub const LATE: &str = "no session is served later than B after its revocation";

/// The property that it is not for nothing.
pub const RECOVERS: &str = "a poll and a load bring a valid session back into the cache";

/// A world to check, and the rule that is broken in it, if any.
#[derive(Clone, Debug)]
pub struct World {
    /// Nodes of the service.
    pub nodes: usize,
    /// B, in ticks.
    pub bound: u8,
    /// Whether the session is revoked at the start; the first change makes it valid.
    pub revoked: bool,
    /// Transactions that begin.
    pub transactions: u8,
    /// How often they change the session, between them.
    pub changes: u8,
    /// How often the database goes back to an earlier state of itself, any it likes.
    pub losses: u8,
    /// In which ways it goes back.
    pub goes_back: &'static [Loss],
    /// How often a copy that goes on beside the database changes the session; 0 if none does.
    pub fork_changes: u8,
    /// Whether nodes may start again, or lose track.
    pub restarts: bool,
    /// Whether nodes hear pushes.
    pub push: bool,
    /// The rule that is left out.
    pub broken: Option<Rule>,
}

/// A rule of the protocol that can be left out, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The gate's floor check: `version >= floor`.
    Floor,
    /// The gate's mark check: `as_of >= since`.
    Mark,
    /// A mark is the oldest transaction in progress; without this, the next number.
    OldestInProgress,
    /// Trust ends; without this, one poll is enough for ever.
    TrustEnds,
    /// Trust counts from the moment the poll was asked; without this, from its answer.
    TrustFromAsking,
    /// The gate is asked again after the insert into the hot tier.
    AskAfterInsert,
    /// The gate is asked again when a request collects what was loaded for it.
    AskAtCollection,
    /// A request reads the trust before the cache; without this, after it.
    TrustBeforeCache,
    /// Records of another lineage are refused.
    Lineage,
    /// What was asked for before the hot tier was cleared is not shown.
    Generation,
    /// A node that starts over in another lineage drops its floors last, after the hot tier.
    FloorsLast,
    /// The feed's answer asks for the crash marker, which every crash recovery removes.
    CrashMarker,
    /// The feed's answer compares server, timeline and start time with the lineage's.
    Run,
    /// The feed's answer compares the tables and triggers themselves with the lineage's.
    Incarnation,
    /// A copy that is neither a standby nor the primary itself answers in another lineage.
    CopyMoved,
    /// A lineage begins at the oldest transaction in progress; without this, at the number of the
    /// one that renews it.
    HistoryBegins,
}

impl Rule {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::Floor,
        Self::Mark,
        Self::OldestInProgress,
        Self::TrustEnds,
        Self::TrustFromAsking,
        Self::AskAfterInsert,
        Self::AskAtCollection,
        Self::TrustBeforeCache,
        Self::Lineage,
        Self::Generation,
        Self::FloorsLast,
        Self::CrashMarker,
        Self::Run,
        Self::Incarnation,
        Self::CopyMoved,
        Self::HistoryBegins,
    ];
}

impl World {
    /// A world that is checked in seconds and has room for every counterexample known.
    pub fn small() -> Self {
        Self {
            nodes: 1,
            bound: 1,
            revoked: false,
            transactions: 2,
            changes: 2,
            losses: 0,
            goes_back: &[],
            fork_changes: 0,
            restarts: true,
            push: true,
            broken: None,
        }
    }

    /// One whose database goes back once, in one of these ways.
    pub fn going_back(ways: &'static [Loss]) -> Self {
        Self {
            losses: 1,
            goes_back: ways,
            restarts: false,
            push: false,
            ..Self::small()
        }
    }

    /// One in which a copy of the database is promoted, while the database lives on.
    pub fn forking() -> Self {
        Self {
            fork_changes: 1,
            restarts: false,
            push: false,
            ..Self::small()
        }
    }

    /// The same without a rule.
    pub fn without(self, rule: Rule) -> Self {
        Self {
            broken: Some(rule),
            ..self
        }
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// All that is the case at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) database: Database,
    pub(crate) nodes: Vec<Node>,
    /// A request was given the session later than B after the commit that revoked it.
    pub(crate) served_late: bool,
    /// A request was given the session from the hot tier.
    pub(crate) served_hot: bool,
}

/// One step of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A moment passes.
    Tick,
    /// A transaction begins, and is numbered.
    Begin,
    /// An open transaction changes the session; others have to wait for it.
    Change(u8, Change),
    /// An open transaction commits.
    Commit(u8),
    /// The database goes on from a copy of itself that lacks the last commits.
    Lose(Loss, usize),
    /// Another node notices that, and begins a new lineage.
    Renew,
    /// A copy of the database is promoted beside it.
    Promote(usize),
    /// What was promoted, or the old primary after a failover, changes the session.
    Fork(Change),
    /// A node does something.
    Node(usize, NodeStep),
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            database: Database::new(self),
            nodes: vec![Node::new(); self.nodes],
            served_late: false,
            served_hot: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        state.database.steps(self, steps);
        for (index, node) in state.nodes.iter().enumerate() {
            let mut of_node = Vec::new();
            node.steps(self, state, &mut of_node);
            steps.extend(of_node.into_iter().map(|step| Step::Node(index, step)));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        match step {
            Step::Tick => {
                next.database.promise.tick(self);
                next.nodes.iter_mut().for_each(|node| node.tick(self));
            }
            Step::Begin => next.database.begin(self),
            Step::Change(transaction, change) => next.database.change(transaction, change),
            Step::Commit(transaction) => next.database.commit(self, transaction),
            Step::Lose(loss, copy) => next.database.lose(self, loss, copy),
            Step::Renew => next.database.renew_lineage(self),
            Step::Promote(copy) => next.database.promote(self, copy),
            Step::Fork(change) => next.database.fork_changes(change),
            Step::Node(index, step) => node::take(self, &mut next, index, step),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LATE, |_, state: &State| !state.served_late),
            Property::always(RECOVERS, |world: &World, state| {
                (0..world.nodes).all(|node| node::recovers(world, state, node))
            }),
            Property::sometimes("sessions are served from the cache", |_, state: &State| {
                state.served_hot
            }),
        ]
    }
}
