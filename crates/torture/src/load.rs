//! The clients: logins, reads, updates, revocations.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tier_cache::Clock;

use crate::Plan;
use crate::history::{History, Read, Revocation};
use crate::wire::{Ask, Line, Say};
use crate::world::World;

/// Sessions that the clients keep alive between them.
const SESSIONS: usize = 60;
/// How long a client that got no answer waits before it asks anything again.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
struct Known {
    id: String,
    access: String,
    refresh: String,
    /// How often somebody began to trade the tokens in, or had done so.
    traded: u64,
    /// Increments that were acknowledged, and those of which nobody knows.
    counted: u64,
    in_doubt: u64,
    /// Nobody is to use it any more but for reading.
    over: bool,
}

impl Known {
    /// Whether nobody knows which tokens are good.
    fn is_being_traded(&self) -> bool {
        self.traded % 2 == 1
    }
}

pub(crate) struct Load<'w> {
    world: &'w World,
    seed: u64,
    by_sql: bool,
    clock: Clock,
    known: Mutex<Vec<Known>>,
    history: Mutex<History>,
}

impl<'w> Load<'w> {
    pub(crate) fn new(plan: &Plan, world: &'w World) -> Self {
        Self {
            world,
            seed: plan.seed,
            by_sql: plan.by_sql,
            clock: Clock::system(),
            known: Mutex::default(),
            history: Mutex::default(),
        }
    }

    /// One client, until `stop`.
    pub(crate) fn client(&self, number: usize, stop: &AtomicBool) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ (number as u64 + 1) << 32);
        let mut lines: Vec<Option<Line>> = self.world.nodes.iter().map(|_| None).collect();
        while !stop.load(Ordering::SeqCst) {
            let node = random.usize(..lines.len());
            let line = &mut lines[node];
            if line.is_none() {
                *line = Line::open(self.world.nodes[node].address).ok();
            }
            let Some(open) = line else {
                thread::sleep(PAUSE);
                continue;
            };
            if self.step(&mut random, node, open).is_err() {
                *line = None;
            }
            thread::sleep(Duration::from_micros(random.u64(200..2000)));
        }
    }

    fn step(
        &self,
        random: &mut fastrand::Rng,
        node: usize,
        line: &mut Line,
    ) -> std::io::Result<()> {
        let chosen = {
            let known = lock(&self.known);
            let late = known.len().saturating_sub(4 * SESSIONS)..known.len();
            let live: Vec<usize> = late.clone().filter(|&it| !known[it].over).collect();
            match live.len() < SESSIONS {
                true => None,
                // One that was revoked a moment ago, as likely as not.
                false if random.u32(..4) == 0 => Some(random.usize(late)),
                false => random.choice(live),
            }
        };
        let Some(chosen) = chosen else {
            return self.login(line);
        };
        match random.u32(..1000) {
            0..4 => self.revoke(chosen, line),
            4..7 if self.by_sql => self.revoke_by_sql(chosen, random),
            7..60 => self.increment(chosen, line),
            60..70 => self.refresh(chosen, line),
            70..170 => {
                let micros = random.u64(1..2000);
                self.read(chosen, node, line, |token| Ask::FindBriefly {
                    token,
                    micros,
                })
            }
            _ => self.read(chosen, node, line, |token| Ask::Find { token }),
        }
    }

    fn login(&self, line: &mut Line) -> std::io::Result<()> {
        let said = ask(line, &Ask::Login);
        let Ok(Say::Session {
            id,
            tokens: Some(tokens),
            ..
        }) = said
        else {
            self.did("logins failed");
            return said.map(drop);
        };
        self.did("logins");
        lock(&self.known).push(Known {
            id,
            access: tokens.access,
            refresh: tokens.refresh,
            traded: 0,
            counted: 0,
            in_doubt: 0,
            over: false,
        });
        Ok(())
    }

    fn read(
        &self,
        chosen: usize,
        node: usize,
        line: &mut Line,
        find: impl FnOnce(String) -> Ask,
    ) -> std::io::Result<()> {
        let shown = lock(&self.known)[chosen].clone();
        let said = ask(line, &find(shown.access.clone()))?;
        // One lock after the other, never one within the other.
        let now = lock(&self.known)[chosen].clone();
        let mut history = lock(&self.history);
        match said {
            Say::Session {
                id,
                version,
                tier,
                asked_at,
                served_at,
                ..
            } => {
                if id != shown.id {
                    history.mixed_up.push(chosen);
                }
                *history.done.entry(tier_name(&tier)).or_default() += 1;
                history.reads.push(Read {
                    session: chosen,
                    node,
                    version,
                    asked_at,
                    served_at,
                });
            }
            Say::Refused(_) => {
                *history.done.entry("reads refused").or_default() += 1;
                // Nobody may be logged out whom nobody revoked, and who showed no token of old.
                if !now.over && !shown.is_being_traded() && now.traded == shown.traded {
                    history.false_refusals.push(chosen);
                }
            }
            Say::GivenUp => *history.done.entry("reads given up").or_default() += 1,
            Say::Failed(_) | Say::Done | Say::Tasks(_) => {
                *history.done.entry("reads undecided").or_default() += 1;
            }
        }
        Ok(())
    }

    fn increment(&self, chosen: usize, line: &mut Line) -> std::io::Result<()> {
        let token = {
            let mut known = lock(&self.known);
            if known[chosen].over {
                return Ok(());
            }
            known[chosen].in_doubt += 1;
            known[chosen].access.clone()
        };
        let said = ask(line, &Ask::Increment { token });
        let Ok(Say::Session { .. }) = said else {
            // It may have been made.
            self.did("updates in doubt");
            return said.map(drop);
        };
        self.did("updates");
        let mut known = lock(&self.known);
        known[chosen].in_doubt -= 1;
        known[chosen].counted += 1;
        Ok(())
    }

    fn refresh(&self, chosen: usize, line: &mut Line) -> std::io::Result<()> {
        let token = {
            let mut known = lock(&self.known);
            let known = &mut known[chosen];
            // Of two who trade the same in, the second would get what the first got, or end it all.
            if known.over || known.is_being_traded() {
                return Ok(());
            }
            known.traded += 1;
            known.refresh.clone()
        };
        let said = ask(line, &Ask::Refresh { token });
        let Ok(Say::Session {
            tokens: Some(tokens),
            ..
        }) = said
        else {
            // The new pair may be lost with the answer.
            let was_over = std::mem::replace(&mut lock(&self.known)[chosen].over, true);
            self.did("refreshes in doubt");
            if let Ok(Say::Refused(_)) = said
                && !was_over
            {
                lock(&self.history).false_refusals.push(chosen);
            }
            return said.map(drop);
        };
        self.did("refreshes");
        let mut known = lock(&self.known);
        known[chosen].access = tokens.access;
        known[chosen].refresh = tokens.refresh;
        known[chosen].traded += 1;
        Ok(())
    }

    /// Takes a session out of use, before it is revoked.
    fn retire(&self, chosen: usize) -> Option<String> {
        let mut known = lock(&self.known);
        let known = &mut known[chosen];
        if known.over {
            return None;
        }
        known.over = true;
        Some(known.id.clone())
    }

    fn revoke(&self, chosen: usize, line: &mut Line) -> std::io::Result<()> {
        let Some(id) = self.retire(chosen) else {
            return Ok(());
        };
        let said = ask(line, &Ask::Revoke { id });
        let Ok(Say::Done) = said else {
            // It may have been made.
            self.did("revocations in doubt");
            return said.map(drop);
        };
        self.committed(chosen);
        self.did("revocations");
        Ok(())
    }

    fn revoke_by_sql(&self, chosen: usize, random: &mut fastrand::Rng) -> std::io::Result<()> {
        let Some(id) = self.retire(chosen) else {
            return Ok(());
        };
        let sql = match random.bool() {
            true => format!("UPDATE sessions SET is_active = false WHERE id = '{id}'"),
            false => format!("DELETE FROM sessions WHERE id = '{id}'"),
        };
        if self.world.database.try_sql(&sql).is_err() {
            self.did("revocations in doubt");
            return Ok(());
        }
        self.committed(chosen);
        self.did("revocations by SQL");
        Ok(())
    }

    fn committed(&self, session: usize) {
        lock(&self.history).revocations.push(Revocation {
            session,
            committed_by: self.clock.now().moment.nanos(),
        });
    }

    fn did(&self, what: &'static str) {
        *lock(&self.history).done.entry(what).or_default() += 1;
    }

    /// When all is well again: what was acknowledged must be there.
    pub(crate) fn finish(self) -> History {
        let known = self
            .known
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut history = self
            .history
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut line = Line::open(self.world.nodes[0].address).expect("a node");
        for (session, known) in known.iter().enumerate().filter(|(_, known)| !known.over) {
            let mut last = String::new();
            let found = (0..100).find_map(|_| {
                let ask = Ask::FindStrict {
                    token: known.access.clone(),
                };
                match line.ask(&ask).expect("the node answers") {
                    Say::Session { count, .. } => count,
                    said => {
                        last = format!("{said:?}");
                        thread::sleep(Duration::from_millis(100));
                        None
                    }
                }
            });
            history.checked += 1;
            let Some(count) = found else {
                history
                    .lost
                    .push(format!("session {session} is gone: {last}"));
                continue;
            };
            if count < known.counted || count > known.counted + known.in_doubt {
                history.lost.push(format!(
                    "session {session} counts {count}; {} were acknowledged, {} in doubt",
                    known.counted, known.in_doubt
                ));
            }
        }
        history
    }
}

/// Asks a node, and takes a rest where it could not answer.
fn ask(line: &mut Line, ask: &Ask) -> std::io::Result<Say> {
    let said = line.ask(ask)?;
    if let Say::Failed(_) = said {
        thread::sleep(PAUSE);
    }
    Ok(said)
}

fn tier_name(tier: &str) -> &'static str {
    match tier {
        "hot" => "reads hot",
        "warm" => "reads warm",
        _ => "reads cold",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
