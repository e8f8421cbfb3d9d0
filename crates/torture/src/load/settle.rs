//! What the clients know after the database went back: what it says itself.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use session_core::Token;

use super::known::Known;
use super::{Load, State, lock};
use crate::cold::{Cold, Found};
use crate::fault::Fault;
use crate::history::{Row, Setback};
use crate::wire::{Ask, Line, Say};

/// How many valid sessions each node must serve.
const PROBES: usize = 8;
/// How long a node is asked for them, in all.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the database no longer has.
#[derive(Default)]
struct Losses {
    sessions: u64,
    revocations: u64,
    updates: u64,
}

impl Load<'_> {
    /// The database is about to go back: from here on nobody knows what is committed.
    pub(crate) fn unsettle(&self) -> i64 {
        let mut state = lock(&self.state);
        assert!(state.phase.setbacks().is_some(), "one at a time");
        state.phase.0 += 1;
        self.now()
    }

    /// The database has gone back: the clients go on from what it has. Returns once it has answered.
    ///
    /// # Panics
    ///
    /// If it does not answer within a minute.
    pub(crate) fn settle(&self, cold: &Cold, what: Fault, began_at: i64) {
        let (asked_at, found) = self.truth(cold);
        let answered_at = self.now();
        let mut rows = HashMap::new();
        let mut losses = Losses::default();
        {
            let mut state = lock(&self.state);
            for (session, known) in state.known.iter_mut().enumerate() {
                let row = found.get(&known.id);
                self.adopt(known, row, began_at, &mut losses);
                rows.extend(row.map(|row| (session, row.row)));
            }
            state.phase.0 += 1;
        }
        lock(&self.history).setbacks.push(Setback {
            what: what.to_string(),
            emptied: what.empties(),
            began_at,
            asked_at,
            answered_at,
            rows,
        });
        self.did_many("sessions lost by setbacks", losses.sessions);
        self.did_many("revocations lost by setbacks", losses.revocations);
        self.did_many("updates lost by setbacks", losses.updates);
    }

    /// What the database has, and when it was asked for that.
    fn truth(&self, cold: &Cold) -> (i64, HashMap<String, Found>) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let asked_at = self.now();
            match cold.sessions() {
                Ok(found) => return (asked_at, found),
                Err(error) if Instant::now() > end => panic!("the database is not back: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Forgets what a client believed of a session, and believes the database.
    fn adopt(&self, known: &mut Known, found: Option<&Found>, began_at: i64, losses: &mut Losses) {
        let Some(found) = found else {
            // What somebody deleted was over before.
            losses.sessions += u64::from(!known.over);
            known.over = true;
            return;
        };
        let Row { active, .. } = found.row;
        if known.over && !known.end_in_doubt && active && known.login.committed_by < began_at {
            losses.revocations += 1;
        }
        losses.updates += known.counted.saturating_sub(found.count);
        known.counted = found.count;
        // A pair that somebody is trading in may be gone at any time.
        let is_unsure = known.end_in_doubt || known.is_being_traded();
        let pairs = std::iter::once(&known.tokens).chain(known.former.iter().rev());
        let mut pairs = pairs.filter(|pair| self.hash(&pair.access) == found.access);
        let good = pairs.next().cloned();
        known.over = is_unsure || !active || good.is_none();
        if let Some(good) = good {
            known.tokens = good;
            known.former.clear();
            known.traded += 2;
        }
    }

    /// Of an access token, as the database holds it.
    fn hash(&self, token: &str) -> String {
        let token = Token::parse(token).expect("a node minted it");
        let hash = self.keys.hash(&token);
        hash.as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The database has been back for long: each node serves valid sessions, and from its caches.
    pub(crate) fn must_serve(&self, after: Fault) {
        for (node, at) in self.world.nodes.iter().enumerate() {
            let Ok(mut line) = Line::open(at.address) else {
                self.unserved(format!("node {node} took no connection after: {after}"));
                continue;
            };
            let sessions = self.some_valid();
            let mut was_hot = sessions.is_empty();
            let end = Instant::now() + PATIENCE;
            for session in sessions {
                self.did("sessions asked for long after setbacks");
                match self.serves(&mut line, session, end) {
                    Ok(hot) => was_hot |= hot,
                    Err(said) => {
                        self.unserved(format!(
                            "node {node}, session {session}, after: {after}: {said}"
                        ));
                        // It would be asked in vain for each of the others too, for as long as a load takes.
                        break;
                    }
                }
            }
            if !was_hot {
                self.unserved(format!("node {node} caches nothing after: {after}"));
            }
        }
    }

    /// Some sessions that are in use, the newest first.
    fn some_valid(&self) -> Vec<usize> {
        let state = lock(&self.state);
        let State { known, .. } = &*state;
        let valid = (0..known.len()).rev().filter(|&it| is_valid(&known[it]));
        valid.take(PROBES).collect()
    }

    /// Whether a node serves a session from its cache; or what it says in place of serving it.
    fn serves(&self, line: &mut Line, session: usize, end: Instant) -> Result<bool, String> {
        let mut served = false;
        loop {
            let known = lock(&self.state).known[session].clone();
            let token = known.tokens.access;
            let said = match line.ask(&Ask::Find { token }) {
                Ok(Say::Session { tier, .. }) if tier == "hot" => return Ok(true),
                Ok(said) => said,
                Err(error) => return Err(error.to_string()),
            };
            let now = lock(&self.state).known[session].clone();
            if !is_valid(&now) || now.traded != known.traded {
                // Somebody revoked it, or trades its tokens in.
                return Ok(true);
            }
            served |= matches!(said, Say::Session { .. });
            match said {
                Say::Refused(_) => return Err(format!("{said:?}")),
                _ if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
                _ if served => return Ok(false),
                _ => return Err(format!("{said:?}")),
            }
        }
    }

    pub(crate) fn unserved(&self, why: String) {
        lock(&self.history).unserved.push(why);
    }
}

fn is_valid(known: &Known) -> bool {
    !known.over && !known.is_being_traded()
}
