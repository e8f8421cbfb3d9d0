//! Visitors without a login, and what becomes of theirs when they log in.

use serde_json::{Value, json};

use crate::errors::bad_credentials;
use crate::support::{App, Sql, Tokens, eventually, on_both};

on_both!(
    a_visitor_costs_nothing_until_there_is_something_to_keep,
    a_guests_basket_survives_the_login,
    a_guests_basket_survives_a_login_that_is_sent_twice,
    a_guest_is_nobody,
    a_login_works_beside_whatever_is_shown,
    a_login_works_beside_a_session_that_is_over,
    a_login_ends_the_session_before_it,
    what_is_refused_is_not_taken_for_a_guest,
);

fn basket() -> Value {
    json!({ "theme": "system", "note": "", "basket": [{ "name": "tea", "count": 2 }] })
}

/// The token of a new guest with a basket.
#[track_caller]
fn guest(app: &App) -> String {
    let put = app.put("/data").json(basket()).send().expect(200);
    assert_eq!(put.json(), basket());
    put.cookie().to_owned()
}

#[track_caller]
fn data(app: &App, token: &str) -> Value {
    app.get("/data").bearer(token).send().expect(200).json()
}

fn a_visitor_costs_nothing_until_there_is_something_to_keep(app: &App, sql: Sql<'_>) {
    let read = app.get("/data").send().expect(200);
    let empty = json!({ "theme": "system", "note": "", "basket": [] });
    assert_eq!(read.json(), empty);
    assert_eq!(read.header("set-cookie"), None);
    app.put("/data").json("{").send().expect_error(400);
    let unknown = json!({ "colour": "red" });
    app.put("/data").json(unknown).send().expect_error(422);
    assert_eq!(sql("SELECT count(*) FROM sessions").trim(), "0");

    let put = app.put("/data").json(basket()).send().expect(200);
    let cookie = put.header("set-cookie").unwrap();
    let life = cookie.split("Max-Age=").nth(1).unwrap();
    let life: u64 = life.split(';').next().unwrap().parse().unwrap();
    assert!((1..=2 * 60 * 60).contains(&life), "{cookie}");
    assert_eq!(sql("SELECT count(*) FROM sessions").trim(), "1");
}

fn a_guests_basket_survives_the_login(app: &App, sql: Sql<'_>) {
    let guest = guest(app);
    let me = app.get("/me").cookie(&guest).send().expect(200).json();
    assert_eq!(me["user"], Value::Null);
    let more = json!({ "basket": [{ "name": "tea", "count": 3 }] });
    let put = app.put("/data").cookie(&guest).json(more).send();
    let put = put.expect(200);
    assert_eq!(put.header("set-cookie"), None);

    app.login("ada", "wrong")
        .cookie(&guest)
        .send()
        .expect_error(401);
    assert_eq!(
        data(app, &guest),
        put.json(),
        "a mistyped password costs nothing"
    );
    let ada = Tokens::of(&app.login("ada", "demo").cookie(&guest).send());
    assert_ne!(Value::from(ada.id.as_str()), me["session"]["id"]);
    assert_eq!(data(app, &ada.access), put.json());
    // At once: whoever knew the guest's token has nothing.
    app.get("/me").bearer(&guest).send().expect_error(401);
    let live = sql("SELECT id FROM sessions WHERE revoked_at IS NULL");
    assert_eq!(live.trim(), ada.id);

    let other = app.log_in("ada");
    assert_ne!(data(app, &other.access), put.json());
}

fn a_guests_basket_survives_a_login_that_is_sent_twice(app: &App, sql: Sql<'_>) {
    // One after the other, as when the answer was lost.
    let first = guest(app);
    let login = |guest: &str| Tokens::of(&app.login("ada", "demo").cookie(guest).send());
    let (one, other) = (login(&first), login(&first));
    for tokens in [&one, &other] {
        assert_eq!(data(app, &tokens.access), basket());
    }
    // Both at once.
    let second = guest(app);
    let answers = std::thread::scope(|scope| {
        let logins = [(); 4].map(|()| {
            let login = app.login("ada", "demo").cookie(&second);
            scope.spawn(move || Tokens::of(&login.send()))
        });
        logins.map(|login| login.join().unwrap())
    });
    for tokens in &answers {
        assert_eq!(data(app, &tokens.access), basket());
    }
    // Whoever planted the cookie logs in by it, and has nothing of the visitor's.
    for guest in [&first, &second] {
        let bob = Tokens::of(&app.login("bob", "demo").cookie(guest).send());
        assert_ne!(data(app, &bob.access), basket());
        app.get("/me").cookie(guest).send().expect_error(401);
    }
    // A logout is no lost answer.
    app.post("/logout").cookie(&one.access).send().expect(200);
    let after = login(&first);
    assert_ne!(data(app, &after.access), basket());
    let guests = sql("SELECT count(*) FROM sessions WHERE user_id IS NULL AND revoked_at IS NULL");
    assert_eq!(guests.trim(), "0");
}

fn a_guest_is_nobody(app: &App, _: Sql<'_>) {
    let guest = guest(app);
    let password = json!({ "password": "correct horse" });
    for request in [
        app.get("/sessions"),
        app.delete("/sessions"),
        app.get("/activity"),
        app.post("/reauthenticate").json(&password),
        app.put("/password").json(&password),
    ] {
        let refused = request.bearer(&guest).send().expect_error(401);
        assert!(refused.header("www-authenticate").is_some(), "{refused:?}");
    }
    app.post("/logout").cookie(&guest).send().expect(200);
    app.get("/me").cookie(&guest).send().expect_error(401);
}

fn a_login_works_beside_whatever_is_shown(app: &App, _: Sql<'_>) {
    let tokens = app.log_in("bob");
    for (what, headers) in bad_credentials(&tokens) {
        let mut login = app.login("ada", "demo");
        for (name, value) in headers {
            login = login.header(name, value);
        }
        let login = login.send();
        assert_eq!(login.status, 200, "{what}: {login:?}");
        app.me(&Tokens::of(&login)).expect(200);
    }
    app.me(&tokens).expect(200);
}

fn a_login_works_beside_a_session_that_is_over(app: &App, sql: Sql<'_>) {
    let (expired, deleted, out) = (guest(app), guest(app), app.log_in("ada"));
    let id = |token: &str| {
        let me = app.get("/me").bearer(token).send().expect(200).json();
        me["session"]["id"].as_str().unwrap().to_owned()
    };
    let expire = format!(
        "UPDATE sessions SET expires_at = created_at WHERE id = '{}'",
        id(&expired)
    );
    let delete = format!("DELETE FROM sessions WHERE id = '{}'", id(&deleted));
    sql(&expire);
    sql(&delete);
    app.post("/logout").bearer(&out.access).send().expect(200);
    for token in [&expired, &deleted, &out.access] {
        // As soon as it happens, whether or not the caches know of it yet.
        let login = app.login("ada", "demo").cookie(token).send();
        app.me(&Tokens::of(&login)).expect(200);
        eventually("it is over", || {
            app.get("/me").bearer(token).send().status == 401
        });
        let login = app.login("ada", "demo").cookie(token).send();
        app.me(&Tokens::of(&login)).expect(200);
    }
}

fn a_login_ends_the_session_before_it(app: &App, _: Sql<'_>) {
    let first = app.log_in("ada");
    let put = app.put("/data").bearer(&first.access).json(basket());
    put.send().expect(200);
    // The same user on the same device goes on.
    let second = Tokens::of(&app.login("ada", "demo").cookie(&first.access).send());
    app.me(&first).expect_error(401);
    assert_eq!(data(app, &second.access), basket());
    // Another user starts with nothing of it.
    let bob = Tokens::of(&app.login("bob", "demo").bearer(&second.access).send());
    app.me(&second).expect_error(401);
    assert_ne!(data(app, &bob.access), basket());
    let me = app.me(&bob).expect(200).json();
    assert_eq!(me["user"]["username"], "bob");
}

fn what_is_refused_is_not_taken_for_a_guest(app: &App, sql: Sql<'_>) {
    let tokens = app.log_in("ada");
    app.post("/logout")
        .bearer(&tokens.access)
        .send()
        .expect(200);
    for token in [tokens.access.as_str(), "garbage"] {
        for request in [app.get("/data"), app.put("/data").json(basket())] {
            // Told once; the cookie goes, and the next request shows none.
            let refused = request.cookie(token).send().expect_error(401);
            assert_eq!(refused.cookie(), "");
        }
    }
    assert_eq!(sql("SELECT count(*) FROM sessions").trim(), "1");
}
