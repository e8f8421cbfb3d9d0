use std::env;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::OrFail;
use crate::{Error, SHARED_CLUSTER, programs};

/// Between the columns and the rows of `psql`'s answers: no text in PostgreSQL holds it.
const SEPARATOR: char = '\0';

/// A database of its own for a test, dropped with the value even while clients are connected.
#[derive(Debug)]
pub struct Database {
    name: String,
    address: Address,
}

/// A statement that clients sent to a [`Database`], with its constants replaced by `$1`, `$2`…
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its text.
    pub query: String,
    /// How often it was executed.
    pub calls: u64,
}

/// Where a cluster is, by the addresses of its database `postgres`.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// For us: the unix socket, where everybody is trusted.
    pub(crate) control: String,
    /// For the code under test.
    pub(crate) client: String,
}

impl Database {
    /// Makes a database in the shared cluster, which the environment variable `TESTBED_POSTGRES`
    /// names.
    ///
    /// # Panics
    ///
    /// When there is no shared cluster, or it refuses.
    #[track_caller]
    pub fn create() -> Self {
        let Ok(url) = env::var(SHARED_CLUSTER) else {
            panic!(
                "no shared PostgreSQL ({SHARED_CLUSTER} is unset): run scripts/test, or \
                 `cargo run -p testbed -- cargo test …`"
            );
        };
        Self::create_at(Address {
            control: url.clone(),
            client: url,
        })
        .or_fail()
    }

    pub(crate) fn create_at(address: Address) -> Result<Self, Error> {
        let name = unique_name();
        address.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(Self { name, address })
    }

    /// The address for clients: `postgres://postgres@/test_…?host=…`, or the one on TCP of a
    /// cluster that has it.
    pub fn url(&self) -> String {
        at_database(&self.address.client, &self.name)
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements by `psql` as the superuser, each in a transaction of its own, and returns
    /// what they answer: a line for each row, with `|` between its columns.
    ///
    /// # Panics
    ///
    /// At the first statement that fails, with the message of `psql`.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).or_fail()
    }

    /// The same, for a server that may be down.
    ///
    /// # Errors
    ///
    /// At the first statement that fails, with the message of `psql`.
    pub fn try_sql(&self, sql: &str) -> Result<String, Error> {
        self.address.sql(&self.name, sql)
    }

    /// Runs one of PostgreSQL's programs on this database as the superuser, such as `pg_dump`, and returns
    /// what it prints.
    ///
    /// # Panics
    ///
    /// When it fails, with its message.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        self.try_run(program, args).or_fail()
    }

    /// The same, for a program that clients of the database may be in the way of.
    ///
    /// # Errors
    ///
    /// When it fails, with its message.
    pub fn try_run(&self, program: &str, args: &[&str]) -> Result<String, Error> {
        self.address.run(&self.name, program, args)
    }

    /// The statements executed in this database since it was made or
    /// [`reset_statements`](Self::reset_statements) was called, in the order of their text.
    ///
    /// Those that clients sent count, [`sql`](Self::sql) too; those inside functions and triggers
    /// do not. A statement counts at the latest when its transaction ends.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn statements(&self) -> Vec<Statement> {
        // Asked in another database, so that the question does not count.
        let sql = format!(
            "SELECT sum(calls), query FROM pg_stat_statements \
             WHERE toplevel AND dbid = {} GROUP BY query ORDER BY query",
            self.id()
        );
        let answer = self.address.psql("postgres", &["-z", "-0"], &sql).or_fail();
        let mut fields = answer.split_terminator(SEPARATOR);
        let mut statements = Vec::new();
        while let (Some(calls), Some(query)) = (fields.next(), fields.next()) {
            let calls = calls.parse().expect("a sum of counts is a number");
            statements.push(Statement {
                query: query.to_owned(),
                calls,
            });
        }
        statements
    }

    /// Forgets the [`statements`](Self::statements) of this database so far.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn reset_statements(&self) {
        self.address.sql("postgres", &self.reset()).or_fail();
    }

    fn reset(&self) -> String {
        format!("SELECT FROM pg_stat_statements_reset(0, {}, 0);", self.id())
    }

    fn id(&self) -> String {
        format!(
            "(SELECT oid FROM pg_database WHERE datname = '{}')",
            self.name
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("{} DROP DATABASE {} WITH (FORCE)", self.reset(), self.name);
        // A cluster that is gone, or that the test stopped, took the database along.
        let _ = self.address.sql("postgres", &sql);
    }
}

impl Address {
    /// Runs statements in `database` and returns what they answer.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.psql(database, &[], sql)
    }

    fn run(&self, database: &str, program: &str, args: &[&str]) -> Result<String, Error> {
        let mut command = programs::postgres_command(program)?;
        command
            .arg("-d")
            .arg(at_database(&self.control, database))
            .args(args);
        programs::run(&mut command, "")
    }

    fn psql(&self, database: &str, options: &[&str], sql: &str) -> Result<String, Error> {
        let mut psql = programs::postgres_command("psql")?;
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .args(options)
            .arg("-d")
            .arg(at_database(&self.control, database))
            // A paused cluster is an error, not a test that hangs.
            .env("PGCONNECT_TIMEOUT", "10");
        programs::run(&mut psql, sql)
    }
}

/// The address of another database in the same cluster.
pub(crate) fn at_database(url: &str, name: &str) -> String {
    url.replacen("/postgres?", &format!("/{name}?"), 1)
}

/// A name that no other test in the cluster has, whatever process it runs in.
fn unique_name() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("test_{:x}_{:x}_{number}", now.as_nanos(), process::id())
}
