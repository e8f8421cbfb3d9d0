//! The devices of a user: their names, and the browser that a session may be bound to.

use serde_json::{Value, json};

use crate::http::Response;
use crate::support::{App, Sql, Tokens, folder, on_both};

on_both!(
    a_device_gets_the_name_its_user_gives_it,
    nobody_names_or_ends_what_is_not_theirs,
    a_name_must_be_one,
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
    for bad in ["", " \t ", "a\0b", "a\nb", "\u{1b}[31m", &"x".repeat(65)] {
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
