//! Tiered sessions: hot in the process (moka), warm in Redis, cold in SQL, behind a fence that
//! keeps revoked ones out.
//!
//! [`Tiers`] is what an application holds; `tower-session` makes a layer of it. A session that is
//! hot is found with no I/O; one that is revoked in the database is refused by every node within
//! `fence.staleness_bound`, whatever Redis does.

mod advice;
mod backoff;
mod circuit;
mod clock;
pub mod cold;
mod config;
mod data;
mod eager_spawn;
mod error;
mod events;
mod feed;
mod fence;
mod health;
mod hot;
mod log_limit;
mod metrics;
mod prune;
#[cfg(feature = "redis")]
mod push;
mod session;
mod single_flight;
mod sync;
#[cfg(all(feature = "test-hooks", feature = "redis"))]
#[doc(hidden)]
pub mod test_hooks;
mod tiers;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;
mod touch;
mod warm;

pub use advice::Advice;
pub use bytesize::ByteSize;
pub use circuit::CircuitState;
pub use clock::{Clock, Moment, Now};
pub use cold::{Scope, WhenFull};
pub use config::{
    ColdConfig, ConfigError, FenceConfig, Holds, HotConfig, Namespace, OnBlind, Promotion,
    SessionConfig, Strictness, TierConfig, WarmConfig, sqlite_in_state_folder, without_password,
    without_passwords,
};
pub use data::SessionData;
pub use error::{Error, Refusal, StoreError};
pub use events::{Event, Reason, Renewal};
pub use fence::{Admission, Gate};
pub use health::{Health, TierState};
pub use log_limit::LogLimit;
pub use session::{BodyRef, Session, Tier};
pub use tiers::{
    Credential, ForeignKeys, Inspection, Issued, Listed, ListedPage, Login, Lookup, PendingLookup,
    Receipt, StartError, Stats, Tiers, TiersBuilder, WarmCopy, WarmUp, WarmedUp,
};
pub use warm::{Unreadable, WarmFound, WarmKind, WarmPlace, WarmStats};
