//! What each step of a node does.

use super::parts::{Answer, Load, Poll, Record, Request};
use super::{Node, NodeStep};
use crate::{Rule, State, World};

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
            if database.moved(world) {
                // The question is asked anew, and counts from when it was asked first.
                database.renew_lineage(world);
            } else if let Poll::Asked { age } = node.poll {
                node.poll = Poll::Answered { age, snapshot };
            }
        }
        NodeStep::Doubt => {
            if let Poll::Answered { snapshot, .. } = node.poll
                && node.follows(snapshot.lineage)
                && snapshot.lineage == database.history.lineage
            {
                // Its mark lies below one seen. (The code renews just before it asks anew.)
                database.renew_lineage(world);
            }
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
                since = since.max(snapshot.begins);
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
    let promise = &state.database.promise;
    state.served_late |= record.valid && promise.is_broken_by(world, record.line, record.version);
}

/// Whether a poll and a load that succeed bring a valid session into the hot tier, to be served
/// from there.
pub(crate) fn recovers(world: &World, state: &State, index: usize) -> bool {
    if !state.database.row.valid {
        return true;
    }
    let mut state = state.clone();
    // An answer may be lost on its way; one that has come is taken to its end, with nothing between.
    match state.nodes[index].poll {
        Poll::Asked { .. } | Poll::Answered { .. } => state.nodes[index].poll = Poll::Idle,
        Poll::Raised { .. } => take(world, &mut state, index, NodeStep::Trust),
        Poll::Idle | Poll::Doubted | Poll::Cleared => {}
    }
    state.nodes[index].load = Load::Idle;
    state.nodes[index].request = Request::Idle;
    let mut renewed = false;
    loop {
        let poll = match state.nodes[index].poll {
            Poll::Idle => NodeStep::Ask,
            Poll::Asked { .. } => NodeStep::Answer,
            Poll::Answered { snapshot, .. } if state.nodes[index].believes(snapshot) => {
                NodeStep::Raise
            }
            Poll::Answered { .. } => NodeStep::Doubt,
            Poll::Doubted => NodeStep::Clear,
            Poll::Cleared => NodeStep::ForgetAll,
            Poll::Raised { .. } => NodeStep::Trust,
        };
        if poll == NodeStep::Answer && state.database.moved(world) {
            // A poll renews the lineage once; if that does not help, it fails.
            if renewed {
                return false;
            }
            renewed = true;
        }
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
    node.trust > 0
        && node
            .hot
            .is_some_and(|hot| hot.admitted && hot.current && hot.record.valid)
}
