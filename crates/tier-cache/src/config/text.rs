//! Durations and sizes as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serializer};

pub(super) mod duration {
    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Written)
    }

    struct Written;

    impl de::Visitor<'_> for Written {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration, written like \"500ms\", \"15m\" or \"7d\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            let bad = |_| E::invalid_value(Unexpected::Str(text), &self);
            humantime::parse_duration(text).map_err(bad)
        }
    }
}

/// A duration, or none: left out, or for the environment's sake empty.
pub(super) mod optional_duration {
    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, serializer),
            // TOML has no other word for it.
            None => serializer.serialize_str(""),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) if !text.is_empty() => {
                duration::deserialize(de::value::StringDeserializer::<D::Error>::new(text))
                    .map(Some)
            }
            _ => Ok(None),
        }
    }
}

pub(super) mod size {
    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &ByteSize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", value.as_u64()))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ByteSize, D::Error> {
        deserializer.deserialize_any(Written)
    }

    /// A number alone is bytes: the environment knows no other way to say it.
    struct Written;

    impl de::Visitor<'_> for Written {
        type Value = ByteSize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size, written like \"512KiB\" or \"64MiB\"")
        }

        fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
            Ok(ByteSize::b(bytes))
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
            let negative = |_| E::invalid_value(Unexpected::Signed(bytes), &self);
            u64::try_from(bytes).map(ByteSize::b).map_err(negative)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
            let bad = |_| E::invalid_value(Unexpected::Str(text), &self);
            ByteSize::from_str(text).map_err(bad)
        }
    }
}
