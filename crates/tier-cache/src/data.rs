//! The application's own data: JSON in the tiers outside the process, typed inside.

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_core::{Body, DataError, Record};

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
    if text.len() as u64 > allowed {
        return Err(Error::DataTooLarge {
            size: text.len(),
            allowed,
        });
    }
    Ok(text.into())
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
            device: self.device,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
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
