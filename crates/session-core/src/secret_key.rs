//! The secret that keys are derived from.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keys::fill_random;
use crate::strength;

/// A secret of at least 32 bytes that keys are derived from.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey(Vec<u8>);

impl SecretKey {
    /// The secret as it is read from a file or an environment variable: without the line breaks at its
    /// end, which are all `\n` and `\r` there. Editors, `echo` and secret stores add them. All other bytes
    /// count, spaces and line breaks elsewhere too.
    ///
    /// The command `sessions` reads keys so. Read them so in a service, and both have the same key.
    ///
    /// ```
    /// use session_core::{SecretKey, SessionId, TokenKeys, TokenKind};
    ///
    /// let text = "8Yq0v3JmZk1xT5Wn7RbLd2HsPcGfEaUi";
    /// let key = TokenKeys::new(&SecretKey::new(text)?);
    /// let token = key.mint(TokenKind::Access, SessionId::random());
    /// for end in ["", "\n", "\r\n", "\n\n"] {
    ///     let read = SecretKey::from_text(format!("{text}{end}"))?;
    ///     assert!(TokenKeys::new(&read).verify(&token));
    /// }
    /// let other = SecretKey::from_text(format!("{text} "))?;
    /// assert!(!TokenKeys::new(&other).verify(&token));
    /// # Ok::<(), session_core::TooShort>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), without the line breaks.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Result<Self, TooShort> {
        let mut secret = Self(text.into());
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        while secret.0.last().is_some_and(is_break) {
            secret.0.pop();
        }
        secret.of_length()
    }

    /// The secret as these bytes, all of them. [`from_text`](Self::from_text) is for files and variables.
    ///
    /// # Errors
    ///
    /// [`TooShort`] below 32 bytes, since a guessable key protects nothing.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, TooShort> {
        Self(secret.into()).of_length()
    }

    fn of_length(self) -> Result<Self, TooShort> {
        match self.0.len() {
            short @ ..32 => Err(TooShort(short)),
            _ => Ok(self),
        }
    }

    /// The secret itself, for what is derived from it.
    pub(crate) fn exposed(&self) -> &[u8] {
        &self.0
    }

    /// Whether it looks as if it could be guessed: one character again and again, a row of them, or words.
    /// An estimate, which takes no key of 128 random bits or more for one.
    pub fn is_weak(&self) -> bool {
        const ENOUGH: f64 = 80.0;
        strength::bits(&self.0) < ENOUGH
    }

    /// A fresh secret of 32 bytes from the system's generator.
    ///
    /// # Panics
    ///
    /// If the system has no random generator.
    pub fn random() -> Self {
        let mut secret = vec![0; 32];
        fill_random(&mut secret);
        Self(secret)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A key is too short to be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has {0} bytes; it needs at least 32, for instance from `openssl rand -base64 32`")]
pub struct TooShort(usize);
