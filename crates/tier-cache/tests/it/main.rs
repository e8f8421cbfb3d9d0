//! The tiers against real servers: PostgreSQL, SQLite and Redis, each test with its own.

mod audit;
mod cold;
mod config;
mod counting;
mod fence;
mod freshness;
mod leaks;
mod life;
mod limits;
mod metrics;
mod namespaces;
mod notify;
mod outage;
mod promotion;
mod pruning;
mod races;
mod refresh;
mod replicas;
mod restores;
mod revoking;
mod rotation;
mod slow;
mod storms;
mod support;
mod triggers;
mod warm_up;
