//! Dumps that are restored into the database, under running nodes and clients.

use testbed::Error;

use super::Fault;
use super::strike::{Strikes, While};
use crate::cold::Postgres;

/// What clients do meanwhile is in the way of a restore now and then.
const TRIES: usize = 10;

/// Without the migrations' own table, which the target has, and the marker of crashes.
const DATA_OF_SESSIONS: [&str; 5] = [
    "--data-only",
    "--table=users",
    "--table=sessions",
    "--table=session_users",
    "--table=session_tombstones",
];

impl Strikes<'_> {
    pub(super) fn restore(&mut self, postgres: &Postgres, fault: Fault, pause: While) {
        let dump = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = dump.path().to_str().expect("its path is UTF-8");
        let args = ["--format=custom", "--file", path];
        postgres.database.run("pg_dump", &args);
        self.rest(pause.either);
        self.go_back(fault, || {
            let mut tries = (1..=TRIES).map(|_| restore(postgres, fault, path));
            if !tries.any(|tried| tried.is_ok()) {
                let error = restore(postgres, fault, path);
                error.unwrap_or_else(|error| panic!("{fault}: {error}"));
            }
        });
    }
}

/// As an operator does it.
fn restore(postgres: &Postgres, fault: Fault, path: &str) -> Result<(), Error> {
    let database = &postgres.database;
    let tables = "users, sessions, session_users, session_tombstones";
    let args: Vec<&str> = match fault {
        Fault::RestoredIntoEmptied => {
            database.try_sql(&format!("TRUNCATE {tables}, session_history"))?;
            [&DATA_OF_SESSIONS[..], &["--table=session_history"]].concat()
        }
        Fault::RestoredWithoutTriggers => {
            // A row that names the lineage is there again as soon as a node looks.
            database.try_sql(&format!("TRUNCATE {tables}"))?;
            [&DATA_OF_SESSIONS[..], &["--disable-triggers"]].concat()
        }
        Fault::RestoredAtOnce => vec!["--clean", "--if-exists", "--single-transaction"],
        _ => vec!["--clean", "--if-exists"],
    };
    database
        .try_run("pg_restore", &[&args[..], &[path]].concat())
        .map(drop)
}
