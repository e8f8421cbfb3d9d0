//! How clients revoke sessions: by the API and by plain SQL.

use std::io::Result;

use super::{Load, Phase, ask, lock};
use crate::history::Revocation;
use crate::wire::{Ask, Line, Say};

impl Load<'_> {
    /// Takes a session out of use, before it is revoked.
    fn retire(&self, chosen: usize) -> Option<(String, Phase)> {
        let mut state = lock(&self.state);
        let phase = state.phase;
        let known = &mut state.known[chosen];
        if known.over {
            return None;
        }
        known.over = true;
        known.end_in_doubt = true;
        Some((known.id.clone(), phase))
    }

    pub(super) fn revoke(&self, chosen: usize, line: &mut Line) -> Result<()> {
        let Some((id, phase)) = self.retire(chosen) else {
            return Ok(());
        };
        let said = ask(line, &Ask::Revoke { id });
        let Ok(Say::Done) = said else {
            // It may have been made.
            self.did("revocations in doubt");
            return said.map(drop);
        };
        self.revoked(chosen, phase);
        self.did("revocations");
        Ok(())
    }

    pub(super) fn revoke_by_sql(&self, chosen: usize, random: &mut fastrand::Rng) -> Result<()> {
        let Some((id, phase)) = self.retire(chosen) else {
            return Ok(());
        };
        let sql = match random.bool() {
            true => format!("UPDATE sessions SET is_active = false WHERE id = '{id}'"),
            false => format!("DELETE FROM sessions WHERE id = '{id}'"),
        };
        if self.world.cold.try_sql(&sql).is_err() {
            self.did("revocations in doubt");
            return Ok(());
        }
        self.revoked(chosen, phase);
        self.did("revocations by SQL");
        Ok(())
    }

    fn revoked(&self, session: usize, phase: Phase) {
        let committed_by = self.now();
        {
            let mut state = lock(&self.state);
            if !state.is_sure(phase) {
                // It may have been lost.
                return;
            }
            state.known[session].end_in_doubt = false;
        }
        if let Some(setbacks) = phase.setbacks() {
            lock(&self.history).revocations.push(Revocation {
                session,
                setbacks,
                committed_by,
            });
        }
    }
}
