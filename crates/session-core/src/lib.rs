//! The domain of tiered sessions, with no I/O.
//!
//! A session has two parts, as an HTTP message has: the [`Head`] is what authentication needs,
//! small and of bounded size; the [`Body`] is the rest, with the application's own typed data.
//! Each carries the [`Version`] that the database gave it and the [`Mark`] up to which it is
//! complete; a cache decides by these two whether a record may still be served.
//!
//! ```
//! use session_core::{SessionId, Token, TokenKeys, TokenKind};
//!
//! let keys = TokenKeys::random();
//! let id = SessionId::random();
//! let token = keys.mint(TokenKind::Access, id);
//!
//! // What the client holds is parsed, then checked by its MAC before any tier is asked.
//! let parsed = Token::parse(token.expose().as_str()).unwrap();
//! assert!(keys.verify(&parsed));
//! assert_eq!(parsed.id(), id);
//!
//! // What is stored is only a keyed hash of its secret.
//! assert_eq!(keys.hash(&parsed), keys.hash(&token));
//! assert!(!TokenKeys::random().verify(&parsed));
//! ```

mod fingerprint;
mod foreign;
mod id;
mod key;
mod keys;
mod record;
mod secret_key;
mod strength;
mod time;
mod token;
mod version;

pub use fingerprint::{Fingerprint, Fingerprints, Stem, WrittenToken};
pub use foreign::{ForeignToken, Unnamed};
pub use id::{SessionId, UserId};
pub use key::{Key, KeyHash};
pub use keys::{Salt, SharedMacKey, Signed, TokenKeys};
pub use record::{Body, DataError, Device, Head, Record, Standing, User};
pub use secret_key::{SecretKey, TooShort};
pub use time::Timestamp;
pub use token::{MalformedToken, Token, TokenKind};
pub use version::{Lineage, Mark, Version};
