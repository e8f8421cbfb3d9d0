//! Why Redis cannot be used, and what to do about it.

use std::fmt;
use std::io;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis cannot be used, in words that hold no secret.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        Self(match text.contains("invalid peer certificate") {
            true => format!(
                "{text}: set warm.ca_file to the authority that signed the server's certificate, and name the \
                 host as the certificate does"
            ),
            false => text,
        })
    }
}

impl From<RedisError> for Broken {
    fn from(error: RedisError) -> Self {
        let said = error.detail().unwrap_or_default();
        Self(match error.kind() {
            ErrorKind::Io => error.to_string(),
            ErrorKind::AuthenticationFailed => {
                "authentication failed: check the user and the password in warm.url".into()
            }
            // Says which permission is missing.
            ErrorKind::Server(ServerErrorKind::NoPerm) => format!(
                "NOPERM {said}: grant the user what the documentation of the module warm lists"
            ),
            // A server may quote the command that it did not like, and with it a password. So only words
            // are told that are known.
            _ => {
                // One that answers before it is in RESP3 sends its error as a text.
                let code = error.code().unwrap_or_else(|| first_word(said));
                match remedy(code, said) {
                    Some(remedy) => format!("{code}: {remedy}"),
                    None => error.code().unwrap_or_else(|| error.category()).to_owned(),
                }
            }
        })
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_uppercase())
        .find(|word| word.len() > 2)
        .unwrap_or_default()
}

/// What the server means by a code, and what to do about it.
fn remedy(code: &str, said: &str) -> Option<&'static str> {
    Some(match code {
        "NOAUTH" => "the server wants a password: write it into warm.url",
        "WRONGPASS" => "check the user and the password in warm.url",
        "MISCONF" => {
            "the server cannot save its data to disk, and therefore refuses commands: look at its log and its disk, \
             or set stop-writes-on-bgsave-error no"
        }
        "READONLY" => "the server is a replica: name its primary in warm.url",
        "LOADING" => "the server is still reading its data: it is tried again",
        "MASTERDOWN" => {
            "the server is a replica that has lost its primary: name the primary in warm.url"
        }
        "BUSY" => "a script of somebody else's keeps the server: it is tried again",
        "OOM" => {
            "the server's memory is full: raise maxmemory, or set a maxmemory-policy such as volatile-lru"
        }
        "NOPROTO" => "the server does not speak RESP3: Redis 6 or newer is needed",
        "ERR" if said.contains("DB index is out of range") || said.contains("invalid DB index") => {
            "warm.url names a database by a number that the server does not have: by default it has 0 to 15, \
             and a cluster 0 alone"
        }
        "ERR" if said.contains("max number of clients") => {
            "the server has as many clients as its maxclients allows"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(code: &str, said: &str) -> String {
        let text = format!("-{code} {said}\r\n");
        let value = redis::parse_redis_value(text.as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else {
            panic!("{value:?}");
        };
        Broken::from(RedisError::from(error)).to_string()
    }

    #[test]
    fn what_a_server_says_is_told_with_a_remedy() {
        for (code, said, told) in [
            (
                "NOAUTH",
                "Authentication required.",
                "write it into warm.url",
            ),
            (
                "MISCONF",
                "Redis is configured to save RDB snapshots",
                "cannot save its data to disk",
            ),
            (
                "READONLY",
                "You can't write against a read only replica.",
                "name its primary",
            ),
            (
                "LOADING",
                "Redis is loading the dataset in memory",
                "tried again",
            ),
            ("MASTERDOWN", "Link with MASTER is down", "lost its primary"),
            ("BUSY", "Redis is busy running a script.", "somebody else's"),
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'.",
                "memory is full",
            ),
            (
                "NOPROTO",
                "unsupported protocol version",
                "Redis 6 or newer",
            ),
            (
                "ERR",
                "DB index is out of range",
                "a number that the server does not have",
            ),
            ("ERR", "max number of clients reached", "maxclients"),
            (
                "NOPERM",
                "User app has no permissions to run the 'get' command",
                "grant the user",
            ),
        ] {
            let broken = broken(code, said);
            assert!(
                broken.starts_with(code) && broken.contains(told),
                "{broken}"
            );
        }
    }

    #[test]
    fn what_a_server_quotes_is_not_told() {
        let told = broken(
            "ERR",
            "unknown command 'AUTH', with args beginning with: 's3cret'",
        );
        assert!(!told.contains("s3cret"), "{told}");
        let told = broken("CUSTOM", "something about s3cret");
        assert_eq!(told, "CUSTOM");
    }
}
