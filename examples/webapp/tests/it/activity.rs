//! What users, and operators, see of what happened to sessions.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::support::{App, Sql, Tokens, eventually, folder, on_both, program};

on_both!(a_user_sees_own_activity_only, activity_is_bounded);

#[track_caller]
fn activity(app: &App, tokens: &Tokens) -> Value {
    let get = app.get("/activity").bearer(&tokens.access);
    get.send().expect(200).json()
}

/// The kinds of a user's events, the latest first.
#[track_caller]
fn kinds(app: &App, tokens: &Tokens) -> Vec<String> {
    let seen = activity(app, tokens);
    let events = seen["events"].as_array().unwrap().iter();
    events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

fn a_user_sees_own_activity_only(app: &App, _: Sql<'_>) {
    let guest = app.put("/data").json(json!({})).send().expect(200);
    let guest = guest.cookie();
    let ada = Tokens::of(&app.login("ada", "demo").bearer(guest).send());
    let (phone, bob) = (app.log_in("ada"), app.log_in("bob"));
    let new = Tokens::of(&app.refresh(&ada.refresh));
    app.post("/logout").bearer(&phone.access).send().expect(200);
    app.get("/me")
        .bearer(&phone.access)
        .send()
        .expect_error(401);

    // They are kept behind the requests' backs.
    eventually("all of it is seen", || {
        kinds(app, &new) == ["revoked", "refreshed", "created", "rotated"]
    });
    let seen = activity(app, &new);
    assert_eq!(seen["missed"], 0);
    assert_eq!(seen["events"][0]["session"], phone.id);
    assert_eq!(seen["events"][0]["reason"], "asked");
    assert_eq!(seen["events"][3]["to"], new.id);
    let times = seen["events"].as_array().unwrap().iter();
    let mut times: Vec<&str> = times.map(|event| event["at"].as_str().unwrap()).collect();
    times.push(seen["since"].as_str().unwrap());
    assert!(
        times.is_sorted_by(|later, earlier| later >= earlier),
        "{seen}"
    );

    eventually("bob's is seen", || kinds(app, &bob) == ["created"]);
    for (own, other) in [(&new, &bob), (&bob, &new)] {
        let text = activity(app, own).to_string();
        assert!(!text.contains(&other.id), "{text}");
        for tokens in [&ada, &phone, &bob, &new] {
            for secret in [&tokens.access, &tokens.refresh] {
                assert!(!text.contains(secret.as_str()), "{text}");
            }
        }
        assert!(!text.contains(guest), "{text}");
    }
}

fn activity_is_bounded(app: &App, _: Sql<'_>) {
    let mut tokens = app.log_in("ada");
    for _ in 0..60 {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
    }
    eventually("the login is forgotten", || {
        let kinds = kinds(app, &tokens);
        kinds.len() == 50 && kinds.iter().all(|kind| kind == "refreshed")
    });
}

#[test]
fn the_log_tells_operators_what_happened_and_no_secret() {
    let folder = folder();
    let path = folder.path().join("log");
    let mut command = program(folder.path(), &["--listen", "127.0.0.1:0", "--no-redis"]);
    let log = File::create(&path).unwrap();
    // As much as by default.
    let app = App::spawn(command.env_remove("RUST_LOG").stderr(log));
    let guest = app.put("/data").json(json!({})).send().expect(200);
    let login = app.login("ada", "demo").bearer(guest.cookie()).send();
    let ada = Tokens::of(&login);
    app.log_in("ada");
    let password = "correct horse battery";
    let change = app.put("/password").bearer(&ada.access);
    let change = change
        .json(json!({ "current_password": "demo", "password": password }))
        .send();
    let new = Tokens::of(&change);
    app.post("/logout").bearer(&new.access).send().expect(200);

    let told = |what: &str, id: &str| {
        let log = fs::read_to_string(&path).unwrap();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("INFO session_audit:") && line.contains(what) && line.contains(id)
        })
    };
    eventually("the end is told", || told("revoked", &new.id));
    assert!(told("rotated", &ada.id));
    assert!(told("rotated", &new.id));
    let log = fs::read_to_string(&path).unwrap();
    let tokens = [&ada, &new].map(|tokens| [tokens.access.as_str(), &tokens.refresh]);
    for secret in tokens
        .as_flattened()
        .iter()
        .chain(&[guest.cookie(), password])
    {
        assert!(!log.contains(secret), "{log}");
    }
}
