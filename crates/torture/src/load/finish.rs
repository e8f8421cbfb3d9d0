//! When all is well again: what was acknowledged must be there.

use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use super::Load;
use super::known::Known;
use crate::history::History;
use crate::wire::{Ask, Line, Say};

/// Nodes that were cut off from something have found back by then. One session that is gone, or lacks
/// something, is enough from then on.
const PATIENCE: Duration = Duration::from_secs(10);

impl Load<'_> {
    /// Looks at every session that is in use, in the database.
    pub(crate) fn finish(self) -> History {
        let state = self.state.into_inner();
        let known = state.unwrap_or_else(PoisonError::into_inner).known;
        let history = self.history.into_inner();
        let mut history = history.unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now() + PATIENCE;
        let mut line = Line::open(self.world.nodes[0].address).expect("a node");
        for (session, known) in known.iter().enumerate().filter(|(_, known)| !known.over) {
            history.checked += 1;
            let lost = match count(&mut line, known, end) {
                Err(said) => format!("session {session} is gone: {said}"),
                Ok(count) if count < known.counted || count > known.counted + known.in_doubt => {
                    format!(
                        "session {session} counts {count}; {} were acknowledged, {} in doubt",
                        known.counted, known.in_doubt
                    )
                }
                Ok(_) => continue,
            };
            history.lost.push(lost);
            if Instant::now() >= end {
                // What else is gone would be asked for in vain, each for as long as a load takes.
                break;
            }
        }
        if self.goes_back {
            history.logins = known.iter().map(|known| known.login).collect();
        }
        history
    }
}

/// What the database counts of a session; or why that is not known at `end`.
fn count(line: &mut Line, known: &Known, end: Instant) -> Result<u64, String> {
    loop {
        let token = known.tokens.access.clone();
        let said = line.ask(&Ask::FindStrict { token });
        match said.expect("the node answers") {
            Say::Session {
                count: Some(count), ..
            } => return Ok(count),
            said if Instant::now() >= end => return Err(format!("{said:?}")),
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}
