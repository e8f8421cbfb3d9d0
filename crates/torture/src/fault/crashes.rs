//! Commits that a crash loses, while a transaction of another database is open that holds all marks back.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::Fault;
use super::strike::{Strikes, While};
use crate::cold::{Postgres, signal};

/// What is committed asynchronously stays in memory as long as these write nothing.
const WRITERS: &str = "SELECT pid FROM pg_stat_activity \
    WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')";

const DISCONNECT_NODES: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE application_name = 'tier-cache' AND datname = current_database()";

/// Until the server has seen that a process of it is gone.
const SEEN: Duration = Duration::from_millis(100);

impl Strikes<'_> {
    pub(super) fn lose_commits(&mut self, postgres: &Postgres, fault: Fault, pause: While) {
        thread::scope(|scope| {
            // It ends with the server.
            scope.spawn(|| {
                let sql = "BEGIN; INSERT INTO hits VALUES (1); SELECT pg_sleep(600); COMMIT";
                postgres.elsewhere.try_sql(sql)
            });
            let database = &postgres.database;
            let name = database.name();
            database.sql(&format!(
                "ALTER DATABASE {name} SET synchronous_commit = off"
            ));
            let writers = database.sql(WRITERS);
            let tell = |what| writers.lines().for_each(|pid| signal(what, pid));
            tell(Signal::STOP);
            // Nodes have connections from before.
            database.sql(DISCONNECT_NODES);
            self.rest(pause.short);
            self.go_back(fault, || {
                match fault {
                    Fault::CommitsLostByBackend => {
                        crash_backend(postgres);
                        thread::sleep(SEEN);
                        // They have been told to quit, and do that first.
                        tell(Signal::CONT);
                    }
                    _ => {
                        // Not stopped any more they would write what is to be lost.
                        tell(Signal::KILL);
                        postgres.cluster.kill();
                        postgres.cluster.restart();
                    }
                }
                let reset = format!("ALTER DATABASE {name} RESET synchronous_commit");
                while database.try_sql(&reset).is_err() {
                    thread::sleep(Duration::from_millis(5));
                }
                while database.try_sql(DISCONNECT_NODES).is_err() {}
            });
        });
    }
}

/// The server ends all others, and recovers, without being started again.
fn crash_backend(postgres: &Postgres) {
    let any = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'tier-cache' LIMIT 1";
    let mut pid = postgres.database.sql(any);
    while pid.is_empty() {
        thread::sleep(Duration::from_millis(5));
        pid = postgres.database.sql(any);
    }
    signal(Signal::KILL, &pid);
}
