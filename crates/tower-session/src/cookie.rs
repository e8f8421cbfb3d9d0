use std::borrow::Cow;

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use session_core::{Timestamp, Token};
use tier_cache::Namespace;

/// The cookie that holds an access token.
///
/// `__Host-session; Secure; HttpOnly; SameSite=Lax; Path=/`: sent over TLS only (browsers and
/// curl make an exception for `localhost`), out of reach of scripts, not with other sites'
/// requests but for plain links, and not to be set by a neighbouring host (RFC 6265bis §4.1.3.2;
/// OWASP ASVS 5.0, V3.3). `Max-Age` follows the session's expiry.
///
/// Each method that takes some of this away says what that costs. `HttpOnly` stays in any case:
/// no page needs to read a session's token.
///
/// The name's prefix is the strongest that the attributes allow, so that no combination can be
/// built that browsers refuse: `__Host-`, else `__Secure-`, else none.
///
/// ```
/// use std::time::Duration;
/// use tower_session::{SessionCookie, SessionId, Timestamp, TokenKeys, TokenKind};
///
/// let cookie = SessionCookie::new();
/// let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
/// let now = Timestamp::from_unix_millis(1_800_000_000_000);
/// let header = cookie.set(&token, now + Duration::from_secs(3600), now);
/// let (value, attributes) = header.to_str()?.split_once("; ").unwrap();
/// assert!(value.starts_with("__Host-session=sa1_"));
/// assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=3600");
///
/// // One login for a site and its subdomains.
/// let wide = SessionCookie::new().named("login")?.domain("example.com")?;
/// assert_eq!(wide.name(), "__Secure-login");
/// assert!(wide.clear().to_str()?.contains("Domain=example.com; Max-Age=0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// The name without its prefix.
    base: Cow<'static, str>,
    prefixed: bool,
    /// Always where `partitioned` or `SameSite::None` is.
    secure: bool,
    same_site: SameSite,
    partitioned: bool,
    path: Cow<'static, str>,
    domain: Option<Box<str>>,
    outlives_browser: bool,
}

impl SessionCookie {
    /// The name by default, outside of namespaces.
    pub const NAME: &str = "__Host-session";

    /// The cookie with its attributes as above.
    pub const fn new() -> Self {
        Self {
            base: Cow::Borrowed("session"),
            prefixed: true,
            secure: true,
            same_site: SameSite::Lax,
            partitioned: false,
            path: Cow::Borrowed("/"),
            domain: None,
            outlives_browser: true,
        }
    }

    /// The cookie of a namespace.
    pub(crate) fn of(namespace: Option<&Namespace>) -> Self {
        let mut cookie = Self::new();
        if let Some(namespace) = namespace {
            // Its letters are a token's.
            cookie.base = format!("{namespace}-session").into();
        }
        cookie
    }

    /// Another name, given without its prefix. Costs nothing; needed where two layers on one host
    /// keep sessions of different tiers.
    ///
    /// # Errors
    ///
    /// [`CookieError`] if it is empty, no token in the sense of RFC 9110 §5.6.2, or has a prefix.
    pub fn named(mut self, base: impl Into<Cow<'static, str>>) -> Result<Self, CookieError> {
        let base = base.into();
        if base.is_empty() || !base.bytes().all(is_token) {
            return Err(CookieError::Name(base.into()));
        }
        // Whatever begins with two underscores is, or may become, a prefix (RFC 6265bis §5.4).
        if base.starts_with("__") {
            return Err(CookieError::Prefixed(base.into()));
        }
        self.base = base;
        Ok(self)
    }

    /// The name as it is, without `__Host-` or `__Secure-`: for clients that know an older name.
    ///
    /// Costs the proof of where the cookie is from: a neighbouring host, or whoever answers in a
    /// host's name over plain HTTP, can set a cookie of this name and so put *its own* session on
    /// a visitor (RFC 6265bis §8.6).
    #[must_use]
    pub fn without_prefix(mut self) -> Self {
        self.prefixed = false;
        self
    }

    /// `SameSite=Strict`: not sent with any request that another site began, links included.
    ///
    /// Costs no safety but comfort: whoever follows a link to us looks logged out at first.
    #[must_use]
    pub fn same_site_strict(mut self) -> Self {
        self.same_site = SameSite::Strict;
        self
    }

    /// `SameSite=None`: sent with other sites' requests too, for pages in their frames. Sets
    /// `Secure`, without which browsers refuse it (RFC 6265bis §5.7).
    ///
    /// Costs the protection from cross-site request forgery: each route that changes something
    /// needs another one (OWASP ASVS 5.0, V3.5).
    #[must_use]
    pub fn same_site_none(mut self) -> Self {
        self.same_site = SameSite::None;
        self.secure = true;
        self
    }

    /// `Partitioned`: in a frame the cookie is another one under each site that frames us (CHIPS,
    /// draft-cutler-httpbis-partitioned-cookies). Sets `Secure`, without which browsers refuse it.
    ///
    /// Costs nothing but that a visitor logs in once for each such site. Goes with
    /// [`same_site_none`](Self::same_site_none), and is safer than that alone.
    #[must_use]
    pub fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self.secure = true;
        self
    }

    /// Without `Secure`: for plain HTTP from other hosts than `localhost`, in development. Takes
    /// the prefix, `Partitioned` and `SameSite=None` with it, which browsers accept with `Secure`
    /// alone.
    ///
    /// Costs everything to whoever listens on the network: the token goes in the clear, also with
    /// an `http://` link to a service that has TLS (RFC 6265bis §8.3).
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.secure = false;
        self.partitioned = false;
        if self.same_site == SameSite::None {
            self.same_site = SameSite::Lax;
        }
        self
    }

    /// Sent only to this path and what is below it. Any but `/` turns `__Host-` into
    /// `__Secure-`.
    ///
    /// Costs the protection from neighbouring hosts, as [`domain`](Self::domain) does, and
    /// protects from nobody: other paths of the host reach the cookie by a frame (RFC 6265bis
    /// §8.5). For two services behind one host name two [names](Self::named) serve better.
    ///
    /// # Errors
    ///
    /// [`CookieError`] unless it starts with `/`, is visible ASCII without `;`, and has at most
    /// 1024 bytes (RFC 6265bis §5.6).
    pub fn path(mut self, path: impl Into<Cow<'static, str>>) -> Result<Self, CookieError> {
        let path = path.into();
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if !path.starts_with('/') || path.len() > 1024 || !path.bytes().all(visible) {
            return Err(CookieError::Path(path.into()));
        }
        self.path = path;
        Ok(self)
    }

    /// Sent to this host and all below it. Turns `__Host-` into `__Secure-`.
    ///
    /// Costs the boundary between these hosts: each of them, and whoever takes over a forgotten
    /// one, gets every visitor's token and can set one of its own.
    ///
    /// # Errors
    ///
    /// [`CookieError`] unless it is a host name in ASCII (punycode for others).
    pub fn domain(mut self, domain: &str) -> Result<Self, CookieError> {
        let host = domain.strip_prefix('.').unwrap_or(domain);
        let label = |label: &str| {
            matches!(label.len(), 1..=63)
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(CookieError::Domain(domain.into()));
        }
        self.domain = Some(host.into());
        Ok(self)
    }

    /// Without `Max-Age`: the browser forgets the cookie when it is closed, unless it restores
    /// its windows at the next start. The session in the tiers ends when it did before.
    #[must_use]
    pub fn until_browser_closes(mut self) -> Self {
        self.outlives_browser = false;
        self
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name with its prefix.
    pub fn name(&self) -> String {
        let prefix = match self.prefixed && self.secure {
            true if self.path == "/" && self.domain.is_none() => "__Host-",
            true => "__Secure-",
            false => "",
        };
        [prefix, &self.base].concat()
    }

    /// The value of a `Set-Cookie` header that gives the token to the client for as long as the
    /// session lives, in whole seconds rounded down; at most 400 days, which is all that browsers
    /// grant (RFC 6265bis §5.5). For a session that is over it takes the cookie away.
    ///
    /// Marked as sensitive, so that well-behaved logs leave it out. There is no `Expires`: all
    /// clients that know `HttpOnly` know `Max-Age`, which does not depend on their clocks.
    pub fn set(&self, token: &Token, expires_at: Timestamp, now: Timestamp) -> HeaderValue {
        const LONGEST: u64 = 400 * 24 * 60 * 60;
        let left = expires_at.since(now).as_secs().min(LONGEST);
        if left == 0 {
            return self.clear();
        }
        let mut cookie = self.bare(token.expose().as_str().to_owned());
        if self.outlives_browser {
            cookie.set_max_age(Duration::seconds(left as i64));
        }
        header(&cookie)
    }

    /// The value of a `Set-Cookie` header that takes away what [`set`](Self::set) gave.
    pub fn clear(&self) -> HeaderValue {
        let mut cookie = self.bare(String::new());
        cookie.set_max_age(Duration::ZERO);
        header(&cookie)
    }

    /// The values of `Set-Cookie` headers that take cookies of this name away wherever the
    /// attributes tell that there may be one: at this cookie's own place, which comes first, and at
    /// those that it would have without its domain, its path, or `Partitioned`.
    pub(crate) fn clear_everywhere(&self) -> Vec<HeaderValue> {
        let mut places = vec![(&self.domain, &*self.path, self.partitioned)];
        for domain in [&self.domain, &None] {
            for path in [&*self.path, "/"] {
                for partitioned in [self.partitioned, false] {
                    let place = (domain, path, partitioned);
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
            }
        }
        let clear = |(domain, path, partitioned): (&Option<Box<str>>, &str, bool)| {
            let mut cookie = self.bare(String::new());
            cookie.set_max_age(Duration::ZERO);
            cookie.set_path(path.to_owned());
            cookie.set_partitioned(partitioned);
            match domain {
                Some(domain) => cookie.set_domain(&**domain),
                None => cookie.unset_domain(),
            }
            header(&cookie)
        };
        places.into_iter().map(clear).collect()
    }

    /// Name and place, by which browsers tell cookies apart, and what guards it.
    fn bare(&self, value: String) -> Cookie<'_> {
        let mut cookie = Cookie::build((self.name(), value))
            .secure(self.secure)
            .http_only(true)
            .same_site(self.same_site)
            .path(&*self.path)
            .partitioned(self.partitioned)
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(&**domain);
        }
        cookie
    }
}

impl Default for SessionCookie {
    fn default() -> Self {
        Self::new()
    }
}

fn header(cookie: &Cookie<'_>) -> HeaderValue {
    let mut header = HeaderValue::try_from(cookie.to_string())
        .expect("name, token and attributes are visible ASCII");
    header.set_sensitive(true);
    header
}

/// A character of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A setting of a [`SessionCookie`] that no browser would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name.
    #[error("{0:?} cannot name a cookie: use letters, digits, `-` and `_`")]
    Name(String),
    /// The name has a prefix.
    #[error(
        "the cookie name {0:?} begins with `__`: leave the prefix out, it follows from the attributes"
    )]
    Prefixed(String),
    /// The domain.
    #[error("{0:?} is no host name for a cookie: give one like `example.com`, in ASCII")]
    Domain(String),
    /// The path.
    #[error(
        "{0:?} is no path for a cookie: start with `/`, in at most 1024 visible ASCII characters but `;`"
    )]
    Path(String),
}
