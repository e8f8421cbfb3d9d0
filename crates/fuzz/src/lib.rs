//! Every parser of bytes from outside, and what must hold whatever the bytes.
//!
//! The targets are plain functions that panic if something does not hold, and tell whether the bytes
//! were accepted. The tests run them over the seeds in `seeds/`, and over some thousands of inputs made from these. The programs in
//! `libfuzzer/` give them to a fuzzer that is led by coverage, which wants `cargo install
//! cargo-fuzz` and a nightly toolchain:
//!
//! ```text
//! cd crates/fuzz && mkdir -p libfuzzer/corpus/token
//! cargo +nightly fuzz run --fuzz-dir libfuzzer token libfuzzer/corpus/token seeds/token
//! ```
//!
//! An input that it finds to fail is kept as a seed.

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{Extensions, HeaderMap, HeaderValue};
use session_core::{SecretKey, Token, TokenKeys, TokenKind};
use tier_cache::{Credential, TierConfig, without_password};
use tower_session::{SessionCookie, Source};

/// A target: its name, which is that of its folder of seeds, and its function.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("token", token),
    ("cookie_header", cookie_header),
    ("bearer_header", bearer_header),
    ("config", config),
    ("password", password),
    ("warm_record", warm_record),
    ("push_message", push_message),
];

/// A token as a client sends it: no two texts are the same one.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(token) = Token::parse(text) else {
        return false;
    };
    assert_eq!(token.expose().as_str(), text);
    let keys = keys();
    let anew = keys.resign(&token);
    // Nothing but what these keys signed is signed anew.
    assert!(anew.is_none() || keys.verify(&token));
    true
}

/// `Cookie` headers, one a line.
pub fn cookie_header(bytes: &[u8]) -> bool {
    let source = Source::cookie(SessionCookie::NAME);
    shows(&source, COOKIE, bytes)
}

/// `Authorization` headers, one a line.
pub fn bearer_header(bytes: &[u8]) -> bool {
    shows(&Source::bearer(), AUTHORIZATION, bytes)
}

/// What is found is an access token that stands in the headers, once.
fn shows(source: &Source, name: HeaderName, lines: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(&name, value);
        }
    }
    let Some(Ok(found)) = source.find(&headers, &Extensions::new()) else {
        return false;
    };
    let Credential::Token(token) = found else {
        panic!("no token: {found:?}");
    };
    assert_eq!(token.kind(), TokenKind::Access);
    let text = token.expose();
    let stands = |value: &HeaderValue| {
        let mut windows = value.as_bytes().windows(Token::LEN);
        windows.any(|window| window == text.as_bytes())
    };
    assert!(headers.get_all(name).iter().any(stands));
    true
}

/// Configuration in TOML: what is accepted is valid, and reads the same when written again.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(config) = TierConfig::from_toml(text) else {
        return false;
    };
    config.validate().expect("what was accepted is valid");
    let written = toml::to_string(&config).expect("it can be written");
    let read = TierConfig::from_toml(&written).expect("what was written can be read");
    assert_eq!(read, config, "{written}");
    true
}

/// A password in a URL, which may be broken: neither the URL as it is shown, nor the configuration,
/// nor an error that quotes it holds any part of it.
///
/// The first line is the password, in which anything may stand. The rest is the URL, where `{}` is its
/// place. Accepted is what gives the password away only by its place: before an `@`, or in a
/// parameter.
pub fn password(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((password, url)) = text.split_once('\n') else {
        return false;
    };
    let Some((before, after)) = url.split_once("{}") else {
        return false;
    };
    let in_parameter = before.contains("://") && before.contains(['?', '#', '&']);
    if !after.contains('@') && !in_parameter {
        return false;
    }
    let url = format!("{before}{password}{after}");
    // What stands in the URL without the password, and in what is said of any URL, tells nothing of it.
    let mut known = format!("{before}\n{after}\n");
    for harmless in ["redis://ada:@host/0", "{ }", "\" '"] {
        let shown = shown_of(harmless, &mut String::new());
        known.push_str(&shown);
    }
    known.push_str(
        "postgresql:// mysql:// sqlite:// rediss:// valkeys:// redis+unix:// file:// https://",
    );
    let shown = shown_of(&url, &mut known);
    for part in parts(password) {
        let leaks = !known.contains(&part) && shown.contains(&part);
        assert!(
            !leaks,
            "{part:?} of {password:?} in {url:?} is shown: {shown}"
        );
    }
    true
}

/// All that is said of a URL: as it is, and where it stands by mistake.
fn shown_of(url: &str, known: &mut String) -> String {
    let mut shown = without_password(url);
    let mut config = TierConfig::default();
    config.cold.url = url.into();
    config.cold.replica_url = Some(url.into());
    config.warm.url = Some(url.into());
    shown += &format!("\n{config:?}");
    config.warm.prefix = url.into();
    let value = toml::Value::from(url);
    let mut errors = vec![config.validate().map_err(|error| error.to_string())];
    for text in [
        format!("[cold]\npool_size = {value}"),
        format!("[cold]\nnamespace = {value}"),
        format!("[hot]\nttl = {value}"),
        format!("[hot]\ncapacity = {value}"),
        format!("[warm]\nholds = {value}"),
        format!("[fence]\non_blind = {{ {value} = 1 }}"),
        format!("{value} = 1"),
        format!("[cold]\n{value} = 1"),
        // Without quotes, or with too few of them.
        format!("[cold]\nurl = {}", url.replace(['\n', '\r'], " ")),
        format!("[cold]\nurl = \"{}", url.replace(['\n', '\r'], " ")),
        format!("[cold]\nurl = '{}'", url.replace(['\n', '\r'], " ")),
    ] {
        let read = TierConfig::from_toml(&text).map(drop);
        errors.push(read.map_err(|error| error.to_string()));
    }
    for error in errors.into_iter().filter_map(Result::err) {
        shown += &format!("\n{error}");
        // Where it stands: not of the input.
        known.extend(
            error
                .split_once(" at line ")
                .map(|_| "TOML parse error at line "),
        );
    }
    shown
}

/// The parts of a password that would be noticed: each run of five characters, or all of it if it has
/// no more than that, but at least four.
fn parts(password: &str) -> Vec<String> {
    let characters: Vec<char> = password.chars().collect();
    match characters.len() {
        0..4 => Vec::new(),
        4 | 5 => vec![password.to_owned()],
        _ => characters.windows(5).map(String::from_iter).collect(),
    }
}

/// The content of a record in Redis.
pub fn warm_record(bytes: &[u8]) -> bool {
    tier_cache::test_hooks::read_warm_record(bytes)
}

/// The content of a message on the channel of changes.
pub fn push_message(bytes: &[u8]) -> bool {
    tier_cache::test_hooks::read_push(bytes)
}

/// The same each time, so that what was found once is found again.
fn keys() -> TokenKeys {
    let key = |byte| SecretKey::new([byte; 32]).expect("it is long enough");
    TokenKeys::new(&key(7)).rotate(&key(8))
}
