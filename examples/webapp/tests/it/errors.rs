//! Whatever is sent, the answer is JSON with a fitting status, and never the service's own fault.

use serde_json::json;
use testbed::{Database, Redis};

use crate::support::{App, Tokens, folder};

type Headers = Vec<(&'static str, Vec<u8>)>;

/// Ways to show something that is no token.
pub(crate) fn bad_credentials(tokens: &Tokens) -> Vec<(&'static str, Headers)> {
    let good = tokens.access.as_str();
    let cookie = |value: &[u8]| ("Cookie", [b"__Host-session=", value].concat());
    let authorization = |value: &[u8]| ("Authorization", value.to_vec());
    let bearer = |token: &str| authorization(format!("Bearer {token}").as_bytes());
    let other = if good[40..].starts_with('A') {
        "Q"
    } else {
        "A"
    };
    let forged = format!("{}{other}{}", &good[..40], &good[41..]);
    assert_ne!(forged, good);
    let oversized = "a".repeat(100_000);
    vec![
        ("an empty cookie", vec![cookie(b"")]),
        ("a garbled cookie", vec![cookie(b"sa1_%%%=;;\"")]),
        ("a forged cookie", vec![cookie(forged.as_bytes())]),
        (
            "two cookies",
            vec![cookie(good.as_bytes()), cookie(forged.as_bytes())],
        ),
        (
            "two cookies in one header",
            vec![cookie(
                format!("{good}; __Host-session={forged}").as_bytes(),
            )],
        ),
        (
            "a cookie that is no UTF-8",
            vec![cookie(b"sa1_\xff\xfe\x80")],
        ),
        ("an oversized cookie", vec![cookie(oversized.as_bytes())]),
        ("a cookie of the right length", vec![cookie(&[b'x'; 68])]),
        (
            "a refresh token in the cookie",
            vec![cookie(tokens.refresh.as_bytes())],
        ),
        ("another scheme", vec![authorization(b"Basic YWRhOmRlbW8=")]),
        ("a bearer of nothing", vec![authorization(b"Bearer")]),
        ("a garbled bearer", vec![bearer("tea and milk")]),
        ("a forged bearer", vec![bearer(&forged)]),
        ("a refresh token as bearer", vec![bearer(&tokens.refresh)]),
        ("two bearers", vec![bearer(good), bearer(good)]),
        (
            "a bearer that is no UTF-8",
            vec![authorization(b"Bearer sa1_\xff\xfe\x80")],
        ),
        ("an oversized bearer", vec![bearer(&oversized)]),
        (
            "a bad cookie beside a good bearer",
            vec![cookie(b"x"), bearer(good)],
        ),
    ]
}

#[test]
fn what_is_no_token_is_answered_401_in_json() {
    let (database, redis, folder) = (Database::create(), Redis::start(), folder());
    let app = App::start(
        folder.path(),
        &["--database", &database.url(), "--redis", &redis.url()],
    );
    let tokens = app.log_in("ada");
    // The first two are for visitors too, who show nothing.
    let routes = [
        ("GET", "/data"),
        ("PUT", "/data"),
        ("GET", "/me"),
        ("GET", "/sessions"),
        ("PUT", "/sessions/x"),
        ("DELETE", "/sessions"),
        ("DELETE", "/sessions/x"),
        ("GET", "/activity"),
        ("PUT", "/password"),
        ("POST", "/reauthenticate"),
        ("POST", "/logout"),
    ];
    let nothing = ("nothing", vec![]);
    for (what, headers) in bad_credentials(&tokens).into_iter().chain([nothing]) {
        let routes = match what {
            "nothing" | "another scheme" => &routes[2..],
            _ => &routes,
        };
        // A logout ends the session of a good token, whatever stands beside it.
        let good = tokens.access.as_bytes();
        let shows_good = |(_, value): &(_, Vec<u8>)| value.windows(good.len()).any(|at| at == good);
        let all = routes.len() - usize::from(headers.iter().any(shows_good));
        for &(method, path) in &routes[..all] {
            let mut request = crate::http::Request::new(app.address, method, path);
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            let response = request.send();
            assert_eq!(
                response.status, 401,
                "{what} to {method} {path}: {response:?}"
            );
            let response = response.expect_error(401);
            assert!(
                response.header("www-authenticate").is_some(),
                "{response:?}"
            );
            assert_eq!(response.header("cache-control"), Some("no-store"));
        }
    }
    app.me(&tokens).expect(200);
}

#[test]
fn a_login_is_refused_in_one_way() {
    let folder = folder();
    let app = App::plain(folder.path());
    let log_in = |name: &str, password: &str| {
        let body = json!({ "username": name, "password": password });
        app.post("/login").json(body).send().expect_error(401)
    };
    let wrong = log_in("ada", "wrong");
    for (name, password) in [
        ("nobody", "demo"),
        ("ADA", "demo"),
        ("", ""),
        ("ada", ""),
        ("ada\0", "demo"),
        ("' OR 1=1 --", "demo"),
        ("ada", "demo\0"),
    ] {
        assert_eq!(log_in(name, password).body, wrong.body);
    }
    assert_eq!(wrong.header("set-cookie"), None);
}

#[test]
fn names_that_postgresql_cannot_hold_belong_to_nobody() {
    let (database, folder) = (Database::create(), folder());
    let app = App::start(
        folder.path(),
        &["--database", &database.url(), "--no-redis"],
    );
    let body = json!({ "username": "ada\0", "password": "demo" });
    app.post("/login").json(body).send().expect_error(401);

    let tokens = app.log_in("ada");
    for data in [
        json!({ "note": "\0" }),
        json!({ "basket": [{ "name": "\0" }] }),
    ] {
        let put = app.put("/data").bearer(&tokens.access).json(data);
        put.send().expect_error(422);
    }
    // A user agent of any bytes is only a device's name.
    let agent = [b"\xff\xfe ".as_slice(), &[b'x'; 5000]].concat();
    let login = app.login("ada", "demo").header("User-Agent", agent).send();
    let odd = Tokens::of(&login);
    let listed = app
        .get("/sessions")
        .bearer(&odd.access)
        .send()
        .expect(200)
        .json();
    let listed = listed.as_array().unwrap();
    let agent = listed
        .iter()
        .find(|one| one["id"] == odd.id.as_str())
        .unwrap();
    let agent = agent["device"]["user_agent"].as_str().unwrap();
    assert_eq!(agent.chars().count(), 256);
}

#[test]
fn bodies_that_do_not_fit_are_refused() {
    let folder = folder();
    let app = App::plain(folder.path());
    let tokens = app.log_in("ada");
    let long = "x".repeat(10_000);

    let login = |body: &str| app.post("/login").json(body).send();
    login("").expect_error(400);
    login("{").expect_error(400);
    login("\u{feff}{}").expect_error(400);
    login("[]").expect_error(422);
    login("{}").expect_error(422);
    login(r#"{"username":"ada","password":1}"#).expect_error(422);
    login(&format!(r#"{{"username":"ada","password":"{long}"}}"#)).expect_error(413);
    let form = app
        .post("/login")
        .header("Content-Type", "application/x-www-form-urlencoded");
    form.text("username=ada&password=demo")
        .send()
        .expect_error(415);
    app.post("/login").text("{}").send().expect_error(415);

    app.post("/refresh").json("{}").send().expect_error(422);
    app.refresh("").expect_error(401);
    app.refresh("tea").expect_error(401);
    app.refresh(&tokens.access).expect_error(401);
    app.refresh(&"x".repeat(3000)).expect_error(401);
    app.post("/refresh")
        .json(json!({ "refresh_token": long }))
        .send()
        .expect_error(413);

    let put = |body: &str| app.put("/data").bearer(&tokens.access).json(body).send();
    put("{").expect_error(400);
    put(r#"{"theme":"pink"}"#).expect_error(422);
    let unknown = put(r#"{"note":"x","colour":"red"}"#).expect_error(422);
    assert!(unknown.body.contains("colour"), "{unknown:?}");
    put(&json!({ "note": "x".repeat(20_000) }).to_string()).expect_error(413);
    put(&json!({ "note": "x".repeat(200_000) }).to_string()).expect_error(413);
    app.me(&tokens).expect(200);
}

#[test]
fn addresses_and_methods_that_are_not_there_are_refused() {
    let folder = folder();
    let app = App::plain(folder.path());
    let tokens = app.log_in("ada");
    for path in ["/nowhere", "/me/", "/sessions/a/b", "/..%2f", "/data%00"] {
        app.get(path).send().expect_error(404);
    }
    let refused = app.get("/login").send().expect_error(405);
    assert_eq!(refused.header("allow"), Some("POST"));
    app.post("/me")
        .bearer(&tokens.access)
        .send()
        .expect_error(405);
    app.delete("/").send().expect_error(405);
    for id in ["x", "%ff", "00000000-0000-4000-8000-000000000000", "%00"] {
        let path = format!("/sessions/{id}");
        let response = app.delete(&path).bearer(&tokens.access).send();
        assert!([400, 404].contains(&response.status), "{id}: {response:?}");
        let status = response.status;
        response.expect_error(status);
    }
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let folder = folder();
    let app = App::plain(folder.path());
    let tokens = app.log_in("ada");
    let origin = format!("http://{}", app.address);
    let body = json!({ "username": "ada", "password": "demo" });
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://elsewhere.example"),
        ("Origin", "null"),
    ] {
        let forged = || {
            app.post("/logout")
                .cookie(&tokens.access)
                .header(name, value)
        };
        forged().send().expect_error(403);
        app.post("/login")
            .header(name, value)
            .json(&body)
            .send()
            .expect_error(403);
        app.get("/me")
            .cookie(&tokens.access)
            .header(name, value)
            .send()
            .expect(200);
    }
    let own = app
        .post("/logout")
        .cookie(&tokens.access)
        .header("Origin", &origin);
    own.header("Sec-Fetch-Site", "same-origin")
        .send()
        .expect(200);
}
