//! What happened to one's own sessions.

use axum::Json;
use axum::extract::State;
use tower_session::CurrentUser;

use super::{Api, Data};
use crate::activity::Recent;

/// `GET /activity`
pub(crate) async fn list(State(api): State<Api>, user: CurrentUser<Data>) -> Json<Recent> {
    Json(api.activity().recent(user.id))
}
