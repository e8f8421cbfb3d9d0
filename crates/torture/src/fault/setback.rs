//! What is done with each database that goes back.

use std::sync::atomic::Ordering;

use super::Fault;
use super::strike::{Strikes, While};
use crate::cold::Postgres;
use crate::history::STATEMENT;

impl Strikes<'_> {
    pub(super) fn strike_postgres(
        &mut self,
        postgres: &Postgres,
        fault: Fault,
        pause: While,
    ) -> bool {
        match fault {
            Fault::ReplicaPromoted => return self.promote_copy(postgres, pause),
            Fault::CommitsLostByBackend | Fault::CommitsLostByServer => {
                self.lose_commits(postgres, fault, pause);
            }
            _ => self.restore(postgres, fault, pause),
        }
        true
    }

    /// Makes the database go back, and has the clients go on from what it has then. After a while each node
    /// must serve that.
    pub(super) fn go_back(&mut self, fault: Fault, back: impl FnOnce()) {
        let began_at = self.load.unsettle();
        back();
        self.load.settle(&self.world.cold, fault, began_at);
        self.rest(self.plan.bound + STATEMENT);
        if !self.stop.load(Ordering::SeqCst) {
            self.load.must_serve(fault);
        }
    }
}
