//! The tiers against real servers: PostgreSQL, SQLite and Redis, each test with its own.

mod audit;
mod cancellation;
mod cold;
mod config;
mod counting;
mod existing;
mod fence;
mod freshness;
mod histories;
mod inspect;
mod leaks;
mod life;
mod limits;
mod metrics;
mod namespaces;
mod notify;
mod outage;
mod pipelines;
mod plans;
mod promotion;
mod pruning;
mod races;
mod refresh;
mod renewal;
mod replicas;

mod revoking;
mod rotation;
mod slow;
mod stats;
mod storms;
mod support;
mod triggers;
mod warm_up;
