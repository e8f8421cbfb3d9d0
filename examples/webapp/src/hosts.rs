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
            .map(|name| name.strip_suffix('.').unwrap_or(name))
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

/// A name to allow, if a request can call the service by it. None at all is one too: a variable that is
/// set to nothing is as good as unset.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || can_be_named(text) {
        return Ok(text.to_owned());
    }
    if text.contains('*') {
        return Err("no name stands for others: write each one, such as shop.example".into());
    }
    if !text.is_ascii() {
        return Err("browsers send such a name in its ASCII form: write that, xn--…".into());
    }
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = bare.rsplit_once('@').map_or(bare, |(_, host)| host);
    let bare = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
    if can_be_named(bare) {
        return Err(format!(
            "only the name is compared, without scheme, port and path: write {bare}"
        ));
    }
    Err(
        "no request can name such a host: write letters, digits, hyphens and dots, such as \
         shop.example"
            .into(),
    )
}

/// Whether this is a name, or an address, as [`Hosts::allows`] compares it.
fn can_be_named(text: &str) -> bool {
    let v6 = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let name = text.strip_suffix('.').unwrap_or(text);
    v6.unwrap_or(text).parse::<IpAddr>().is_ok()
        || name
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(letter))
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

    #[test]
    fn what_no_request_can_name_is_refused_with_what_to_write() {
        for good in [
            "localhost",
            "Shop.Example",
            " shop.example ",
            "shop.example.",
            "my_host-1",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "::1",
            "[::1]",
        ] {
            let name = name(good).expect(good);
            let hosts = Hosts::new(std::slice::from_ref(&name));
            assert!(good == "::1" || hosts.allows(&name), "{good}");
        }
        assert_eq!(name("").as_deref(), Ok(""));
        for (bad, remedy) in [
            ("http://x.example", "write x.example"),
            ("https://x.example:3000/a?b", "write x.example"),
            ("x.example:3000", "write x.example"),
            ("x.example/", "write x.example"),
            ("ada@x.example", "write x.example"),
            ("[::1]:3000", "write [::1]"),
            ("*", "write each one"),
            ("*.x.example", "write each one"),
            ("bücher.example", "xn--"),
            ("a b", "such as shop.example"),
            ("x..example", "such as shop.example"),
            (".", "such as shop.example"),
            ("http://", "such as shop.example"),
        ] {
            let refused = name(bad).expect_err(bad);
            assert!(refused.contains(remedy), "{bad}: {refused}");
        }
    }
}
