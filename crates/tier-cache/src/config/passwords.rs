//! URLs as they may be shown: they hold passwords.

use url::Url;

/// A URL as it may be logged: its scheme, host, port and path, without the user's name, the password
/// and any parameter.
///
/// What is not certain to hold no part of a password is left out: all but the scheme of a URL that
/// cannot be parsed, that has an `@` behind its host, since a password that nobody escaped moves the
/// place where the host seems to be, or a parameter before it.
///
/// ```
/// # use tier_cache::without_password;
/// assert_eq!(without_password("redis://ada:s3cret@host:1/0"), "redis://…@host:1/0");
/// assert_eq!(without_password("postgres://host/db?password=s3cret"), "postgres://host/db");
/// // Nobody escaped this password, so nobody can tell where it ends.
/// assert_eq!(without_password("redis://ada:1?cr@t@host:1/0"), "redis://…");
/// ```
pub fn without_password(url: &str) -> String {
    // Of other schemes even the name may be a part of a password.
    const SCHEMES: [&str; 13] = [
        "postgres",
        "postgresql",
        "sqlite",
        "redis",
        "rediss",
        "valkey",
        "valkeys",
        "unix",
        "redis+unix",
        "file",
        "mysql",
        "http",
        "https",
    ];
    let Some(scheme) = url
        .split_once("://")
        .and_then(|(scheme, _)| SCHEMES.into_iter().find(|known| *known == scheme))
    else {
        return "…".into();
    };
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == scheme => shown(&parsed),
        _ => None,
    }
    .unwrap_or_else(|| format!("{scheme}://…"))
}

/// A text that may quote arguments of a command, without the passwords of URLs among these.
///
/// ```
/// # use tier_cache::without_passwords;
/// let told = "unexpected argument 'redis://ada:s3cret@host/0' found";
/// let arguments = ["serve", "redis://ada:s3cret@host/0"];
/// let shown = without_passwords(told, arguments);
/// assert_eq!(shown, "unexpected argument 'redis://…@host/0' found");
/// ```
pub fn without_passwords<A: AsRef<str>>(
    text: &str,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    let mut shown = text.to_owned();
    for argument in arguments {
        let argument = argument.as_ref();
        // `--database=postgres://…` is a name and a URL.
        let value = match argument.split_once('=') {
            Some((name, value)) if name.starts_with('-') => value,
            _ => argument,
        };
        if value.contains("://") {
            shown = shown.replace(value, &without_password(value));
        }
    }
    shown
}

/// What of a parsed URL may be shown; `None` if it is not certain where its password ends.
fn shown(url: &Url) -> Option<String> {
    let behind = [Some(url.path()), url.query(), url.fragment()];
    if behind.into_iter().flatten().any(|part| part.contains('@')) {
        return None;
    }
    // Parameters that were joined to the host or path by a wrong sign, such as `/db&password=…`.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~%+,:[]".contains(c);
    let path = match url.path().find(|c| !plain(c)) {
        Some(end) => format!("{}…", &url.path()[..end]),
        None => url.path().to_owned(),
    };
    let password = url.password().unwrap_or_default();
    if [url.username(), password].into_iter().any(is_joined) {
        return None;
    }
    let user = match url.username().is_empty() && url.password().is_none() {
        true => "",
        false => "…@",
    };
    let host = url.host_str().unwrap_or_default();
    if !host.chars().all(plain) {
        return None;
    }
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    Some(format!("{}://{user}{host}{port}{path}", url.scheme()))
}

/// Whether a user's name or password, as the parser escaped it, may be a host that a wrong sign joins
/// to a parameter, such as `host&password=…`: what follows the `@` may then be of the password too.
/// At an end, `=` is Base64's.
fn is_joined(part: &str) -> bool {
    part.contains('&') || part.trim_end_matches("%3D").contains("%3D")
}

/// A value as an error may quote it. One that may be a URL is shown as such, and one that may be a
/// part of one not at all.
pub(super) fn quotable(value: &str) -> String {
    let of_url = |c: char| "@?#&=/".contains(c);
    match value.contains("://") {
        true => without_password(value),
        false if value.contains(of_url) || value.to_ascii_lowercase().contains("pass") => {
            "…".into()
        }
        false => value.to_owned(),
    }
}

/// A message of a parser, without what it quotes of its input, which may be a line with a URL: nobody
/// can tell where a password ends that holds quotes.
pub(super) fn without_quotations(message: &str) -> String {
    let shown = message.lines().filter_map(|line| {
        let line = line.trim();
        // Lines of the source begin with their number and a bar.
        if line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start()
            .starts_with('|')
        {
            return None;
        }
        // What is expected is the grammar's.
        let quotation = line
            .find(['"', '`', '\''])
            .filter(|_| !line.starts_with("expected"));
        Some(quotation.map_or_else(|| line.to_owned(), |at| format!("{}…", &line[..at])))
    });
    shown.collect::<Vec<_>>().join(": ")
}
