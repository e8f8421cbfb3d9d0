//! URLs as they may be shown: they hold passwords.

/// A URL as it may be logged: neither the user's name nor the password, nor any parameter.
///
/// ```
/// # use tier_cache::without_password;
/// assert_eq!(without_password("redis://ada:s3?cr@t@host:1/0"), "redis://…@host:1/0");
/// assert_eq!(without_password("postgres://host/db?password=s3cret"), "postgres://host/db");
/// ```
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "…".into();
    };
    // The last `@`, even behind a `?`: passwords hold both when nobody escaped them.
    let (hidden, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    format!("{scheme}://{hidden}{rest}")
}

/// A message without the passwords of the URLs that it quotes: a URL may have been put under a
/// wrong key.
pub(super) fn without_passwords(message: &str) -> String {
    let edge = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '\'');
    message
        .split_inclusive(edge)
        .map(|word| {
            let url = word.trim_end_matches(edge);
            match url.contains("://") {
                true => format!("{}{}", without_password(url), &word[url.len()..]),
                false => word.to_owned(),
            }
        })
        .collect()
}
