//! The service as its users have it: the program itself, over HTTP.
//!
//! `cargo run -q -p testbed -- cargo test -p webapp` runs these beside a PostgreSQL.

mod activity;
mod devices;
mod errors;
mod guests;
mod http;
mod instances;
mod life;
mod migrations;
mod outage_log;
mod passwords;
mod redis;
mod root_keys;
mod routes;
mod safety;
mod shutdown;
mod support;
