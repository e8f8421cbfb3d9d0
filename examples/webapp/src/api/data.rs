//! The application's own data in a session, typed.

use axum::Json;
use axum::extract::State;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_session::CookieChange;

use super::error::{ApiError, Given};
use super::guest::{self, Visitor};
use super::{Api, device};

/// What this application keeps in each session.
///
/// What is stored reads leniently at every depth: an older release wrote it, or during a deploy a
/// newer one, or an operator by hand. A part that does not read takes its default; the rest stays.
/// What a client sends reads strictly, as [`Draft`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Data {
    theme: Theme,
    note: String,
    basket: Vec<Item>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    name: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

impl From<Value> for Data {
    fn from(stored: Value) -> Self {
        let items = stored.get("basket").and_then(Value::as_array);
        Self {
            theme: part(&stored, "theme").unwrap_or_default(),
            note: part(&stored, "note").unwrap_or_default(),
            basket: items
                .into_iter()
                .flatten()
                .filter_map(Item::stored)
                .collect(),
        }
    }
}

impl Item {
    /// One without a name is none.
    fn stored(item: &Value) -> Option<Self> {
        Some(Self {
            name: part(item, "name")?,
            count: part(item, "count").unwrap_or_else(one),
        })
    }
}

/// A part of what is stored, if it is there and reads.
fn part<T: DeserializeOwned>(of: &Value, name: &str) -> Option<T> {
    T::deserialize(of.get(name)?).ok()
}

/// [`Data`] as a client sends it; what it leaves out takes its default.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Draft {
    theme: Theme,
    note: String,
    basket: Vec<Item>,
}

/// `GET /data`: of who has no session, nothing is kept yet.
pub(crate) async fn read(Visitor(session): Visitor) -> Result<Json<Data>, ApiError> {
    let Some(session) = session else {
        return Ok(Json(Data::default()));
    };
    let body = session.body().await?;
    let data = body.data().cloned().unwrap_or_else(|error| {
        tracing::warn!(%error, session = %session.id(), "stored data does not read");
        Data::default()
    });
    Ok(Json(data))
}

/// `PUT /data`: replaces all of it, and answers with what is stored now. Who has no session gets a
/// guest's.
pub(crate) async fn write(
    State(api): State<Api>,
    Visitor(session): Visitor,
    device::From(device): device::From,
    Given(draft): Given<Draft>,
) -> Result<(Option<CookieChange>, Json<Data>), ApiError> {
    let data = draft.checked()?;
    if let Some(session) = session {
        session.replace_data(data.clone()).await?;
        return Ok((None, Json(data)));
    }
    let issued = guest::begin(&api, device, data.clone()).await?;
    Ok((Some(CookieChange::set(&issued)), Json(data)))
}

impl Draft {
    fn checked(self) -> Result<Data, ApiError> {
        // PostgreSQL's JSON cannot hold it.
        let names = self.basket.iter().map(|item| &item.name);
        if names.chain([&self.note]).any(|text| text.contains('\0')) {
            return Err(ApiError::unprocessable(
                "the data must not hold the character U+0000",
            ));
        }
        Ok(Data {
            theme: self.theme,
            note: self.note,
            basket: self.basket,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_stored_reads_leniently_at_every_depth() {
        let item = |name: &str, count| Item {
            name: name.into(),
            count,
        };
        let whole = Data {
            theme: Theme::Dark,
            note: "n".into(),
            basket: vec![item("x", 2)],
        };
        let with = |change: &dyn Fn(&mut Data)| {
            let mut data = whole.clone();
            change(&mut data);
            data
        };
        let x = json!({ "name": "x", "count": 2 });
        for (stored, expected) in [
            (
                json!({ "theme": "dark", "note": "n", "basket": [x], "colour": { "a": 1 } }),
                whole.clone(),
            ),
            (
                json!({ "theme": "dark", "note": "n", "basket": [{ "name": "x", "count": 2, "unit": "kg" }] }),
                whole.clone(),
            ),
            (
                json!({ "theme": "purple", "note": "n", "basket": [x] }),
                with(&|data| data.theme = Theme::System),
            ),
            (
                json!({ "theme": ["dark"], "note": 5, "basket": [x] }),
                with(&|data| (data.theme, data.note) = Default::default()),
            ),
            (
                json!({ "theme": "dark", "note": "n", "basket": { "x": 2 } }),
                with(&|data| data.basket.clear()),
            ),
            (
                json!({ "theme": "dark", "note": "n", "basket": [5, null, { "count": 3 }, x, { "name": "y", "count": "many" }, { "name": 1 }] }),
                with(&|data| data.basket.push(item("y", 1))),
            ),
            (json!({ "theme": null }), Data::default()),
            (json!("text"), Data::default()),
            (json!([1]), Data::default()),
            (json!(null), Data::default()),
        ] {
            let read = serde_json::from_value::<Data>(stored.clone()).unwrap();
            assert_eq!(read, expected, "{stored}");
        }
    }
}
