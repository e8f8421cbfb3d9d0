//! What a client does.

use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::known::Known;
use super::{Load, PAUSE, Phase, SESSIONS, State, ask, lock};
use crate::history::{Login, Read, Refusal};
use crate::wire::{Ask, Line, Say};

impl Load<'_> {
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

    fn step(&self, random: &mut fastrand::Rng, node: usize, line: &mut Line) -> Result<()> {
        let chosen = {
            let State { known, phase } = &*lock(&self.state);
            let late = known.len().saturating_sub(4 * SESSIONS)..known.len();
            let live: Vec<usize> = late.clone().filter(|&it| !known[it].over).collect();
            let any = (!late.is_empty()).then(|| random.usize(late));
            match any {
                // No session that begins while the database goes back is known to last, however many do.
                Some(any) if phase.setbacks().is_none() && random.u32(..100) != 0 => Some(any),
                _ if live.len() < SESSIONS => None,
                // One that was revoked a moment ago, as likely as not.
                _ if random.u32(..4) == 0 => any,
                _ => random.choice(live),
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

    fn login(&self, line: &mut Line) -> Result<()> {
        let (phase, asked_at) = (lock(&self.state).phase, self.now());
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
        let mut state = lock(&self.state);
        let login = Login {
            asked_at,
            committed_by: self.now(),
        };
        let is_sure = state.is_sure(phase);
        state.known.push(Known::new(id, tokens, login, is_sure));
        Ok(())
    }

    fn read(
        &self,
        chosen: usize,
        node: usize,
        line: &mut Line,
        find: impl FnOnce(String) -> Ask,
    ) -> Result<()> {
        let (shown, phase) = self.look(chosen);
        let began_at = self.now();
        let said = ask(line, &find(shown.tokens.access.clone()))?;
        let refused_at = self.now();
        let (now, phase_now) = self.look(chosen);
        let mut history = lock(&self.history);
        match said {
            Say::Session {
                id,
                version,
                tier,
                tag,
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
                    tag,
                    asked_at,
                    served_at,
                });
            }
            Say::Refused(said) => {
                *history.done.entry("reads refused").or_default() += 1;
                // Nobody may be logged out whom nobody revoked, and who showed no token of old.
                let showed_it = !shown.is_being_traded() && now.traded == shown.traded;
                if let Some(setbacks) = phase.setbacks()
                    && phase == phase_now
                    && !now.over
                    && showed_it
                {
                    history.false_refusals.push(Refusal {
                        session: chosen,
                        node: Some(node),
                        said,
                        setbacks,
                        asked_at: began_at,
                        refused_at,
                    });
                }
            }
            Say::GivenUp => *history.done.entry("reads given up").or_default() += 1,
            Say::Failed(_) | Say::Done | Say::Tasks(_) | Say::Heap(_) => {
                *history.done.entry("reads undecided").or_default() += 1;
            }
        }
        Ok(())
    }

    fn look(&self, chosen: usize) -> (Known, Phase) {
        let state = lock(&self.state);
        (state.known[chosen].clone(), state.phase)
    }

    fn increment(&self, chosen: usize, line: &mut Line) -> Result<()> {
        let (token, phase) = {
            let mut state = lock(&self.state);
            let phase = state.phase;
            let known = &mut state.known[chosen];
            if known.over {
                return Ok(());
            }
            known.in_doubt += 1;
            (known.tokens.access.clone(), phase)
        };
        let (tag, asked_at) = (self.tag(), self.now());
        let said = ask(line, &Ask::Increment { token, tag });
        let is_committed = matches!(said, Ok(Say::Session { .. }));
        self.changed(chosen, tag, asked_at, is_committed);
        if !is_committed {
            // It may have been made.
            self.did("updates in doubt");
            return said.map(drop);
        }
        self.did("updates");
        let mut state = lock(&self.state);
        if state.is_sure(phase) {
            let known = &mut state.known[chosen];
            known.in_doubt -= 1;
            known.counted += 1;
        }
        Ok(())
    }

    fn refresh(&self, chosen: usize, line: &mut Line) -> Result<()> {
        let (token, phase) = {
            let mut state = lock(&self.state);
            let phase = state.phase;
            let known = &mut state.known[chosen];
            // Of two who trade the same in, the second would get what the first got, or end it all.
            if known.over || known.is_being_traded() || phase.setbacks().is_none() {
                return Ok(());
            }
            known.traded += 1;
            (known.tokens.refresh.clone(), phase)
        };
        let asked_at = self.now();
        let said = ask(line, &Ask::Refresh { token });
        let Ok(Say::Session {
            tokens: Some(tokens),
            ..
        }) = said
        else {
            self.refresh_failed(chosen, phase, asked_at, &said);
            return said.map(drop);
        };
        self.changed(chosen, 0, asked_at, true);
        self.did("refreshes");
        let mut state = lock(&self.state);
        let is_sure = state.is_sure(phase);
        let known = &mut state.known[chosen];
        known.trade(tokens);
        if !is_sure {
            // Nobody knows which pair is good.
            known.over = true;
            known.end_in_doubt = true;
        }
        Ok(())
    }

    fn refresh_failed(&self, chosen: usize, phase: Phase, asked_at: i64, said: &Result<Say>) {
        // The new pair may be lost with the answer.
        self.changed(chosen, 0, asked_at, false);
        self.did("refreshes in doubt");
        let (was_over, phase_now) = {
            let mut state = lock(&self.state);
            let phase = state.phase;
            let known = &mut state.known[chosen];
            known.end_in_doubt = true;
            (std::mem::replace(&mut known.over, true), phase)
        };
        if let Ok(Say::Refused(said)) = said
            && let Some(setbacks) = phase.setbacks()
            && phase == phase_now
            && !was_over
        {
            let refused_at = self.now();
            lock(&self.history).false_refusals.push(Refusal {
                session: chosen,
                node: None,
                said: said.clone(),
                setbacks,
                asked_at,
                refused_at,
            });
        }
    }
}

fn tier_name(tier: &str) -> &'static str {
    match tier {
        "hot" => "reads hot",
        "warm" => "reads warm",
        _ => "reads cold",
    }
}
