//! What the service prints for whoever started it.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tower_session::tier_cache::{TierState, without_password};
use tower_session::{TierConfig, Tiers};

use crate::Failure;
use crate::accounts::{DEMO_PASSWORD, DEMO_USERS};
use crate::api::Data;

/// What is to be said that the tiers do not know themselves.
#[derive(Debug)]
pub(crate) struct Banner {
    pub(crate) address: SocketAddr,
    /// Where metrics and the state of the tiers are.
    pub(crate) operations: SocketAddr,
    /// Where the root key is from.
    pub(crate) key: String,
    pub(crate) private_redis: bool,
    /// Why there is no private Redis although one was wanted.
    pub(crate) no_private_redis: Option<String>,
}

/// Prints a line. That nobody reads it any more (`webapp | head`) is no reason to end.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says in one line why the service does not run.
pub(crate) fn failure(failure: &Failure) {
    let text = failure.to_string();
    let line: Vec<&str> = text.split_whitespace().collect();
    eprintln!("webapp: {}", line.join(" "));
}

impl Banner {
    pub(crate) fn print(&self, tiers: &Tiers<Data>) {
        let warm = tiers.health().warm;
        let users = DEMO_USERS.join(" and ");
        say(format_args!("tiers: {}", self.tiers(tiers.config(), warm)));
        say(format_args!(
            "session key: from {}{}",
            self.key,
            self.about_key()
        ));
        say(format_args!(
            "users: {users}, each with the password {DEMO_PASSWORD:?} until it is changed"
        ));
        if !self.address.ip().is_loopback() {
            say(
                "warning: others can reach this over plain HTTP, and the demo users' password is \
                 no secret",
            );
        }
        say(format_args!(
            "operations: http://{0}/metrics and http://{0}/readyz",
            self.operations
        ));
        let base = base(self.address);
        say(format_args!(
            "listening on {base}, Ctrl-C stops; the page is there, or try"
        ));
        for line in curl(self.address, &base) {
            say(format_args!("  {line}"));
        }
    }

    /// Which tiers are on, and how to get the others: one line.
    fn tiers(&self, config: &TierConfig, health: TierState) -> String {
        let warm = match (&config.warm.url, &self.no_private_redis) {
            (Some(_), _) if self.private_redis => {
                "a private redis-server (--redis URL names one to share)".into()
            }
            (Some(url), _) => {
                let state = match health {
                    TierState::Up => "",
                    _ => " (not reached yet; used as soon as it is)",
                };
                format!("{}{state}", without_password(url))
            }
            (None, Some(reason)) => {
                format!("none: {reason} (install it, or name one by --redis URL)")
            }
            (None, None) => "none (leave out --no-redis, or name one by --redis URL)".into(),
        };
        let url = &config.cold.url;
        let cold = match url.strip_prefix("sqlite://") {
            Some(path) => format!("SQLite {path} (--database postgres://… for PostgreSQL)"),
            None => format!("PostgreSQL {}", without_password(url)),
        };
        let hot = config.hot.capacity;
        format!("hot: {hot} in the process; warm: {warm}; cold: {cold}")
    }

    /// That a key nobody chose is a demo's choice.
    fn about_key(&self) -> &'static str {
        match self.key.as_str() {
            "SESSION_KEY" => "",
            _ => ", good for a demo; SESSION_KEY sets another, the same on all instances",
        }
    }
}

/// The URL to show. Over plain HTTP clients take the session cookie from `localhost` alone.
fn base(address: SocketAddr) -> String {
    match is_localhost(address.ip()) {
        true => format!("http://localhost:{}", address.port()),
        false => format!("http://{address}"),
    }
}

fn is_localhost(ip: IpAddr) -> bool {
    ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified()
}

/// Three lines that log in, ask who that is, and list the sessions.
fn curl(address: SocketAddr, base: &str) -> [String; 3] {
    let login = format!(
        r#"-H 'content-type: application/json' -d '{{"username":"{}","password":"{DEMO_PASSWORD}"%}}' {base}/login"#,
        DEMO_USERS[0]
    );
    let with_tokens = login.replace('%', r#","tokens":true"#);
    let login = login.replace('%', "");
    if is_localhost(address.ip()) {
        [
            format!(r"curl -w '\n' -c cookies.txt {login}"),
            format!(r"curl -w '\n' -b cookies.txt {base}/me"),
            format!(r"curl -w '\n' -b cookies.txt {base}/sessions"),
        ]
    } else {
        // No cookie there, so the token is shown by hand.
        [
            format!(
                r#"TOKEN=$(curl -s {with_tokens} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#
            ),
            format!(r#"curl -w '\n' -H "Authorization: Bearer $TOKEN" {base}/me"#),
            format!(r#"curl -w '\n' -H "Authorization: Bearer $TOKEN" {base}/sessions"#),
        ]
    }
}
