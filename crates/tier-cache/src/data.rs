//! The application's own data: JSON in the tiers outside the process, typed inside.

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_core::{Body, DataError, Device, Record};

use crate::cold::{RawBody, Row};
use crate::error::Error;

/// What an application may keep in a session.
///
/// A session that was made without data reads as the default.
///
/// # Data of another release
///
/// Sessions outlive a deploy, and during one both releases read what the other writes. Data is
/// migrated where it is read: by the type's own `Deserialize`, whichever tier it comes from. Nothing
/// is written by that; the new form is stored by the next [`update`](crate::Session::update).
///
/// **New and forgotten fields** need `#[serde(default)]`, and no `deny_unknown_fields`, at every
/// depth:
///
/// ```
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// #[derive(Default)]
/// #[serde(default)]
/// struct Basket {
///     items: Vec<String>,
/// }
/// # fn is_data<D: tier_cache::SessionData>() {}
/// # is_data::<Basket>();
/// ```
///
/// **Another form** is read by a type that knows all of them, the newest first. What is none of them
/// becomes the default here, rather than an error:
///
/// ```
/// use serde::{Deserialize, Serialize, de::IgnoredAny};
///
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// #[serde(from = "Stored")]
/// struct Basket {
///     lines: Vec<Line>,
/// }
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Line {
///     name: String,
///     #[serde(default)]
///     count: u32,
/// }
///
/// /// As releases have stored it.
/// #[derive(Deserialize)]
/// #[serde(untagged)]
/// enum Stored {
///     Lines { lines: Vec<Line> },
///     /// Until release 4.
///     Names(Vec<String>),
///     Unknown(IgnoredAny),
/// }
///
/// impl From<Stored> for Basket {
///     fn from(stored: Stored) -> Self {
///         let lines = match stored {
///             Stored::Lines { lines } => lines,
///             Stored::Names(names) => {
///                 let line = |name| Line { name, count: 1 };
///                 names.into_iter().map(line).collect()
///             }
///             Stored::Unknown(_) => Vec::new(),
///         };
///         Self { lines }
///     }
/// }
///
/// # fn is_data<D: tier_cache::SessionData>() {}
/// # is_data::<Basket>();
/// let old: Basket = serde_json::from_str(r#"["tea"]"#)?;
/// let new: Basket = serde_json::from_str(r#"{"lines":[{"name":"tea","count":1}]}"#)?;
/// assert_eq!(old, new);
/// assert_eq!(serde_json::from_str::<Basket>("5")?, Basket::default());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Deploy in two steps where both forms are in use at once: first a release that reads both and
/// writes the old one, then one that writes the new one.
///
/// **What does not read** is an error to the handler that asks for it
/// ([`Body::data`]), and no logout. [`update`](crate::Session::update) fails too, so that nothing is
/// lost by mistake. [`replace_data`](crate::Session::replace_data) stores over it, and
/// [`Login::rewrite_data`](crate::Login::rewrite_data) leaves it behind at a login.
pub trait SessionData:
    Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static
{
}

impl<D: Serialize + DeserializeOwned + Default + Clone + Send + Sync + 'static> SessionData for D {}

/// Data as it is stored.
///
/// # Errors
///
/// [`Error::Unwritable`] and [`Error::DataTooLarge`].
pub(crate) fn write<D: SessionData>(data: &D, allowed: u64) -> Result<Box<str>, Error> {
    let text = serde_json::to_string(data).map_err(|error| Error::Unwritable(error.into()))?;
    if has_nul(&text) {
        let error = "it holds the character U+0000, which PostgreSQL's JSON cannot";
        let error: serde_json::Error = serde::ser::Error::custom(error);
        return Err(Error::Unwritable(error.into()));
    }
    if text.len() as u64 > allowed {
        return Err(Error::DataTooLarge {
            size: text.len(),
            allowed,
        });
    }
    Ok(text.into())
}

/// Whether JSON text holds U+0000, which is always escaped there.
fn has_nul(text: &str) -> bool {
    text.match_indices("\\u0000").any(|(at, _)| {
        let before = text[..at].bytes().rev();
        // An even number of backslashes before it are backslashes themselves.
        before.take_while(|&byte| byte == b'\\').count() % 2 == 0
    })
}

/// Stored data as the application's type.
pub(crate) fn read<D: SessionData>(text: &str) -> Result<D, DataError> {
    if text == "null" {
        return Ok(D::default());
    }
    serde_json::from_str(text).map_err(|error| DataError {
        // Not the error's own text, which quotes what it found.
        at: format!(
            "{:?} error at line {}, column {}",
            error.classify(),
            error.line(),
            error.column()
        )
        .into(),
    })
}

impl RawBody {
    pub(crate) fn read<D: SessionData>(self) -> Body<D> {
        Body {
            data: read(&self.data),
            device: (self.device != Device::default()).then(|| Box::new(self.device)),
            created_at: self.created_at,
        }
    }
}

impl Row {
    /// The row as the hot tier holds it.
    pub(crate) fn read<D: SessionData>(self) -> Record<D> {
        Record {
            head: self.head,
            body: Some(self.body.read()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_0000_is_refused_and_what_only_looks_like_it_is_not() {
        for refused in ["\0", "a\0b", "\\\0"] {
            let error = write(&refused.to_owned(), 100).unwrap_err();
            assert!(
                matches!(error, Error::Unwritable(_)),
                "{refused:?}: {error}"
            );
        }
        for written in ["\\u0000", "\\\\u0000", "u0000", "\u{1}"] {
            let text = write(&written.to_owned(), 100).unwrap();
            assert_eq!(read::<String>(&text).unwrap(), written);
        }
    }
}
