//! What names a session: an id, or what stands on standard input.

use std::io::{self, IsTerminal as _, Read as _};

use session_core::{ForeignToken, Key, SessionId, Token, TokenKeys, TokenKind};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::note;

/// What names a session.
#[derive(Debug)]
pub(crate) enum Shown {
    Id(SessionId),
    Token(Token),
    /// Someone else's key: a secret, or as good as one.
    Foreign(TokenKind, Named),
}

/// What names someone else's token.
#[derive(Debug)]
pub(crate) struct Named {
    issuer: String,
    id: Zeroizing<String>,
    subject: Option<String>,
}

impl Named {
    fn token(&self) -> ForeignToken<'_> {
        let token = ForeignToken::new(&self.issuer, &self.id);
        let token = token.expect("it was checked when it was read");
        match &self.subject {
            Some(subject) => token.subject(subject),
            None => token,
        }
    }
}

impl Shown {
    /// An id, or for `-` a token on standard input.
    pub(crate) async fn read(text: &str) -> Result<Self, Failure> {
        if text != "-" {
            return id(text).map(Self::Id);
        }
        let token = from_stdin("a token").await?;
        let malformed = "what stands on standard input is no token of ours: those begin with sa1_ \
            or sr1_ and have 68 characters";
        match Token::parse(&token) {
            Ok(token) => Ok(Self::Token(token)),
            Err(_) => Err(Failure::failed(malformed)),
        }
    }

    /// Someone else's token of this kind, whose id is on standard input.
    pub(crate) async fn foreign(
        kind: TokenKind,
        issuer: &str,
        subject: Option<&str>,
    ) -> Result<Self, Failure> {
        let what = match kind {
            TokenKind::Access => "a jti",
            TokenKind::Refresh => "a refresh token",
        };
        let text = from_stdin(what).await?;
        Ok(match Token::parse(&text) {
            Ok(token) => Self::Token(token),
            Err(_) => {
                ForeignToken::new(issuer, &text).map_err(Failure::misused)?;
                let (issuer, subject) = (issuer.to_owned(), subject.map(str::to_owned));
                let id = text;
                Self::Foreign(
                    kind,
                    Named {
                        issuer,
                        id,
                        subject,
                    },
                )
            }
        })
    }

    /// What the session may be found by: more than one key only while the root is rotated.
    pub(crate) fn keys(&self, keys: &TokenKeys) -> Vec<Key> {
        match self {
            Self::Id(id) => vec![Key::Id(*id)],
            Self::Token(token) => vec![Key::Id(token.id())],
            Self::Foreign(kind, named) => {
                let key = match kind {
                    TokenKind::Access => Key::AccessJti,
                    TokenKind::Refresh => Key::Refresh,
                };
                let token = named.token();
                let hashes = keys.hashes_foreign(*kind, &token);
                hashes.map(key).collect()
            }
        }
    }

    /// The session that it names by itself.
    pub(crate) fn id(&self) -> Option<SessionId> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Token(token) => Some(token.id()),
            Self::Foreign(..) => None,
        }
    }
}

/// A session's id. What it was if it is none is not repeated: it may be a secret.
pub(crate) fn id(text: &str) -> Result<SessionId, Failure> {
    text.parse().map_err(|_| {
        let token = text.starts_with("sa1_") || text.starts_with("sr1_");
        Failure::misused(match token {
            true => {
                "a token is no argument, since arguments stand in the list of processes: write - \
                 and give it on standard input"
            }
            false => {
                "that is no session's id, which is a UUID like \
                 0b2f9d3e-6a4c-4f0e-9f43-5f1c2f6a7b8d; write - to give a token on standard input"
            }
        })
    })
}

/// All of standard input, without the space around it. In a thread of its own, so that Ctrl-C is
/// heard meanwhile.
async fn from_stdin(what: &'static str) -> Result<Zeroizing<String>, Failure> {
    if io::stdin().is_terminal() {
        note(format_args!(
            "{what} is read from standard input; end it with Ctrl-D"
        ));
    }
    let read = tokio::task::spawn_blocking(read_stdin).await;
    let read = read.map_err(io::Error::from).and_then(|read| read);
    read.map_err(|error| {
        Failure::failed(format_args!(
            "{what} cannot be read from standard input: {error}"
        ))
    })
}

fn read_stdin() -> io::Result<Zeroizing<String>> {
    /// More than any key has; so that no buffer grows, which would leave its content behind.
    const MOST: usize = 64 << 10;
    let mut text = Zeroizing::new(String::with_capacity(MOST + 1));
    let mut input = io::stdin().lock().take(MOST as u64 + 1);
    input.read_to_string(&mut text)?;
    let trimmed = Zeroizing::new(text.trim().to_owned());
    match text.len() {
        _ if trimmed.is_empty() => Err(io::Error::other("it is empty")),
        0..=MOST => Ok(trimmed),
        _ => Err(io::Error::other("it is too long")),
    }
}
