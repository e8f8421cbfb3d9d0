//! Where a request shows its token.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap};
use memchr::memchr;
use session_core::{Key, Token, TokenKind, WrittenToken};
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
        match &self.0 {
            Place::Custom(find) => find(headers, extensions).map(|key| Ok(key.into())),
            _ => Some(self.text(headers)?.and_then(token)),
        }
    }

    /// The same, no further looked at than to see whether it may be an access token: `None` if
    /// nothing is shown here, `Some(None)` if it is for [`find`](Self::find) to say what.
    pub(crate) fn written<'h>(
        &'h self,
        headers: &'h HeaderMap,
    ) -> Option<Option<WrittenToken<'h>>> {
        let quick = match &self.0 {
            Place::Custom(_) => return Some(None),
            Place::Cookie(name) => alone(headers, name),
            Place::Bearer => None,
        };
        match quick {
            Some(token) => Some(Some(token)),
            None => Some(self.text(headers)?.ok().and_then(WrittenToken::access)),
        }
    }

    /// What stands in the headers here; several are refused.
    pub(crate) fn text<'h>(&'h self, headers: &'h HeaderMap) -> Option<Result<&'h [u8], Refusal>> {
        Some(match &self.0 {
            Place::Cookie(name) => only_cookie(headers, name)?,
            Place::Bearer => match only(headers.get_all(AUTHORIZATION).iter())? {
                Ok(value) => Ok(bearer(value.as_bytes())?),
                Err(several) => Err(several),
            },
            Place::Custom(_) => return None,
        })
    }

    /// Whether it is the cookie of this name.
    pub(crate) fn is_cookie(&self, name: &str) -> bool {
        matches!(&self.0, Place::Cookie(own) if **own == *name)
    }

    /// Whether a request shows several cookies here.
    pub(crate) fn shows_several(&self, headers: &HeaderMap) -> bool {
        matches!(&self.0, Place::Cookie(name) if matches!(only_cookie(headers, name), Some(Err(_))))
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

/// The value of the one cookie of a name; several are refused. Read as bytes: another cookie, set by
/// who knows whom, may be no UTF-8.
fn only_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<Result<&'h [u8], Refusal>> {
    let mut only = None;
    for header in headers.get_all(&COOKIE) {
        let mut rest = Some(header.as_bytes());
        while let Some(pairs) = rest {
            let end = memchr(b';', pairs);
            rest = end.map(|end| &pairs[end + 1..]);
            let pair = &pairs[..end.unwrap_or(pairs.len())];
            if let Some(value) = value_of(pair, name)
                && only.replace(value).is_some()
            {
                return Some(Err(Refusal::Malformed));
            }
        }
    }
    only.map(Ok)
}

/// What may be a token in a cookie of this name that is all that the request shows. If there is more
/// in it after all, it is no token.
#[inline]
fn alone<'h>(headers: &'h HeaderMap, name: &str) -> Option<WrittenToken<'h>> {
    let mut values = headers.get_all(&COOKIE).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let rest = value.as_bytes().strip_prefix(name.as_bytes())?;
    WrittenToken::access(rest.strip_prefix(b"=")?)
}

/// The value of a pair of name and value, if it has this name.
#[inline]
fn value_of<'h>(pair: &'h [u8], name: &str) -> Option<&'h [u8]> {
    let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?;
    Some(unquoted(value.trim_ascii()))
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
