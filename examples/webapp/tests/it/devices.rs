//! The devices of a user: their names, and the browser that a session may be bound to.

use serde_json::{Value, json};

use crate::http::Response;
use crate::support::{App, Sql, Tokens, eventually, folder, on_both};

on_both!(
    a_device_gets_the_name_its_user_gives_it,
    nobody_names_or_ends_what_is_not_theirs,
    a_name_must_be_one,
    the_list_of_devices_has_pages,
);

fn name(app: &App, tokens: &Tokens, id: &str, label: impl Into<Value>) -> Response {
    let body = json!({ "label": label.into() });
    let put = app.put(&format!("/sessions/{id}")).bearer(&tokens.access);
    put.json(body).send()
}

/// What a user's device is called.
#[track_caller]
fn label(app: &App, tokens: &Tokens, id: &str) -> Value {
    let listed = app.get("/sessions").bearer(&tokens.access).send();
    let listed = listed.expect(200).json();
    let mut listed = listed.as_array().unwrap().iter();
    let session = listed.find(|one| one["id"] == id).expect("it is listed");
    session["device"]["label"].clone()
}

fn a_device_gets_the_name_its_user_gives_it(app: &App, _: Sql<'_>) {
    let (phone, laptop) = (app.log_in("ada"), app.log_in("ada"));
    let named = name(app, &phone, &laptop.id, "  Grüße 🦀 ").expect(200);
    assert_eq!(
        named.json(),
        json!({ "id": laptop.id, "label": "Grüße 🦀" })
    );
    name(app, &phone, &phone.id, "Phone").expect(200);
    for tokens in [&phone, &laptop] {
        assert_eq!(label(app, tokens, &laptop.id), "Grüße 🦀");
        assert_eq!(label(app, tokens, &phone.id), "Phone");
    }
    let renewed = Tokens::of(&app.refresh(&phone.refresh));
    assert_eq!(label(app, &renewed, &phone.id), "Phone");
}

fn nobody_names_or_ends_what_is_not_theirs(app: &App, _: Sql<'_>) {
    let (ada, bob) = (app.log_in("ada"), app.log_in("bob"));
    let over = app.log_in("ada");
    app.post("/logout").bearer(&over.access).send().expect(200);
    name(app, &bob, &bob.id, "Bob's").expect(200);
    let put = app.put("/data").json(json!({})).send().expect(200);
    let me = app
        .get("/me")
        .bearer(put.cookie())
        .send()
        .expect(200)
        .json();
    let guests = me["session"]["id"].as_str().unwrap();

    let never = "00000000-0000-4000-8000-000000000000";
    for id in [bob.id.as_str(), over.id.as_str(), guests, never, "x", "%00"] {
        // One answer, which does not tell what there is.
        let named = name(app, &ada, id, "Mine").expect_error(404);
        let ended = app.delete(&format!("/sessions/{id}")).bearer(&ada.access);
        assert_eq!(ended.send().expect_error(404).body, named.body, "{id}");
        assert!(named.body.contains("you have no such session"), "{named:?}");
    }
    assert_eq!(label(app, &bob, &bob.id), "Bob's");
    app.get("/me").bearer(put.cookie()).send().expect(200);
}

fn a_name_must_be_one(app: &App, _: Sql<'_>) {
    let ada = app.log_in("ada");
    let before = label(app, &ada, &ada.id);
    for bad in [
        "",
        " \t ",
        "a\0b",
        "a\nb",
        "\u{1b}[31m",
        "a\u{202e}b",
        &"x".repeat(65),
    ] {
        name(app, &ada, &ada.id, bad).expect_error(422);
    }
    name(app, &ada, &ada.id, 1).expect_error(422);
    let put = app
        .put(&format!("/sessions/{}", ada.id))
        .bearer(&ada.access);
    put.json("{}").send().expect_error(422);
    assert_eq!(label(app, &ada, &ada.id), before);
    name(app, &ada, &ada.id, "ü".repeat(64)).expect(200);
}

/// The path of the next page.
fn next(listed: &Response) -> Option<String> {
    let link = listed.header("link")?;
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(relation, "; rel=\"next\"", "{link}");
    Some(path.to_owned())
}

fn the_list_of_devices_has_pages(app: &App, _: Sql<'_>) {
    let all: Vec<Tokens> = (0..5).map(|_| app.log_in("ada")).collect();
    let bobs = app.log_in("bob");
    let own = &all[0];
    let page = |path: &str| app.get(path).bearer(&own.access).send();
    let (mut path, mut seen, mut sizes) = (Some("/sessions?size=2".to_owned()), Vec::new(), 0);
    while let Some(here) = path {
        let listed = page(&here).expect(200);
        path = next(&listed);
        for one in listed.json().as_array().unwrap() {
            let id = one["id"].as_str().unwrap().to_owned();
            assert_eq!(one["current"], id == own.id, "{one}");
            assert!(
                sizes == 0 || id != own.id,
                "the own one is on the first page"
            );
            seen.push(id);
        }
        sizes += 1;
    }
    assert_eq!(sizes, 3);
    let mut expected: Vec<_> = all.iter().map(|tokens| tokens.id.clone()).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);

    // All on one page, without a next one.
    for path in ["/sessions", "/sessions?size=5", "/sessions?size=4000000000"] {
        let listed = page(path).expect(200);
        assert_eq!(
            (next(&listed), listed.json().as_array().unwrap().len()),
            (None, 5)
        );
    }
    let one = page("/sessions?size=0").expect(200);
    assert!(next(&one).unwrap().ends_with("&size=1"), "{one:?}");
    // Whatever the place says, it is of the own list.
    let after = next(&page("/sessions?size=1").expect(200)).unwrap();
    let theirs = app.get(&after).bearer(&bobs.access).send().expect(200);
    assert!(theirs.json().as_array().unwrap().is_empty(), "{theirs:?}");
    for bad in ["after=tomorrow", "after=", "size=-1", "size=x", "page=2"] {
        page(&format!("/sessions?{bad}")).expect_error(400);
    }
}

#[test]
fn a_login_to_an_account_that_has_just_been_deleted_is_told_so() {
    let (database, folder) = (testbed::Database::create(), folder());
    let app = App::start(
        folder.path(),
        &["--database", &database.url(), "--no-redis"],
    );
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // Deleted before the password is checked, and committed once the login waits for that.
    let delete = format!(
        "DO $$ BEGIN DELETE FROM users WHERE username = 'ada'; \
         FOR n IN 1..6000 LOOP PERFORM pg_stat_clear_snapshot(); \
         EXIT WHEN ({waits}) > 0; PERFORM pg_sleep(0.01); END LOOP; END $$"
    );
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| database.sql(&delete));
        let begun = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        eventually("it is being deleted", || database.sql(begun).trim() != "0");
        let refused = app.login("ada", "demo").send().expect_error(401);
        assert!(
            refused.body.contains("this account was deleted"),
            "{refused:?}"
        );
        deleting.join().unwrap();
    });
    let refused = app.login("ada", "demo").send().expect_error(401);
    assert!(
        refused.body.contains("wrong username or password"),
        "{refused:?}"
    );
}

#[test]
fn a_bound_session_stays_with_its_browser() {
    let folder = folder();
    let app = App::start(folder.path(), &["--no-redis", "--bind-user-agent"]);
    let firefox = |version: u32| {
        format!(
            "Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
        )
    };
    let login = app.login("ada", "demo").header("User-Agent", firefox(140));
    let tokens = Tokens::of(&login.send());
    let me = |tokens: &Tokens, agent: &str| {
        let get = app.get("/me").cookie(&tokens.access);
        get.header("User-Agent", agent).send()
    };
    me(&tokens, &firefox(140)).expect(200);
    me(&tokens, &firefox(141)).expect(200);
    let other = me(&tokens, "curl/7.88.1").expect_error(401);
    assert_eq!(
        other.header("www-authenticate"),
        Some(r#"Bearer error="insufficient_user_authentication""#)
    );
    assert_eq!(other.header("set-cookie"), None);
    me(&tokens, &firefox(141)).expect(200);

    // Nor is a refresh token of use elsewhere; it stays good where it is at home.
    let refresh = |agent: &str, token: &str| {
        let body = json!({ "refresh_token": token });
        app.post("/refresh")
            .header("User-Agent", agent)
            .json(body)
            .send()
    };
    refresh("curl/7.88.1", &tokens.refresh).expect_error(401);
    let tokens = Tokens::of(&refresh(&firefox(141), &tokens.refresh));

    // A guest's basket does not go to a login from elsewhere.
    let basket = json!({ "basket": [{ "name": "tea", "count": 2 }] });
    let put = app
        .put("/data")
        .header("User-Agent", firefox(140))
        .json(&basket);
    let guest = put.send().expect(200).cookie().to_owned();
    let login = app.login("ada", "demo").cookie(&guest);
    let other = Tokens::of(&login.header("User-Agent", "curl/7.88.1").send());
    let get = app.get("/data").cookie(&other.access);
    let data = get
        .header("User-Agent", "curl/7.88.1")
        .send()
        .expect(200)
        .json();
    assert_eq!(data["basket"], json!([]));
    let login = app.login("ada", "demo").cookie(&guest);
    let own = Tokens::of(&login.header("User-Agent", firefox(141)).send());
    let get = app.get("/data").cookie(&own.access);
    let data = get
        .header("User-Agent", firefox(141))
        .send()
        .expect(200)
        .json();
    assert_eq!(data["basket"], basket["basket"]);

    // Another login with it is one on this browser.
    let login = app.login("ada", "demo").cookie(&tokens.access);
    let login = login.header("User-Agent", "curl/7.88.1").send();
    me(&Tokens::of(&login), "curl/8.0").expect(200);
    me(&tokens, &firefox(141)).expect_error(401);
}
