use cookie::time::OffsetDateTime;
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use session_core::{Timestamp, Token};

/// The cookie that holds an access token.
///
/// `__Host-session; Secure; HttpOnly; SameSite=Lax; Path=/`: sent over TLS only (browsers and
/// curl make an exception for `localhost`), out of reach of scripts, not with other sites'
/// requests but for plain links, and not to be set by a neighbouring host (RFC 6265bis §4.1.3.2;
/// OWASP ASVS 5.0, V3.3).
///
/// ```
/// use tower_session::{SessionCookie, SessionId, Timestamp, TokenKeys, TokenKind};
///
/// let cookie = SessionCookie::new();
/// let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
/// let expires_at = Timestamp::from_unix_millis(1_800_000_000_000);
/// let header = cookie.set(&token, expires_at);
/// let text = header.to_str().unwrap();
/// assert!(text.starts_with("__Host-session=sa1_"));
/// assert!(text.contains("HttpOnly") && text.contains("Secure") && text.contains("SameSite=Lax"));
/// assert!(text.contains("Expires=Fri, 15 Jan 2027 08:00:00 GMT"));
/// assert!(cookie.clear().to_str().unwrap().contains("Max-Age=0"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct SessionCookie(());

impl SessionCookie {
    /// The name that [`SessionLayer`](crate::SessionLayer) looks for by default.
    pub const NAME: &str = "__Host-session";

    /// The cookie with its attributes as above.
    pub const fn new() -> Self {
        Self(())
    }

    /// The value of a `Set-Cookie` header that gives the token to the client, until the session
    /// ends. Marked as sensitive, so that well-behaved logs leave it out.
    pub fn set(&self, token: &Token, expires_at: Timestamp) -> HeaderValue {
        let mut cookie = self.bare(token.expose().as_str().to_owned());
        // An instant that no calendar holds means a session that outlives the browser's own.
        let expires = OffsetDateTime::from_unix_timestamp(expires_at.unix_millis() / 1000);
        if let Ok(expires) = expires {
            cookie.set_expires(expires);
        }
        self.header(&cookie)
    }

    /// The value of a `Set-Cookie` header that takes the token away.
    pub fn clear(&self) -> HeaderValue {
        let mut cookie = self.bare(String::new());
        cookie.make_removal();
        self.header(&cookie)
    }

    fn bare(&self, value: String) -> Cookie<'static> {
        Cookie::build((Self::NAME, value))
            .secure(true)
            .http_only(true)
            .same_site(SameSite::Lax)
            .path("/")
            .build()
    }

    fn header(&self, cookie: &Cookie<'_>) -> HeaderValue {
        let mut header = HeaderValue::try_from(cookie.to_string())
            .expect("name, token and attributes are visible ASCII");
        header.set_sensitive(true);
        header
    }
}
