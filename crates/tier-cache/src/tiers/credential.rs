//! What a caller shows to find a session: a token, a key, or someone else's token.

use std::sync::Arc;

use session_core::{ForeignToken, Key, SessionId, Token, TokenKeys, TokenKind};

/// What a caller shows to find a session.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A token that we minted. It proves itself: its MAC is checked before any tier below the
    /// hot one is asked, and its secret against the session.
    Token(Token),
    /// A key that the caller vouches for: an id out of a trusted place, or the `jti` of a token
    /// whose signature the caller has checked.
    Key(Key),
    /// Someone else's token, where several roots are accepted: see [`foreign`](Self::foreign).
    Foreign(ForeignKeys),
}

/// What someone else's token may be stored as, under each root that is accepted.
#[derive(Clone, Debug)]
pub struct ForeignKeys(Arc<[Key]>);

impl From<Token> for Credential {
    fn from(token: Token) -> Self {
        Self::Token(token)
    }
}

impl From<Key> for Credential {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}

impl From<SessionId> for Credential {
    fn from(id: SessionId) -> Self {
        Self::Key(Key::Id(id))
    }
}

impl Credential {
    /// Someone else's token, whose signature the caller has checked. The session is found under each
    /// root that these keys accept, so it survives a [rotation of the root](TokenKeys#rotation-of-the-root).
    ///
    /// With one root it is one key. Each further root costs one more lookup where the session is not hot.
    ///
    /// ```
    /// use session_core::{ForeignToken, TokenKeys, TokenKind};
    /// use tier_cache::Credential;
    ///
    /// let (new, old) = (TokenKeys::random(), TokenKeys::random());
    /// let token = ForeignToken::new("https://login.example", "af0ifjsldkj")?;
    /// let one = Credential::foreign(&new, TokenKind::Access, &token);
    /// assert!(matches!(one, Credential::Key(_)));
    /// let rotated = new.retire_root(old)?;
    /// let both = Credential::foreign(&rotated, TokenKind::Access, &token);
    /// assert!(matches!(both, Credential::Foreign(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn foreign(keys: &TokenKeys, kind: TokenKind, token: &ForeignToken<'_>) -> Self {
        let key = match kind {
            TokenKind::Access => Key::AccessJti,
            TokenKind::Refresh => Key::Refresh,
        };
        let mut hashes = keys.hashes_foreign(kind, token).map(key);
        match (hashes.next(), hashes.next()) {
            (Some(only), None) => Self::Key(only),
            (first, second) => {
                let first = first.into_iter().chain(second);
                Self::Foreign(ForeignKeys(first.chain(hashes).collect()))
            }
        }
    }

    /// Returns the id of the session, if the credential holds it.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Token(token) => Some(token.id()),
            Self::Key(Key::Id(id)) => Some(*id),
            Self::Key(_) | Self::Foreign(_) => None,
        }
    }

    pub(super) fn access_token(&self) -> Option<&Token> {
        match self {
            Self::Token(token) => (token.kind() == TokenKind::Access).then_some(token),
            Self::Key(_) | Self::Foreign(_) => None,
        }
    }
}

impl ForeignKeys {
    pub(super) fn first(&self) -> Key {
        self.0[0]
    }

    pub(super) fn others(&self) -> impl Iterator<Item = Key> {
        self.0.iter().skip(1).copied()
    }
}
