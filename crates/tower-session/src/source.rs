//! Where a request shows its token.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{Extensions, HeaderMap};
use memchr::memchr;
use session_core::{Token, TokenKind, WrittenToken};
use tier_cache::{Credential, Refusal};

/// A place where a request may show its token.
#[derive(Clone)]
pub struct Source(Place);

#[derive(Clone)]
enum Place {
    Cookie(Box<str>),
    Bearer,
    Custom(Arc<Find>),
}

type Find = dyn Fn(&HeaderMap, &Extensions) -> Option<Credential> + Send + Sync;

impl Source {
    /// The cookie of this name.
    ///
    /// Several cookies of the name count as one if their values are equal. If they differ, one of
    /// them was set by someone else, and nothing says which (RFC 6265bis §5.8.3 leaves the order to
    /// the client): then the layer asks the next source, and refuses the request as
    /// [`Refusal::Ambiguous`] if none shows a token.
    pub fn cookie(name: impl Into<Box<str>>) -> Self {
        Self(Place::Cookie(name.into()))
    }

    /// The header `Authorization: Bearer <token>` (RFC 6750 §2.1). Other schemes are left to
    /// others. Several `Authorization` headers are never one, even if they are equal: no client may
    /// send them (RFC 9110 §5.3). The layer then asks the next source.
    pub fn bearer() -> Self {
        Self(Place::Bearer)
    }

    /// A credential that the application finds, and vouches for. For tokens that someone else minted
    /// it is a [`Credential::foreign`], which finds the session under every root that is accepted:
    ///
    /// ```
    /// use tower_session::{Credential, ForeignToken, Source, TokenKeys, TokenKind};
    ///
    /// /// What an earlier layer leaves when it has checked a JWT's signature.
    /// #[derive(Clone)]
    /// struct Claims {
    ///     iss: String,
    ///     jti: String,
    ///     sub: String,
    /// }
    ///
    /// let keys = TokenKeys::random(); // or `tiers.keys().clone()`, which know the namespace
    /// let jwt = Source::custom(move |_headers, extensions| {
    ///     let claims = extensions.get::<Claims>()?;
    ///     // A `jti` is unique for its issuer alone.
    ///     let token = ForeignToken::new(&claims.iss, &claims.jti).ok()?.subject(&claims.sub);
    ///     Some(Credential::foreign(&keys, TokenKind::Access, &token))
    /// });
    /// # let _ = jwt;
    /// ```
    ///
    /// A [`Key`](session_core::Key) will do too, such as the id of a session out of a trusted place. The
    /// hash of a foreign token as a key is of one root alone: while the root is rotated it does not find
    /// what was adopted under another.
    pub fn custom<C: Into<Credential>>(
        find: impl Fn(&HeaderMap, &Extensions) -> Option<C> + Send + Sync + 'static,
    ) -> Self {
        let find = move |headers: &HeaderMap, extensions: &Extensions| {
            find(headers, extensions).map(Into::into)
        };
        Self(Place::Custom(Arc::new(find)))
    }

    /// What a request shows here; `None` if nothing. No I/O: a token is read, not yet believed.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`] for what is no access token of ours; [`Refusal::Ambiguous`] for
    /// several that differ.
    pub fn find(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Result<Credential, Refusal>> {
        match &self.0 {
            Place::Custom(find) => find(headers, extensions).map(Ok),
            _ => Some(self.text(headers)?.and_then(token)),
        }
    }

    /// The same, no further looked at than to see whether it may be an access token: `None` if
    /// nothing is shown here, or several that differ; `Some(None)` if it is for
    /// [`find`](Self::find) to say what.
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
            None => Some(WrittenToken::access(self.text(headers)?.ok()?)),
        }
    }

    /// What stands in the headers here; several that differ are refused.
    pub(crate) fn text<'h>(&'h self, headers: &'h HeaderMap) -> Option<Result<&'h [u8], Refusal>> {
        Some(match &self.0 {
            Place::Cookie(name) => {
                let mut values = cookies(headers, name);
                let first = values.next()?;
                match values.all(|other| other == first) {
                    true => Ok(first),
                    false => Err(Refusal::Ambiguous),
                }
            }
            Place::Bearer => {
                let mut values = headers.get_all(AUTHORIZATION).iter();
                match (values.next()?, values.next()) {
                    (value, None) => Ok(bearer(value.as_bytes())?),
                    _ => Err(Refusal::Ambiguous),
                }
            }
            Place::Custom(_) => return None,
        })
    }

    /// Everything that is shown here, whether or not it differs; what is no access token is left
    /// out.
    fn find_all(&self, headers: &HeaderMap, extensions: &Extensions) -> Vec<Credential> {
        let texts: Vec<&[u8]> = match &self.0 {
            Place::Cookie(name) => cookies(headers, name).collect(),
            Place::Bearer => {
                let values = headers.get_all(AUTHORIZATION).iter();
                values
                    .filter_map(|value| bearer(value.as_bytes()))
                    .collect()
            }
            Place::Custom(find) => {
                return find(headers, extensions).into_iter().collect();
            }
        };
        texts
            .into_iter()
            .filter_map(|text| token(text).ok())
            .collect()
    }

    /// Whether it is the cookie of this name.
    pub(crate) fn is_cookie(&self, name: &str) -> bool {
        matches!(&self.0, Place::Cookie(own) if **own == *name)
    }
}

/// What a request shows, and where: in the first source that shows something, but for sources that
/// show several that differ, which decide only if no other shows anything.
pub(crate) fn find<'s>(
    sources: &'s [Source],
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<(&'s Source, Result<Credential, Refusal>)> {
    let mut ambiguous = None;
    for source in sources {
        match source.find(headers, extensions) {
            None => {}
            Some(Err(Refusal::Ambiguous)) => {
                ambiguous.get_or_insert(source);
            }
            Some(found) => return Some((source, found)),
        }
    }
    ambiguous.map(|source| (source, Err(Refusal::Ambiguous)))
}

/// Everything that a request shows anywhere.
pub(crate) fn find_all(
    sources: &[Source],
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Vec<Credential> {
    let all = sources
        .iter()
        .flat_map(|source| source.find_all(headers, extensions));
    all.collect()
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

/// The values of the cookies of a name. Read as bytes: another cookie, set by who knows whom, may be
/// no UTF-8.
fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let headers = headers.get_all(&COOKIE).iter();
    headers.flat_map(move |header| {
        let mut rest = Some(header.as_bytes());
        let pairs = std::iter::from_fn(move || {
            let pairs = rest?;
            let end = memchr(b';', pairs);
            rest = end.map(|end| &pairs[end + 1..]);
            Some(&pairs[..end.unwrap_or(pairs.len())])
        });
        pairs.filter_map(move |pair| value_of(pair, name))
    })
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
