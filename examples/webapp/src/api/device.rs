//! The device that a session is made on, as its user would recognise it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use tower_session::{Binding, Device, tier_cache};

use super::{Api, Data};

/// The device of a request.
///
/// Its address is the connection's: behind a proxy that is the proxy's. With `--trust-forwarded-for`
/// it is what the proxy has appended to `X-Forwarded-For`; what comes before that, clients make up.
pub(crate) struct From(pub(crate) Device);

impl FromRequestParts<Api> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip());
        let forwarded = api
            .trusts_forwarded_for()
            .then(|| forwarded_for(&parts.headers));
        let agent = user_agent(&parts.headers);
        Ok(Self(Device {
            ip: forwarded.flatten().or(peer).map(|ip| ip.to_canonical()),
            label: agent.as_deref().and_then(label).map(Into::into),
            user_agent: agent.map(Into::into),
        }))
    }
}

/// Demands another login where the browser or its system is not the one of the session's login. An
/// update of the browser changes neither.
pub(crate) fn same_browser(
    session: &tier_cache::Session<Data>,
    headers: &HeaderMap,
    _: &Extensions,
) -> Binding {
    let body = session.body_if_here();
    let known = body
        .as_ref()
        .and_then(|body| body.device().user_agent.as_deref());
    let shown = user_agent(headers);
    if known.and_then(label) == shown.as_deref().and_then(label) {
        Binding::Allow
    } else {
        Binding::Reauthenticate
    }
}

/// The last address of `X-Forwarded-For`: what the proxy next to us has seen.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    let last = last.to_str().ok()?.rsplit(',').next()?.trim();
    let bare = last.trim_start_matches('[').trim_end_matches(']');
    let with_port = || last.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    /// Characters kept of the header: all of an honest one.
    const AGENT_MAX: usize = 256;

    let agent = headers.get(USER_AGENT)?;
    let text = String::from_utf8_lossy(agent.as_bytes());
    Some(text.chars().take(AGENT_MAX).collect())
}

/// "Firefox on Linux", as far as the user agent tells.
fn label(agent: &str) -> Option<String> {
    // Each names the ones after it too, for the sake of servers long gone.
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(part, _)| agent.contains(part));
        found.map(|&(_, name)| name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => Some(format!("{browser} on {system}")),
        (Some(name), None) | (None, Some(name)) => Some(name.into()),
        (None, None) => {
            // "some-client/1.2 (…)" is at least a name.
            let name = agent.split(['/', ' ']).next()?;
            (!name.is_empty()).then(|| name.chars().take(40).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::HeaderMap;

    use super::{forwarded_for, label};

    #[test]
    fn of_several_forwarded_addresses_the_last_is_the_clients() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            forwarded_for(&headers).as_ref().map(IpAddr::to_string)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["nonsense"]), None);
        assert_eq!(of(&["192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(
            of(&["made up, 192.0.2.1 , 192.0.2.2"]).as_deref(),
            Some("192.0.2.2")
        );
        assert_eq!(
            of(&["192.0.2.1", "192.0.2.3:80"]).as_deref(),
            Some("192.0.2.3")
        );
        assert_eq!(of(&["[2001:db8::1]:80"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["[2001:db8::2]"]).as_deref(), Some("2001:db8::2"));
    }

    #[test]
    fn a_label_names_browser_and_system() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                Some("Firefox on Linux"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                Some("Edge on Windows"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                Some("Safari on iPhone"),
            ),
            ("curl/7.88.1", Some("curl")),
            ("some-client/1.2 (what not)", Some("some-client")),
            ("", None),
        ] {
            assert_eq!(label(agent).as_deref(), expected, "{agent}");
        }
    }
}
