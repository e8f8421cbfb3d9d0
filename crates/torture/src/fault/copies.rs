//! A copy that takes reads is promoted by mistake, while the database lives on.

use std::time::{Duration, Instant};

use super::strike::{Strikes, While};
use crate::cold::Postgres;
use crate::history::FORKED;

impl Strikes<'_> {
    /// Promotes the copy, and changes it by itself: what was revoked is valid again there, and all data are
    /// marked. Then a fresh copy takes its place, after a while without any as likely as not.
    pub(super) fn promote_copy(&mut self, postgres: &Postgres, pause: While) -> bool {
        let Some(copy) = &postgres.copy else {
            return false;
        };
        let change = format!(
            "UPDATE sessions SET is_active = true, revoked_at = NULL, expires_at = expires_at + interval '1 s', \
                data = CASE jsonb_typeof(data) WHEN 'object' THEN data ELSE '{{\"count\": 0}}' END || '{{\"tag\": {FORKED}}}' \
             WHERE id IN (SELECT id FROM sessions ORDER BY created_at DESC LIMIT 300)"
        );
        copy.standby().caught_up();
        copy.standby().promote();
        let end = Instant::now() + pause.long;
        while Instant::now() < end {
            copy.standby().sql(&postgres.database, &change);
            self.rest(Duration::from_millis(100));
        }
        if self.random.bool() {
            copy.standby().kill();
            self.rest(pause.either);
        }
        copy.replace(&postgres.cluster);
        true
    }
}
