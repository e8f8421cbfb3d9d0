use std::thread;
use std::time::{Duration, Instant};

use crate::error::OrFail;
use crate::{Redis, Relay};

/// How long a replica may take for its copy before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

impl Redis {
    /// Starts a replica of this server, with the same options, and returns when it holds the same.
    ///
    /// It follows from then on, until [promoted](Self::promote), killed or dropped; restarted, it
    /// follows nobody. Its dataset is read-only until promoted.
    ///
    /// # Panics
    ///
    /// When the replica does not start, or gets no copy in 30 seconds.
    #[track_caller]
    pub fn replica(&self) -> Self {
        let mut replica = self.options.clone().start();
        let way = replica.link.insert(Relay::to(self.socket()));
        let port = way.address().port().to_string();
        replica.ask(&["REPLICAOF", "127.0.0.1", &port]).or_fail();
        let start = Instant::now();
        while !replica.is_in_step() {
            assert!(
                start.elapsed() < PATIENCE,
                "the replica was not in step in {PATIENCE:?}"
            );
            thread::sleep(POLL);
        }
        replica
    }

    /// Makes a replica a server of its own, which takes writes. From now on nothing reaches it of
    /// what its former master is told.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn promote(&self) {
        self.ask(&["REPLICAOF", "NO", "ONE"]).or_fail();
    }

    /// Whether a replica has its copy.
    fn is_in_step(&self) -> bool {
        self.ask(&["INFO", "replication"])
            .or_fail()
            .contains("master_link_status:up")
    }
}
