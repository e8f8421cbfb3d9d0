//! The fault suite: each thing that goes wrong, at real servers, while clients go on through the
//! layer; and what is expected of it.
//!
//! | file | says |
//! |---|---|
//! | `redis.rs`, `database.rs`, `both.rs`, `node.rs` | what goes wrong, one test each: the rows |
//! | `row.rs` | what every row has: a beginning, rounds of requests, an end |
//! | `without_redis.rs`, `without_database.rs` | what is expected meanwhile, and afterwards |
//! | `bed.rs` | the servers and the two nodes of a row |
//! | `service.rs` | the service behind the layer |
//! | `clients.rs` | the clients, and what each may be told |
//! | `journal.rs` | what they saw |
//! | `imposter.rs` | a server that is no Redis |
//! | `documented.rs` | that each row is in `docs/failures.md` |
//!
//! Counts are asserted, and what was promised; never that something is quick. Each row prints a line
//! for the tables in `docs/failures.md`:
//!
//! ```console
//! $ cargo run -p testbed -- cargo test -p tower-session --test faults -- --nocapture
//! ```

mod bed;
mod both;
mod clients;
mod database;
mod documented;
mod imposter;
mod journal;
mod node;
mod redis;
mod row;
mod service;
mod without_database;
mod without_redis;
