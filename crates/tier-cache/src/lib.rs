//! Tiered sessions: hot in the process, warm in Redis, cold in SQL.
#![allow(dead_code)] // Until the tiers are joined.

mod clock;
pub mod cold;
mod config;
mod error;
mod metrics;
#[cfg(feature = "redis")]
mod push;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;
#[cfg(feature = "redis")]
mod warm;

pub use clock::{Clock, Moment, Now};
pub use config::{
    ColdConfig, ConfigError, FenceConfig, Holds, HotConfig, Promotion, SessionConfig, Strictness,
    TierConfig, WarmConfig, without_password,
};
pub use error::{Error, Refusal, StoreError};
