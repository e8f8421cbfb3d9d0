//! The command itself, against private servers.
//!
//! `cargo run -q -p testbed -- cargo test -p sessions-cli` runs these beside a PostgreSQL.

mod backups;
mod inspect;
mod invalidate_caches;
mod list;
mod migrate;
mod revoke;
mod stats;
mod support;
mod usage;
mod warm_up;
