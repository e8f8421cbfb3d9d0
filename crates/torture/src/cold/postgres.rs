//! A PostgreSQL of its own, with a copy that takes reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Cluster, Database, Relay, Standby};

use crate::Plan;

pub(crate) struct Postgres {
    pub(crate) database: Database,
    /// In the same server, for transactions that have nothing to do with sessions.
    pub(crate) elsewhere: Database,
    pub(crate) copy: Option<Copy>,
    /// Last: its databases go first.
    pub(crate) cluster: Cluster,
}

/// A copy of the database that takes reads.
pub(crate) struct Copy {
    standby: Mutex<Standby>,
    /// The nodes' way to it, so that another can take its place.
    pub(crate) way: Relay,
}

impl Postgres {
    pub(crate) fn start(plan: &Plan) -> Self {
        // Of its own, since it is to be stopped and killed.
        let cluster = Cluster::start();
        let elsewhere = cluster.database();
        elsewhere.sql("CREATE TABLE hits (n int)");
        let copy = plan.replica.then(|| Copy::of(&cluster));
        Self {
            database: cluster.database(),
            elsewhere,
            copy,
            cluster,
        }
    }

    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("SESSION_COLD__URL", self.database.url())];
        let copy = self.copy.as_ref().map(|copy| copy.url(&self.database));
        settings.extend(copy.map(|url| ("SESSION_COLD__REPLICA_URL", url)));
        settings
    }

    pub(crate) fn connections(&self) -> u64 {
        let connections = self.database.sql(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        connections.trim().parse().expect("a number")
    }

    pub(crate) fn heal(&self) {
        self.cluster.resume();
        if let Some(copy) = &self.copy {
            copy.standby().resume_replay();
        }
    }
}

impl Copy {
    fn of(cluster: &Cluster) -> Self {
        let standby = cluster.standby();
        Self {
            way: Relay::to(standby.socket()),
            standby: Mutex::new(standby),
        }
    }

    fn url(&self, database: &Database) -> String {
        let (way, name) = (self.way.address(), database.name());
        format!("postgres://postgres@{way}/{name}?sslmode=disable")
    }

    pub(crate) fn standby(&self) -> MutexGuard<'_, Standby> {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads all nodes to a fresh copy, and ends the one before.
    pub(crate) fn replace(&self, cluster: &Cluster) {
        let fresh = cluster.standby();
        self.way.redirect(fresh.socket());
        *self.standby() = fresh;
    }
}

/// Sends a signal to a process of the server, which may be gone.
pub(crate) fn signal(signal: Signal, pid: &str) {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
