use std::fmt;

/// What names a token that someone else minted: its issuer, and its id there.
///
/// An id is unique for its issuer alone (RFC 7519 §4.1.7), so there is none without one: of two identity
/// providers, neither can name a token of the other.
///
/// ```
/// use session_core::{ForeignToken, TokenKeys, TokenKind};
///
/// // `iss`, `jti` and `sub` of a JWT whose signature was checked.
/// let token = ForeignToken::new("https://login.example", "af0ifjsldkj")?.subject("248289761001");
/// let other = ForeignToken::new("https://other.example", "af0ifjsldkj")?.subject("248289761001");
///
/// let keys = TokenKeys::random();
/// let hash = |token| keys.hash_foreign(TokenKind::Access, token);
/// assert_ne!(hash(&token), hash(&other));
/// assert!(ForeignToken::new("", "af0ifjsldkj").is_err());
/// # Ok::<(), session_core::Unnamed>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ForeignToken<'a> {
    issuer: &'a str,
    id: &'a str,
    subject: Option<&'a str>,
}

impl<'a> ForeignToken<'a> {
    /// The token of this issuer (`iss`) with this id: the `jti`, or of a refresh token its text.
    ///
    /// # Errors
    ///
    /// [`Unnamed`] if either is empty.
    pub const fn new(issuer: &'a str, id: &'a str) -> Result<Self, Unnamed> {
        if issuer.is_empty() {
            return Err(Unnamed::Issuer);
        }
        if id.is_empty() {
            return Err(Unnamed::Id);
        }
        Ok(Self {
            issuer,
            id,
            subject: None,
        })
    }

    /// With whom it was issued to (`sub`). Whoever looks the session up must name the same, or none in
    /// both places.
    #[must_use]
    pub const fn subject(mut self, subject: &'a str) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Each part behind its length, so that no two tokens are written alike.
    pub(crate) fn parts(&self) -> impl Iterator<Item = ([u8; 8], &'a str)> {
        let parts = [Some(self.issuer), Some(self.id), self.subject];
        let length = |part: &str| (part.len() as u64).to_le_bytes();
        parts
            .into_iter()
            .flatten()
            .map(move |part| (length(part), part))
    }
}

/// Its id may be a secret.
impl fmt::Debug for ForeignToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignToken(of {}, …)", self.issuer)
    }
}

/// A token of someone else without an issuer, or without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// The issuer is empty.
    #[error("a foreign token needs its issuer, such as the claim `iss`: the text is empty")]
    Issuer,
    /// The id is empty.
    #[error("a foreign token needs its id, such as the claim `jti`: the text is empty")]
    Id,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{TokenKeys, TokenKind};

    proptest! {
        /// Of texts that are easily mistaken for each other.
        #[test]
        fn two_tokens_hash_alike_only_if_they_are_the_same(
            one in ("[ab\\x00\\x01]{1,3}", "[ab\\x00\\x01]{1,3}", proptest::option::of("[ab\\x00\\x01]{0,2}")),
            other in ("[ab\\x00\\x01]{1,3}", "[ab\\x00\\x01]{1,3}", proptest::option::of("[ab\\x00\\x01]{0,2}")),
        ) {
            let keys = TokenKeys::random();
            let token = |(issuer, id, subject): &(String, String, Option<String>)| {
                let token = ForeignToken::new(issuer, id).unwrap();
                let token = ForeignToken { subject: subject.as_deref(), ..token };
                keys.hash_foreign(TokenKind::Access, &token)
            };
            prop_assert_eq!(token(&one) == token(&other), one == other);
        }
    }

    #[test]
    fn what_is_written_is_read_in_one_way_only() {
        let written = |token: ForeignToken<'_>| {
            let parts = token
                .parts()
                .flat_map(|(length, part)| [length.to_vec(), part.into()]);
            parts.collect::<Vec<_>>().concat()
        };
        let token = |issuer, id| ForeignToken::new(issuer, id).unwrap();
        let all = [
            token("a", "bc"),
            token("ab", "c"),
            token("a", "b").subject("c"),
            token("a", "bc").subject(""),
            token("a", "b"),
            token("bc", "a"),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                assert_ne!(written(*one), written(*other), "{one:?} {other:?}");
            }
        }
    }
}
