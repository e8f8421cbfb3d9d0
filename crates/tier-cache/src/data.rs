//! The application's own data: JSON in the tiers outside the process, typed inside.

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_core::{Body, DataError, Device, Record};

use crate::cold::{RawBody, Row};
use crate::error::Error;

/// What an application may keep in a session.
///
/// A session that was made without data reads as the default. Data that an older release of the
/// application wrote still reads if new fields have serde defaults:
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
fn read<D: SessionData>(text: &str) -> Result<D, DataError> {
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
