//! A password given again, and changed.

use std::thread;
use std::time::Duration;

use serde_json::json;
use testbed::SqliteFile;

use crate::http::Response;
use crate::support::{App, Sql, Tokens, eventually, folder, on_both, program};

on_both!(
    a_password_change_takes_a_recent_login,
    a_password_change_ends_all_other_sessions,
    a_change_whose_client_goes_away_is_whole,
    a_change_under_way_does_not_outlive_its_session,
    a_wrong_password_proves_nothing,
    passwords_that_may_not_be_chosen_are_refused,
);

const NEW: &str = "correct horse";

/// Changes the password that the demo begins with.
fn change(app: &App, tokens: &Tokens, password: &str) -> Response {
    change_from(app, tokens, "demo", password)
}

fn change_from(app: &App, tokens: &Tokens, current: &str, password: &str) -> Response {
    let put = app.put("/password").bearer(&tokens.access);
    let body = json!({ "current_password": current, "password": password });
    put.json(body).send()
}

fn reauthenticate(app: &App, tokens: &Tokens, password: &str) -> Response {
    let post = app.post("/reauthenticate").bearer(&tokens.access);
    post.json(json!({ "password": password })).send()
}

/// Makes all logins old, and waits until the service knows.
#[track_caller]
fn age(app: &App, sql: Sql<'_>, tokens: &Tokens) {
    let long_ago = match app.tiers().contains("SQLite") {
        true => "0",
        false => "'epoch'",
    };
    sql(&format!(
        "UPDATE sessions SET authenticated_at = {long_ago}"
    ));
    eventually("the service hears of it", || {
        let me = app.me(tokens).expect(200).json();
        me["session"]["authenticated_at"] == "1970-01-01T00:00:00.000Z"
    });
}

fn a_password_change_takes_a_recent_login(app: &App, sql: Sql<'_>) {
    let old = app.log_in("ada");
    age(app, sql, &old);
    let refused = change(app, &old, NEW).expect_error(401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some(r#"Bearer error="insufficient_user_authentication", max_age="600""#)
    );
    assert_eq!(refused.header("set-cookie"), None);
    // A refresh proves nothing.
    let old = Tokens::of(&app.refresh(&old.refresh));
    change(app, &old, NEW).expect_error(401);
    app.login("ada", NEW).send().expect_error(401);

    let proved = Tokens::of(&reauthenticate(app, &old, "demo"));
    assert_ne!(proved.id, old.id);
    app.me(&old).expect_error(401);
    change(app, &proved, NEW).expect(200);
    app.login("ada", "demo").send().expect_error(401);
    app.login("ada", NEW).send().expect(200);
    app.log_in("bob");
}

fn a_password_change_ends_all_other_sessions(app: &App, _: Sql<'_>) {
    let (here, phone, bobs) = (app.log_in("ada"), app.log_in("ada"), app.log_in("bob"));
    let data = json!({ "note": "kept" });
    let put = app.put("/data").bearer(&here.access).json(data);
    put.send().expect(200);

    let changed = change(app, &here, NEW).expect(200);
    assert!(changed.json()["effective_within_ms"].is_u64());
    let after = Tokens::of(&changed);
    for tokens in [&here, &phone] {
        app.me(tokens).expect_error(401);
        app.refresh(&tokens.refresh).expect_error(401);
    }
    app.me(&bobs).expect(200);
    let data = app.get("/data").bearer(&after.access).send().expect(200);
    assert_eq!(data.json()["note"], "kept");
    app.refresh(&after.refresh).expect(200);
}

fn a_change_under_way_does_not_outlive_its_session(app: &App, _: Sql<'_>) {
    let (thief, owner) = (app.log_in("ada"), app.log_in("ada"));
    let put = app.put("/password").bearer(&thief.access);
    let body = json!({ "current_password": "demo", "password": "mine, all mine" });
    let slow = put.json(body);
    let slow = slow.send_until_awaited();
    change(app, &owner, NEW).expect(200);
    slow.finish().expect_error(401);
    app.login("ada", "mine, all mine").send().expect_error(401);
    app.login("ada", NEW).send().expect(200);
}

fn a_wrong_password_proves_nothing(app: &App, sql: Sql<'_>) {
    let tokens = app.log_in("ada");
    age(app, sql, &tokens);
    for wrong in ["wrong", "", "demo\0", "Demo"] {
        let refused = reauthenticate(app, &tokens, wrong).expect_error(403);
        assert_eq!(refused.header("set-cookie"), None);
    }
    change(app, &tokens, NEW).expect_error(401);
    app.me(&tokens).expect(200);
}

fn passwords_that_may_not_be_chosen_are_refused(app: &App, _: Sql<'_>) {
    let tokens = app.log_in("ada");
    for bad in [
        "",
        "1234567",
        "äöü",
        &"x".repeat(513),
        // Those that are tried first.
        "12345678",
        "password1",
        "ada@example.com",
    ] {
        change(app, &tokens, bad).expect_error(422);
    }
    change(app, &tokens, &"x".repeat(5000)).expect_error(413);
    let put = app.put("/password").bearer(&tokens.access);
    put.json(json!({ "current_password": "demo", "password": 12345678 }))
        .send()
        .expect_error(422);
    app.log_in("ada");

    // Nor is any without the present one, and nothing is said of it.
    for (wrong, new) in [("wrong", NEW), ("", "1234567"), (NEW, "password1")] {
        let refused = change_from(app, &tokens, wrong, new).expect_error(403);
        assert_eq!(refused.header("set-cookie"), None);
    }
    let put = app.put("/password").bearer(&tokens.access);
    put.json(json!({ "password": NEW }))
        .send()
        .expect_error(422);
    app.log_in("ada");

    // Each that may be chosen opens the door afterwards, whatever its letters.
    let (mut tokens, mut current) = (tokens, "demo");
    let long = "\u{1}\u{2}xK9".repeat(102);
    for good in ["pässwörd🦀", "a\0b\u{1}cdefg", &long] {
        tokens = Tokens::of(&change_from(app, &tokens, current, good));
        app.login("ada", good).send().expect(200);
        current = good;
    }
}

#[test]
fn how_recent_a_login_must_be_can_be_told() {
    let (file, folder) = (SqliteFile::create(), folder());
    let limit = |variable: &str, flags: &[&str]| {
        let args = ["--listen", "127.0.0.1:0", "--no-redis", "--database"];
        let mut command = program(folder.path(), &args);
        command.arg(file.url()).args(flags);
        let app = App::spawn(command.env("REAUTHENTICATE_AFTER", variable));
        let tokens = app.log_in("ada");
        age(&app, &|sql| file.sql(sql), &tokens);
        let refused = change(&app, &tokens, NEW).expect_error(401);
        let challenge = refused.header("www-authenticate").unwrap();
        let max_age = challenge.split("max_age=").nth(1).unwrap();
        max_age.trim_matches('"').to_owned()
    };
    assert_eq!(limit("", &[]), "600");
    assert_eq!(limit("90m", &[]), "5400");
    assert_eq!(limit("90m", &["--reauthenticate-after", "1h"]), "3600");
}

/// Whoever hangs up at any moment leaves the password as it was, or all other sessions ended.
fn a_change_whose_client_goes_away_is_whole(app: &App, sql: Sql<'_>) {
    let mut current = "demo".to_owned();
    let (mut kept, mut changed) = (0, 0);
    for round in 0..12 {
        let owner = Tokens::of(&app.login("ada", &current).send());
        let other = Tokens::of(&app.login("ada", &current).send());
        let next = format!("correct horse {round}");
        let put = app.put("/password").bearer(&owner.access);
        let body = json!({ "current_password": current, "password": next });
        let pending = put.json(body).send_all_but(0);
        thread::sleep(Duration::from_millis(round * 15));
        drop(pending);
        // What was begun comes to its end.
        let hash = || sql("SELECT password_hash FROM users WHERE username = 'ada'");
        let mut before = hash();
        thread::sleep(Duration::from_millis(300));
        eventually("nothing goes on", || {
            let now = hash();
            let same = now == before;
            before = now;
            thread::sleep(Duration::from_millis(100));
            same
        });
        let is_new = app.login("ada", &next).send().status == 200;
        let live = sql(&format!(
            "SELECT count(*) FROM sessions WHERE id = '{}' AND is_active",
            other.id
        ));
        assert_eq!(live.trim(), if is_new { "0" } else { "1" }, "{round}");
        if is_new {
            eventually("the other is out", || app.me(&other).status == 401);
            current = next;
            changed += 1;
        } else {
            app.me(&other).expect(200);
            kept += 1;
        }
    }
    // On a quick machine all may be done, on a slow one none.
    assert_eq!(kept + changed, 12);
}
