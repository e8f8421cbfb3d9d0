//! The cold tier: the truth, in SQL.
//!
//! [`ColdStore`] is what the tiers ask of it. `PostgresStore` and `SqliteStore` are the bundled
//! ones; an application with tables of its own implements the trait.

mod cursor;
mod existing;
#[cfg(feature = "diesel")]
mod migrations;
#[cfg(feature = "diesel")]
mod stats;
mod store;

#[cfg(feature = "diesel")]
mod queries;
#[cfg(feature = "diesel")]
mod schema;
#[cfg(feature = "diesel")]
mod sql;
#[cfg(feature = "diesel")]
mod types;

#[cfg(feature = "sqlite")]
mod file;
#[cfg(feature = "postgres")]
mod listen;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod replica;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "postgres")]
mod target;

pub use cursor::{Cursor, MalformedCursor};
pub use existing::existing;
pub(crate) use existing::to_serve;
#[cfg(feature = "diesel")]
pub use migrations::{all_migrations, migrate, pending_migrations};
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use store::{
    Change, Changed, Changes, ColdStore, Created, Limit, NewSession, Pruned, RawBody, Retention,
    Rotation, Row, Scope, StoreStats, WhenFull,
};

// What the trait speaks of, so that an implementation needs this crate alone.
pub use session_core::{Key, Lineage, Mark, Salt, SessionId, Timestamp, UserId, Version};
