//! What separates applications that share one database and one Redis.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use super::ConfigError;
use super::passwords::quotable;

const ALLOWED: &str =
    "a lower-case letter, then up to 39 more, digits or underscores; not `public` nor `pg_…`";

/// The name of one application among several on one database and one Redis: lower-case letters,
/// digits and underscores, of which the first is a letter.
///
/// In PostgreSQL it is a schema, in SQLite a file beside the one that is named, in Redis a part of
/// each key and of the channel; and it goes into the keys of tokens and records, so that even
/// under one secret nothing of one application means anything to another.
///
/// ```
/// use tier_cache::Namespace;
///
/// let shop: Namespace = "shop".parse()?;
/// assert_eq!(shop.as_str(), "shop");
/// assert!("Shop; DROP SCHEMA public".parse::<Namespace>().is_err());
/// # Ok::<(), tier_cache::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// So that the names made of it fit everywhere, and PostgreSQL's 63 bytes first of all.
    const LONGEST: usize = 40;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let usable = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= Self::LONGEST
            && name.chars().all(plain);
        // Schemas that are the server's own, or everybody's.
        let taken = name.starts_with("pg_") || matches!(name, "public" | "information_schema");
        if !usable || taken {
            return Err(ConfigError::range(
                "cold.namespace",
                format_args!("{:?}", quotable(name)),
                ALLOWED,
            ));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.0)
    }
}

impl Serialize for Namespace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A namespace, or none: left out, or for the environment's sake empty.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Namespace>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(name) if !name.is_empty() => {
            let bad = |_| de::Error::invalid_value(Unexpected::Str(&name), &ALLOWED);
            name.parse().map(Some).map_err(bad)
        }
        _ => Ok(None),
    }
}
