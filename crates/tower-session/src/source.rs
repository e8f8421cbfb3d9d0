//! Where a request shows its token.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap};
use memchr::memchr;
use session_core::{Key, Token, TokenKind};
use tier_cache::{Credential, Refusal};

/// A place where a request may show its token.
#[derive(Clone)]
pub struct Source(Place);

#[derive(Clone)]
enum Place {
    Cookie(Box<str>),
    Bearer,
    Custom(Arc<FindKey>),
}

type FindKey = dyn Fn(&HeaderMap, &Extensions) -> Option<Key> + Send + Sync;

impl Source {
    /// The cookie of this name.
    ///
    /// A request with several cookies of the name is refused: one of them was set by someone
    /// else, and nothing says which (RFC 6265bis §5.8.3 leaves the order to the client).
    pub fn cookie(name: impl Into<Box<str>>) -> Self {
        Self(Place::Cookie(name.into()))
    }

    /// The header `Authorization: Bearer <token>` (RFC 6750 §2.1). Other schemes are left to
    /// others.
    pub fn bearer() -> Self {
        Self(Place::Bearer)
    }

    /// A key that the application finds, and vouches for; for tokens that someone else minted:
    ///
    /// ```
    /// use tower_session::{Key, Source, TokenKeys, TokenKind};
    ///
    /// /// What an earlier layer leaves when it has checked a JWT's signature.
    /// #[derive(Clone)]
    /// struct Claims {
    ///     jti: String,
    /// }
    ///
    /// let keys = TokenKeys::random(); // or `tiers.keys().clone()`, which know the namespace
    /// let jwt = Source::custom(move |_headers, extensions| {
    ///     let claims = extensions.get::<Claims>()?;
    ///     Some(Key::AccessJti(keys.hash_foreign(TokenKind::Access, &claims.jti)))
    /// });
    /// # let _ = jwt;
    /// ```
    pub fn custom(
        find: impl Fn(&HeaderMap, &Extensions) -> Option<Key> + Send + Sync + 'static,
    ) -> Self {
        Self(Place::Custom(Arc::new(find)))
    }

    /// What a request shows here; `None` if nothing. No I/O: a token is read, not yet believed.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`] for what is no access token of ours, and for several at once.
    pub fn find(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Result<Credential, Refusal>> {
        let text = match &self.0 {
            Place::Cookie(name) => only(cookies(headers, name))?,
            Place::Bearer => match only(headers.get_all(AUTHORIZATION).iter())? {
                Ok(value) => Ok(bearer(value.as_bytes())?),
                Err(several) => Err(several),
            },
            Place::Custom(find) => return find(headers, extensions).map(|key| Ok(key.into())),
        };
        Some(text.and_then(token))
    }

    /// Whether it is the cookie of this name.
    pub(crate) fn is_cookie(&self, name: &str) -> bool {
        matches!(&self.0, Place::Cookie(own) if **own == *name)
    }

    /// Whether a request shows several cookies here.
    pub(crate) fn shows_several(&self, headers: &HeaderMap) -> bool {
        matches!(&self.0, Place::Cookie(name) if cookies(headers, name).nth(1).is_some())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Cookie(name) => write!(f, "Source::cookie({name:?})"),
            Place::Bearer => f.write_str("Source::bearer()"),
            Place::Custom(_) => f.write_str("Source::custom(…)"),
        }
    }
}

/// The one item; several are refused.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<Result<T, Refusal>> {
    let first = items.next()?;
    Some(match items.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::Malformed),
    })
}

/// The values of the cookies of a name. Read as bytes: another cookie, set by who knows whom, may
/// be no UTF-8.
fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|header| pairs(header.as_bytes()))
        .filter_map(move |pair| {
            let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            let value = rest.trim_ascii_start().strip_prefix(b"=")?;
            Some(unquoted(value.trim_ascii()))
        })
}

/// What stands between the semicolons.
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let pairs = rest?;
        let end = memchr(b';', pairs);
        rest = end.map(|end| &pairs[end + 1..]);
        Some(&pairs[..end.unwrap_or(pairs.len())])
    })
}

/// A cookie's value may stand in double quotes (RFC 6265bis §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

/// The credentials of the scheme `Bearer`, whose name knows no case (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(|&byte| byte == b' '))
        .then(|| rest.trim_ascii())
}

/// An access token; a refresh token is not accepted in its place.
fn token(text: &[u8]) -> Result<Credential, Refusal> {
    match Token::parse(text) {
        Ok(token) if token.kind() == TokenKind::Access => Ok(token.into()),
        _ => Err(Refusal::Malformed),
    }
}
