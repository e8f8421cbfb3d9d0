//! The application's own data in a session, typed.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tower_session::{CookieChange, Error};

use super::error::{ApiError, Given};
use super::guest::{self, Visitor};
use super::{Api, device};

/// What this application keeps in each session.
///
/// What is stored reads leniently: an older release wrote it, or during a deploy a newer one. What
/// a client sends reads strictly, as [`Draft`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    Ok(Json(body.data().map_err(Error::from)?.clone()))
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
        session.update(|stored| stored.clone_from(&data)).await?;
        return Ok((None, Json(data)));
    }
    let issued = guest::begin(api.tiers(), device, data.clone()).await?;
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
