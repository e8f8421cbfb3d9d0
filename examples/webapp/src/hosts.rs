//! By which names this service may be called.
//!
//! A page of another site can have its own name lead to this address (DNS rebinding), and then asks
//! as if it were ours. Its requests tell that name.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::api::error::ApiError;

/// The names that are allowed, in lower case; an address always is, since no name leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Hosts(Arc<[Box<str>]>);

impl Hosts {
    pub(crate) fn new(allowed: &[String]) -> Self {
        let allowed = allowed
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty());
        let names = allowed.chain(["localhost"]);
        Self(names.map(|name| name.to_ascii_lowercase().into()).collect())
    }

    /// Whether a request may name this host, with or without a port.
    fn allows(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else {
            return false;
        };
        // Neither a user before the name nor anything but a port behind it.
        let port = authority.as_str().strip_prefix(authority.host());
        if !port.is_some_and(|port| port.is_empty() || port.starts_with(':')) {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let v6 = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        host.parse::<IpAddr>().is_ok()
            || v6.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            || self.0.iter().any(|name| **name == *host)
    }
}

/// Refuses requests for other hosts, and those that name none or several.
pub(crate) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let mut named = request.headers().get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    // An absolute URI goes before the header (RFC 9112 §3.2.2).
    let uri = request.uri().authority().map(Authority::as_str);
    let allowed = |name: &str| hosts.allows(name);
    if host.is_some_and(allowed) && uri.is_none_or(allowed) {
        return next.run(request).await;
    }
    ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "this service does not go by this name: ask it by another, or start it with --allow-host",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_allowed_by_list_and_addresses_always() {
        let hosts = Hosts::new(&["Example.com".into(), String::new()]);
        for allowed in [
            "localhost",
            "LOCALHOST:3000",
            "127.0.0.1:80",
            "[::1]:80",
            "[2001:db8::1]",
            "example.com",
            "example.com.:443",
        ] {
            assert!(hosts.allows(allowed), "{allowed}");
        }
        for refused in [
            "",
            "evil.example",
            "example.com.evil.example",
            "sub.example.com",
            "localhost@evil.example",
            "evil.example@localhost",
            "[::1].evil.example",
            "127.0.0.1.evil.example",
            "a b",
        ] {
            assert!(!hosts.allows(refused), "{refused}");
        }
    }
}
