//! Real servers for tests: Redis, PostgreSQL and SQLite, each private, each gone afterwards.
//!
//! A test that needs Redis starts its own, in milliseconds, and may kill or pause it:
//!
//! ```
//! let redis = testbed::Redis::start();
//! let before = redis.calls();
//! redis.cli(&["SET", "greeting", "hello"]);
//! assert_eq!(redis.cli(&["GET", "greeting"]), "hello");
//! let calls = redis.calls_since(&before);
//! assert_eq!((calls["set"], calls["get"], calls.len()), (1, 1, 2));
//!
//! redis.kill();
//! redis.restart();
//! assert_eq!(redis.cli(&["DBSIZE"]), "0");
//! ```
//!
//! A [`Relay`] before a server cuts it off, or leads its clients to another one, as when a
//! [replica](Redis::replica) takes over.
//!
//! A PostgreSQL server takes a second to make, so tests share one, each with a [`Database`] of its
//! own in it. The binary of this package starts the shared one, and `scripts/test` the binary:
//!
//! ```
//! let database = testbed::Database::create();
//! database.sql("CREATE TABLE greetings (text text)");
//! database.reset_statements();
//! database.sql("INSERT INTO greetings VALUES ('hello')");
//! assert_eq!(database.statements()[0].calls, 1);
//! ```
//!
//! A test that stops the database, or needs TLS or a password, starts a [`Cluster`] of its own,
//! and a [`Standby`] of it where a replica is to lag behind or to take over.
//!
//! Nothing outlives its owner. Each value ends its server and removes its folder when dropped; a
//! *keeper* process does so when the test's process dies without dropping it. No server listens on
//! a port unless asked to, so that nothing clashes with what else runs on the machine.
//!
//! Whatever goes wrong in here fails the test: functions panic, with a sentence that says what to do.

mod account;
mod address;
mod database;
mod error;
mod folder;
mod port;
mod postgres;
mod postmaster;
mod processes;
mod programs;
mod redis;
mod relay;
mod server;
mod sqlite;
mod standby;
mod tls;

pub use database::{Database, Statement};
pub use error::Error;
pub use postgres::{Cluster, ClusterBuilder, DataCopy};
pub use processes::forward;
pub use redis::{Redis, RedisBuilder, Snapshot};
pub use relay::{Relay, Target};
pub use sqlite::SqliteFile;
pub use standby::Standby;

/// The environment variable that names the shared cluster to [`Database::create`], by its URL.
pub const SHARED_CLUSTER: &str = "TESTBED_POSTGRES";
