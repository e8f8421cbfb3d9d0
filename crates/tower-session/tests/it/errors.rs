//! Every error that the library's crates can raise, beside the page that lists them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use session_core::{DataError, ForeignToken, SecretKey, Token, TokenKeys, Unnamed, UserId};
use tier_cache::cold::Cursor;
use tier_cache::{Error, Refusal, StoreError, TierConfig};
use tower_session::{Absence, CookieError, SessionRejection};

const PAGE: &str = include_str!("../../../../docs/errors.md");

/// What the page calls it, and its text.
type Shown = (&'static str, String);

fn shown(name: &'static str, error: impl ToString) -> Shown {
    (name, error.to_string())
}

fn refusals() -> Vec<Shown> {
    let unavailable = Refusal::Unavailable {
        retry_after: Duration::from_secs(1),
    };
    vec![
        shown("Malformed", Refusal::Malformed),
        shown("Ambiguous", Refusal::Ambiguous),
        shown("Forged", Refusal::Forged),
        shown("Unknown", Refusal::Unknown),
        shown("Replaced", Refusal::Replaced),
        shown("Expired", Refusal::Expired),
        shown("Idle", Refusal::Idle),
        shown("Reused", Refusal::Reused),
        shown("Revoked", Refusal::Revoked),
        shown("Unavailable", unavailable.clone()),
        shown("Absence::NoToken", Absence::NoToken.message()),
        shown(
            "Absence::Refused(Refusal::Revoked)",
            Absence::Refused(Refusal::Revoked).message(),
        ),
        shown(
            "Absence::Refused(Refusal::Unavailable)",
            Absence::Refused(unavailable).message(),
        ),
        shown("SessionRejection::Guest", SessionRejection::Guest),
        shown(
            "SessionRejection::NoLayer",
            SessionRejection::NoLayer {
                data: "shop::Basket",
            },
        ),
    ]
}

fn operations() -> Vec<Shown> {
    let keyed = std::collections::BTreeMap::from([((1, 2), 3)]);
    let unwritable = serde_json::to_string(&keyed).unwrap_err();
    let no_answer = "no answer within cold.statement_timeout (2s)";
    vec![
        shown("Conflict", Error::Conflict { attempts: 20 }),
        shown("TooManySessions", Error::TooManySessions { allowed: 3 }),
        shown(
            "NoSuchUser",
            Error::NoSuchUser {
                user: UserId::Int(42),
            },
        ),
        shown(
            "DataTooLarge",
            Error::DataTooLarge {
                size: 20_000,
                allowed: 16_384,
            },
        ),
        shown("Unwritable", Error::Unwritable(Arc::new(unwritable))),
        shown(
            "Data",
            Error::Data(DataError {
                at: "data at line 1 column 9".into(),
            }),
        ),
        shown(
            "Store",
            Error::Store(StoreError::transient("load", no_answer)),
        ),
        shown("ShuttingDown", Error::ShuttingDown),
    ]
}

fn mistakes() -> Vec<Shown> {
    let config = "[fence]\npoll_interval = '10s'";
    let cookie = |error: CookieError| error;
    let keys = TokenKeys::new(&SecretKey::random());
    vec![
        shown(
            "a value of the configuration",
            TierConfig::from_toml(config).unwrap_err(),
        ),
        shown(
            "a root key that is too short",
            SecretKey::new("short").unwrap_err(),
        ),
        shown(
            "two roots with one key",
            keys.clone().announce_root(keys).unwrap_err(),
        ),
        shown(
            "CookieError::Name",
            cookie(CookieError::Name("my cookie".into())),
        ),
        shown(
            "CookieError::Prefixed",
            cookie(CookieError::Prefixed("__Host-a".into())),
        ),
        shown(
            "CookieError::Domain",
            cookie(CookieError::Domain("exämple".into())),
        ),
        shown(
            "CookieError::Path",
            cookie(CookieError::Path("shop".into())),
        ),
        shown("MalformedToken", Token::parse("nonsense").unwrap_err()),
        shown("MalformedCursor", "tomorrow".parse::<Cursor>().unwrap_err()),
        shown("Unnamed::Issuer", ForeignToken::new("", "a").unwrap_err()),
        shown("Unnamed::Id", ForeignToken::new("a", "").unwrap_err()),
        shown("Unnamed::Id", Unnamed::Id),
    ]
}

fn all() -> Vec<Shown> {
    [refusals(), operations(), mistakes()].concat()
}

#[test]
fn each_error_is_listed_with_its_text() {
    for (name, text) in all() {
        let listed = PAGE.lines().any(|line| {
            let texts = [
                format!("`{text}`"),
                format!("``{text}``"),
                format!("``{text} ``"),
            ];
            line.contains(name) && texts.iter().any(|text| line.contains(text))
        });
        assert!(listed, "docs/errors.md does not say of {name}: {text}");
    }
}

/// Those that are written down as errors in the sources.
#[test]
fn no_error_is_left_out() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (all, mut found) = (all(), 0);
    for name in ["session-core", "tier-cache", "tower-session"] {
        for file in sources(&crates.join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            for pattern in patterns(&text) {
                found += 1;
                // A text of its own, made where it is raised.
                if pattern.iter().all(|part| part.len() < 5) {
                    continue;
                }
                let is_shown = all.iter().any(|(_, text)| fits(text, &pattern));
                assert!(is_shown, "{}: no test shows {pattern:?}", file.display());
            }
        }
    }
    assert!(found > 25, "{found}");
}

/// Whether a text has these parts one after the other.
fn fits(text: &str, parts: &[String]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.find(part.as_str()) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// The fixed parts of each `#[error("…")]`.
fn patterns(source: &str) -> Vec<Vec<String>> {
    let attributes = source.split("#[error(").skip(1);
    let texts = attributes.filter_map(|rest| {
        let text = rest.trim_start().strip_prefix('"')?;
        let end = text
            .char_indices()
            .find(|(at, c)| *c == '"' && !text[..*at].ends_with('\\'))?;
        Some(text[..end.0].to_owned())
    });
    let parts = texts.map(|text| {
        // A literal that goes on on the next line.
        let mut lines = text.split("\\\n");
        let mut whole = lines.next().unwrap_or_default().to_owned();
        lines.for_each(|line| whole += line.trim_start());
        let parts = whole.split('{').enumerate();
        let parts = parts.map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => part
                .split_once('}')
                .map_or(String::new(), |(_, rest)| rest.to_owned()),
        });
        parts.filter(|part| !part.is_empty()).collect()
    });
    parts.collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    });
    files
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}
