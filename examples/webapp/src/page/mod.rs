//! The page for people: static files, so that the policy can forbid scripts in the page.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::routing::{MethodRouter, get};

use crate::api::Api;

/// Only our own files, no other site's, and nobody may put the page into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/", file("text/html", include_str!("index.html")))
        .route("/page.css", file("text/css", include_str!("page.css")))
        .route("/page.js", script(include_str!("page.js")))
        .route("/ask.js", script(include_str!("ask.js")))
        .route("/basket.js", script(include_str!("basket.js")))
        .route("/devices.js", script(include_str!("devices.js")))
        .route("/activity.js", script(include_str!("activity.js")))
        .route("/icon.svg", file("image/svg+xml", include_str!("icon.svg")))
}

fn script(content: &'static str) -> MethodRouter<Api> {
    file("text/javascript", content)
}

fn file(kind: &'static str, content: &'static str) -> MethodRouter<Api> {
    get(move || async move {
        let headers = [
            (CONTENT_TYPE, format!("{kind}; charset=utf-8")),
            (CACHE_CONTROL, "no-cache".into()),
            (CONTENT_SECURITY_POLICY, POLICY.into()),
        ];
        (headers, content)
    })
}
