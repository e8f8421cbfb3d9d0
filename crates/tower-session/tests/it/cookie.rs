use std::time::Duration;

use http::HeaderValue;
use tower_session::{
    CookieError, SessionCookie, SessionId, Timestamp, Token, TokenKeys, TokenKind,
};

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn token() -> Token {
    TokenKeys::random().mint(TokenKind::Access, SessionId::random())
}

/// Name, value and attributes of a `Set-Cookie` header.
fn parts(header: &HeaderValue) -> (&str, &str, Vec<&str>) {
    let mut parts = header.to_str().unwrap().split("; ");
    let (name, value) = parts.next().unwrap().split_once('=').unwrap();
    (name, value, parts.collect())
}

fn max_age(cookie: &SessionCookie, left: Duration) -> String {
    let header = cookie.set(&token(), NOW + left, NOW);
    let (_, _, attributes) = parts(&header);
    attributes.last().unwrap().to_string()
}

#[test]
fn by_default_it_has_every_protection() {
    let (cookie, token) = (SessionCookie::new(), token());
    assert_eq!(cookie, SessionCookie::default());
    assert_eq!(cookie.name(), SessionCookie::NAME);
    let header = cookie.set(&token, NOW + HOUR, NOW);
    let (name, value, attributes) = parts(&header);
    assert_eq!((name, value), (SessionCookie::NAME, &**token.expose()));
    let expected = [
        "HttpOnly",
        "SameSite=Lax",
        "Secure",
        "Path=/",
        "Max-Age=3600",
    ];
    assert_eq!(attributes, expected);
    assert!(header.is_sensitive() && cookie.clear().is_sensitive());
}

#[test]
fn max_age_is_what_is_left_of_the_session() {
    let cookie = SessionCookie::new();
    let day = 24 * HOUR;
    assert_eq!(max_age(&cookie, HOUR), "Max-Age=3600");
    assert_eq!(max_age(&cookie, Duration::from_millis(1999)), "Max-Age=1");
    // As long as browsers keep a cookie, however long the session is.
    assert_eq!(max_age(&cookie, 1000 * day), "Max-Age=34560000");
    assert_eq!(max_age(&cookie, Duration::MAX), "Max-Age=34560000");
}

#[test]
fn of_a_session_that_is_over_the_client_gets_no_token() {
    for cookie in [
        SessionCookie::new(),
        SessionCookie::new().until_browser_closes(),
    ] {
        for expires_at in [NOW - HOUR, NOW, NOW + Duration::from_millis(999)] {
            assert_eq!(cookie.set(&token(), expires_at, NOW), cookie.clear());
        }
    }
    let clear = SessionCookie::new().clear();
    let (name, value, attributes) = parts(&clear);
    assert_eq!((name, value), (SessionCookie::NAME, ""));
    assert_eq!(*attributes.last().unwrap(), "Max-Age=0");
}

/// Every cookie that can be built, with the calls in every order that matters.
fn all() -> Vec<SessionCookie> {
    type Step = fn(SessionCookie) -> SessionCookie;
    let steps: [Step; 9] = [
        |cookie| cookie.insecure(),
        |cookie| cookie.same_site_none(),
        |cookie| cookie.same_site_strict(),
        |cookie| cookie.partitioned(),
        |cookie| cookie.without_prefix(),
        |cookie| cookie.until_browser_closes(),
        |cookie| cookie.path("/app").unwrap(),
        |cookie| cookie.domain("example.com").unwrap(),
        |cookie| cookie.named("sid").unwrap(),
    ];
    let mut cookies = vec![SessionCookie::new()];
    for _ in 0..3 {
        let further = cookies
            .iter()
            .flat_map(|cookie| steps.map(|step| step(cookie.clone())));
        let further: Vec<_> = further.collect();
        cookies.extend(further);
    }
    cookies
}

#[test]
fn no_combination_can_be_built_that_browsers_refuse() {
    for cookie in all() {
        let header = cookie.set(&token(), NOW + HOUR, NOW);
        let (name, _, attributes) = parts(&header);
        let has = |attribute: &str| attributes.contains(&attribute);
        let domain = attributes.iter().any(|a| a.starts_with("Domain="));
        if name.starts_with("__Host-") {
            assert!(has("Secure") && has("Path=/") && !domain, "{header:?}");
        }
        if name.starts_with("__Secure-") || has("Partitioned") || has("SameSite=None") {
            assert!(has("Secure"), "{header:?}");
        }
        assert!(has("HttpOnly"), "{header:?}");
        assert_eq!(name, cookie.name());
    }
}

#[test]
fn what_is_cleared_is_what_was_set() {
    for cookie in all() {
        let (set, clear) = (cookie.set(&token(), NOW + HOUR, NOW), cookie.clear());
        let (set, clear) = (parts(&set), parts(&clear));
        let place = |attributes: &[&str]| {
            let mut kept = attributes.to_vec();
            kept.retain(|attribute| !attribute.starts_with("Max-Age="));
            kept.join("; ")
        };
        assert_eq!(set.0, clear.0);
        assert_eq!(place(&set.2), place(&clear.2));
        assert!(clear.2.contains(&"Max-Age=0"));
    }
}

#[test]
fn the_prefix_is_the_strongest_that_the_attributes_allow() {
    let new = SessionCookie::new;
    for (cookie, name) in [
        (new().same_site_none().partitioned(), "__Host-session"),
        (new().path("/").unwrap(), "__Host-session"),
        (new().path("/app").unwrap(), "__Secure-session"),
        (new().domain(".example.com").unwrap(), "__Secure-session"),
        (new().insecure(), "session"),
        (new().insecure().partitioned(), "__Host-session"),
        (new().without_prefix(), "session"),
    ] {
        assert_eq!(cookie.name(), name, "{cookie:?}");
    }
}

#[test]
fn each_weakening_takes_away_what_it_says_and_no_more() {
    let new = SessionCookie::new;
    for (cookie, expected) in [
        (
            new().same_site_strict(),
            "HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=3600",
        ),
        (
            new().same_site_none().partitioned(),
            "HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Max-Age=3600",
        ),
        (
            new().same_site_none().partitioned().insecure(),
            "HttpOnly; SameSite=Lax; Path=/; Max-Age=3600",
        ),
        (
            new().domain("example.com").unwrap(),
            "HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; Max-Age=3600",
        ),
        (
            new().path("/app").unwrap(),
            "HttpOnly; SameSite=Lax; Secure; Path=/app; Max-Age=3600",
        ),
        (
            new().until_browser_closes(),
            "HttpOnly; SameSite=Lax; Secure; Path=/",
        ),
    ] {
        let header = cookie.set(&token(), NOW + HOUR, NOW);
        assert_eq!(parts(&header).2.join("; "), expected);
    }
}

#[test]
fn what_no_browser_would_take_is_refused_in_words() {
    let new = SessionCookie::new;
    for name in ["", "a b", "a=b", "a;b", "naïve", "a\r\nb", "a,b"] {
        let error = new().named(name).unwrap_err();
        assert_eq!(error, CookieError::Name(name.into()));
    }
    for name in ["__Host-sid", "__host-sid", "__Secure-sid", "__Http-sid"] {
        let error = new().named(name).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("leave the prefix out"),
            "{error}"
        );
    }
    for path in ["", "app", "/a;Domain=x", "/a\nb", "/ä", "/a b"] {
        assert_eq!(new().path(path), Err(CookieError::Path(path.into())));
    }
    for domain in [
        "",
        ".",
        "..",
        "a..b",
        "a b",
        "a;b",
        "bücher.example",
        "x.",
        "h:80",
    ] {
        assert_eq!(
            new().domain(domain),
            Err(CookieError::Domain(domain.into()))
        );
    }
}
