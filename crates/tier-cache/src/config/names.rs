//! The names of all options, and the nearest one to a misspelt name.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::sections::{ColdConfig, FenceConfig, HotConfig, SessionConfig, WarmConfig};

/// A section and its keys.
pub(super) type Section = (&'static str, &'static [&'static str]);

/// Every section with every key in it.
pub(super) fn sections() -> [Section; 5] {
    [
        ("session", keys::<SessionConfig>()),
        ("hot", keys::<HotConfig>()),
        ("warm", keys::<WarmConfig>()),
        ("cold", keys::<ColdConfig>()),
        ("fence", keys::<FenceConfig>()),
    ]
}

/// The name that was probably meant: the nearest, if it is near enough.
pub(super) fn nearest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let distance = |other: &&str| strsim::osa_distance(&name, other);
    let nearest = among.into_iter().min_by_key(distance)?;
    (distance(&nearest) <= edits(nearest)).then_some(nearest)
}

/// How many edits away a name may be that means this one. Of a short name two would be half of it.
pub(super) fn edits(name: &str) -> usize {
    if name.len() < 8 { 1 } else { 2 }
}

/// The keys of a section, as serde knows them.
fn keys<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys: &[&str] = &[];
    // It asks for a struct of these fields, and gets none.
    let _ = T::deserialize(Fields(&mut keys));
    keys
}

/// Notes the fields of the struct that it is asked for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("only the fields are asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("a section is a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
