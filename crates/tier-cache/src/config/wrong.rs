//! What is wrong with a configuration, in words: the key, where it stands, and what was meant.

use std::path::Path;

use figment::error::{Actual, Error, Kind};

use super::passwords::{quotable, without_quotations};
use super::{ConfigError, environment, names};

/// The words for what figment found. Only the first error is told.
pub(super) fn told(error: &Error, file: Option<&Path>) -> ConfigError {
    let place = place(error, file);
    let reason = match &error.kind {
        Kind::UnknownField(name, keys) => unknown(name, keys, &error.path),
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            let (found, wanted) = (quoted(found), in_words(wanted));
            format!("{found} is not allowed: it must be {wanted}")
        }
        Kind::UnknownVariant(name, values) => {
            let (name, list) = (quotable(name), list(values));
            match names::nearest(&name, values.iter().copied()) {
                Some(meant) => format!("`{name}` is none of {list}; `{meant}` is meant"),
                None => format!("`{name}` is none of {list}"),
            }
        }
        other => without_quotations(&other.to_string()),
    };
    ConfigError(format!("{place}{reason}"))
}

/// A value, as far as it may be shown.
fn quoted(value: &Actual) -> String {
    match value {
        Actual::Str(text) => format!("{:?}", quotable(text)),
        Actual::Other(text) => quotable(text),
        Actual::Char(_) | Actual::Bytes(_) => "…".into(),
        number_or_kind => number_or_kind.to_string(),
    }
}

/// What is wanted, where serde says it by the name of a type.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "u8" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    }
}

/// A key that does not exist, and the one that is meant: one of the same place, or else of another.
fn unknown(name: &str, keys: &[&str], path: &[String]) -> String {
    let what = match path.len() {
        0 | 1 if keys.contains(&"fence") => "section",
        _ => "key",
    };
    let here = names::nearest(name, keys.iter().copied());
    let elsewhere = || {
        let sections = names::sections();
        let of = sections.iter().filter(|(_, keys)| keys.contains(&name));
        let of: Vec<String> = of.map(|(section, _)| format!("[{section}]")).collect();
        (!of.is_empty()).then(|| format!("it belongs in {}", of.join(" or ")))
    };
    let hint = here
        .map(|meant| format!("`{meant}` is meant"))
        .or_else(elsewhere);
    let (shown, list) = (quotable(name), list(keys));
    match hint {
        Some(hint) => format!("there is no {what} `{shown}`: {hint} (there are {list})"),
        None => format!("there is no {what} `{shown}`: there are {list}"),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The key, as far as it is known, and the file or the variable that names it.
fn place(error: &Error, file: Option<&Path>) -> String {
    let path: Vec<String> = error.path.iter().map(|name| quotable(name)).collect();
    let key = path.join(".");
    let metadata = error.metadata.as_ref();
    let of_environment = metadata.is_some_and(|metadata| metadata.name.contains("environment"));
    let within = match (of_environment, file) {
        (true, _) => match &path[..] {
            [section, keys @ ..] if !keys.is_empty() => {
                environment::variable(section, &keys.join("__"))
            }
            _ => "the environment".into(),
        },
        (false, Some(file)) => file.display().to_string(),
        (false, None) => String::new(),
    };
    match (key.as_str(), within.as_str()) {
        ("", "") => String::new(),
        ("", within) => format!("{within}: "),
        (key, "") => format!("{key}: "),
        (key, within) => format!("{key} ({within}): "),
    }
}
