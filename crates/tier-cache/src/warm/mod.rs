//! The warm tier: heads, or whole sessions, in Redis.
//!
//! Redis makes us fast; it is never what makes us right. Nothing here is trusted beyond what its
//! seal vouches for, whatever fails is a miss, and while Redis is known to be down nothing waits
//! for it.
//!
//! # Keys
//!
//! | key | holds |
//! |---|---|
//! | `{prefix}:{id}` | the session, or the tombstone of a revoked one |
//! | `{prefix}:l:{id}`, `{prefix}:l:{hash}` | that a node is loading it: see `lease.rs` |
//! | `{prefix}:f:{hash}` | a complete copy, for each foreign key that leads to the session |
//!
//! Id and hash are written in 22 characters of base64url. A lookup is one `GET`; a script sets one
//! key, so that all of this may stand behind a proxy of a Redis Cluster. Changes are told on the
//! channel `{prefix}:changes`. In a namespace the prefix is `{prefix}:{namespace}`.
//!
//! # Permissions
//!
//! The least that an ACL user needs, for the prefix `session`:
//!
//! ```text
//! ACL SETUSER app on >password resetkeys ~session:* resetchannels &session:changes
//!     -@all +get +getrange +set +eval +evalsha +publish +subscribe +ping
//! ```
//!
//! `+select` too where the URL names a database other than 0; `+dbsize +info` for the gauges of
//! the tier's size, which are left out otherwise. [`Tiers::inspect`](crate::Tiers::inspect) and
//! [`Tiers::stats`](crate::Tiers::stats) show more with `+pttl +scan +pubsub|numsub`.
//!
//! # TLS
//!
//! A `rediss://` URL is spoken with rustls and its ring provider, whatever provider the process
//! has installed, or none. The server must show a certificate for the host in the URL by an
//! authority of the system, or by one in `warm.ca_file`.

mod content;
mod finding;
mod ttl;

#[cfg(feature = "redis")]
mod broken;
#[cfg(feature = "redis")]
mod get;
#[cfg(feature = "redis")]
mod health;
#[cfg(feature = "redis")]
mod inspect;
#[cfg(feature = "redis")]
mod lease;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod record;
#[cfg(feature = "redis")]
mod stats;
#[cfg(all(test, feature = "redis"))]
mod tests;
#[cfg(feature = "redis")]
mod tier;

#[cfg(not(feature = "redis"))]
mod absent;

#[cfg(not(feature = "redis"))]
pub(crate) use self::absent::Warm;
pub(crate) use self::content::WarmRecord;
pub use self::finding::{Unreadable, WarmFound, WarmKind, WarmPlace, WarmStats};
#[cfg(all(feature = "test-hooks", feature = "redis"))]
pub(crate) use self::record::{Place, decode, encode, seal};
#[cfg(feature = "redis")]
pub(crate) use self::record::{ordered, unordered};
#[cfg(feature = "redis")]
pub(crate) use self::tier::Warm;
pub(crate) use self::ttl::{ExpiryHint, RecordTtl};
