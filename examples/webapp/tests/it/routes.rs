//! What each route does when all is well, on either database.

use serde_json::json;

use crate::support::{App, Sql, Tokens, eventually, on_both};

on_both!(
    a_login_is_known_by_cookie_and_by_token,
    a_user_sees_and_ends_own_sessions_only,
    a_logout_ends_the_session,
    a_logout_ends_each_session_that_it_shows,
    a_refresh_replaces_both_tokens,
    a_user_logs_out_on_every_device,
    data_is_kept_per_session,
    data_of_another_release_is_read_and_replaced,
    plain_sql_revokes,
    operators_see_health_and_metrics,
    the_page_brings_its_own_files,
);

fn a_login_is_known_by_cookie_and_by_token(app: &App, sql: Sql<'_>) {
    let body = json!({ "username": "ada", "password": "demo" });
    let login = app.post("/login").json(body).send().expect(200);
    let told = login.json();
    assert!(told["expires_at"].as_str().unwrap().ends_with('Z'));
    // Beside the cookie no script is told a token.
    assert_eq!(told.as_object().unwrap().len(), 2, "{told}");
    let id = told["session_id"].as_str().unwrap();
    let access = login.cookie();
    assert_eq!(login.header("cache-control"), Some("no-store"));
    let cookie = login.header("set-cookie").unwrap();
    for part in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let stored = sql("SELECT id FROM sessions");
    assert_eq!(stored.trim(), id);

    for me in [app.get("/me").cookie(access), app.get("/me").bearer(access)] {
        let me = me.send().expect(200).json();
        let user = me["user"]["id"].as_i64().unwrap();
        assert_eq!(
            me["user"],
            json!({ "id": user, "email": "ada@example.com", "username": "ada" })
        );
        assert_eq!(me["session"]["id"], id);
        assert_eq!(me["session"]["version"], 1);
        assert_eq!(me["tier"], "hot");
    }
    // A program asks for tokens, and gets no cookie; one that it shows goes with its session.
    let program = app.login("ada", "demo").send();
    assert_eq!(program.header("set-cookie"), None);
    app.me(&Tokens::of(&program)).expect(200);
    let program = app.login("ada", "demo").cookie(access).send();
    assert_eq!(program.cookie(), "");
    let tokens = Tokens::of(&program);
    app.get("/me").cookie(access).send().expect_error(401);
    // What is shown in a cookie goes on in one, what is shown in the header does so there.
    let again = json!({ "password": "demo" });
    let own = app.post("/reauthenticate").bearer(&tokens.access);
    let own = own.header("Cookie", "theme=dark");
    let own = own.json(&again).send();
    let tokens = Tokens::of(&own);
    let own = app.post("/reauthenticate").cookie(&tokens.access);
    let own = own.bearer("made-up");
    let own = own.json(&again).send().expect(200);
    assert_eq!(own.json().as_object().unwrap().len(), 2, "{own:?}");
    app.get("/me").cookie(own.cookie()).send().expect(200);
    app.log_in("bob");
}

fn a_user_sees_and_ends_own_sessions_only(app: &App, _: Sql<'_>) {
    let first = app.login("ada", "demo").header("User-Agent", "curl/7.88.1");
    let first = first.send();
    let first = Tokens::of(&first);
    let second = app.log_in("ada");
    let bobs = app.log_in("bob");

    let listed = app
        .get("/sessions")
        .bearer(&second.access)
        .send()
        .expect(200)
        .json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let of = |id: &str| listed.iter().find(|one| one["id"] == id).unwrap();
    assert_eq!(of(&first.id)["current"], false);
    assert_eq!(of(&second.id)["current"], true);
    assert_eq!(
        of(&first.id)["device"],
        json!({ "ip": "127.0.0.1", "user_agent": "curl/7.88.1", "label": "curl" })
    );

    // Not bob's, and the answer does not tell it from one that never was.
    let path = |id: &str| format!("/sessions/{id}");
    let foreign = app.delete(&path(&bobs.id)).bearer(&second.access).send();
    let unknown = app
        .delete("/sessions/00000000-0000-4000-8000-000000000000")
        .bearer(&second.access)
        .send();
    assert_eq!(
        foreign.expect_error(404).body,
        unknown.expect_error(404).body
    );
    app.me(&bobs).expect(200);

    let ended = app
        .delete(&path(&first.id))
        .bearer(&second.access)
        .send()
        .expect(200);
    let within = ended.json()["effective_within_ms"].as_u64().unwrap();
    assert!((1..=30_000).contains(&within), "{within}");
    assert_eq!(ended.header("set-cookie"), None);
    app.me(&first).expect_error(401);
    app.me(&second).expect(200);
    app.delete(&path(&first.id))
        .bearer(&second.access)
        .send()
        .expect_error(404);

    let own = app
        .delete(&path(&second.id))
        .cookie(&second.access)
        .send()
        .expect(200);
    assert_eq!(own.cookie(), "");
    app.me(&second).expect_error(401);
}

fn a_logout_ends_each_session_that_it_shows(app: &App, _: Sql<'_>) {
    let (one, other, kept) = (app.log_in("ada"), app.log_in("ada"), app.log_in("bob"));
    let twice = format!("{0}; __Host-session={0}", one.access);
    app.get("/me").cookie(&twice).send().expect(200);
    let two = format!("{}; __Host-session={}", one.access, other.access);
    let refused = app.get("/me").cookie(&two).send().expect_error(401);
    assert!(refused.body.contains("log out"), "{refused:?}");
    let me = app.get("/me").cookie(&two).bearer(&kept.access).send();
    assert_eq!(me.expect(200).json()["user"]["username"], "bob");

    let out = app.post("/logout").cookie(&two).send().expect(200);
    assert_eq!(out.cookie(), "");
    app.me(&one).expect_error(401);
    app.me(&other).expect_error(401);
    app.me(&kept).expect(200);
    app.post("/logout").cookie(&two).send().expect_error(401);
}

fn a_logout_ends_the_session(app: &App, sql: Sql<'_>) {
    let tokens = app.log_in("ada");
    let other = app.log_in("ada");
    let out = app
        .post("/logout")
        .cookie(&tokens.access)
        .send()
        .expect(200);
    assert!(out.json()["effective_within_ms"].as_u64().unwrap() <= 30_000);
    assert_eq!(out.cookie(), "");
    app.me(&tokens).expect_error(401);
    let stale = app.get("/me").cookie(&tokens.access).send();
    assert_eq!(stale.expect_error(401).cookie(), "");
    app.refresh(&tokens.refresh).expect_error(401);
    app.me(&other).expect(200);
    let revoked = sql("SELECT id FROM sessions WHERE revoked_at IS NOT NULL");
    assert_eq!(revoked.trim(), tokens.id);

    let again = app
        .post("/logout")
        .cookie(&tokens.access)
        .send()
        .expect_error(401);
    assert_eq!(again.cookie(), "");
}

fn a_refresh_replaces_both_tokens(app: &App, _: Sql<'_>) {
    let old = app.log_in("ada");
    let new = Tokens::of(&app.refresh(&old.refresh));
    assert_eq!(new.id, old.id);
    let me = app.me(&new).expect(200).json();
    assert_eq!(me["session"]["version"], 2);
    app.me(&old).expect_error(401);
    let again = Tokens::of(&app.refresh(&old.refresh));
    assert_eq!(
        again.access, new.access,
        "an answer that was lost comes again"
    );
}

fn a_user_logs_out_on_every_device(app: &App, _: Sql<'_>) {
    let (phone, laptop) = (app.log_in("ada"), app.log_in("ada"));
    let bobs = app.log_in("bob");
    let out = app
        .delete("/sessions")
        .cookie(&phone.access)
        .send()
        .expect(200);
    assert_eq!(out.cookie(), "");
    for tokens in [&phone, &laptop] {
        app.me(tokens).expect_error(401);
    }
    app.me(&bobs).expect(200);
    app.delete("/sessions").send().expect_error(401);
}

fn data_of_another_release_is_read_and_replaced(app: &App, sql: Sql<'_>) {
    let kg = r#"{"basket":[{"name":"x","count":2,"unit":"kg"}]}"#;
    let x = json!([{ "name": "x", "count": 2 }]);
    // Deeper than serde_json goes.
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let none = json!([]);
    for (stored, basket) in [
        (kg, &x),
        (r#"{"basket":[{"count":2}],"note":[]}"#, &none),
        (r#""text""#, &none),
        (deep.as_str(), &none),
    ] {
        let tokens = app.log_in("ada");
        let write = || {
            let id = &tokens.id;
            sql(&format!(
                "UPDATE sessions SET data = '{stored}' WHERE id = '{id}'"
            ));
            eventually("it is seen", || {
                let seen = app.get("/me").bearer(&tokens.access).send().expect(200);
                let version = sql(&format!("SELECT version FROM sessions WHERE id = '{id}'"));
                let version: i64 = version.trim().parse().unwrap();
                seen.json()["session"]["version"] == version
            });
        };
        let read = |access: &str| {
            let data = app.get("/data").bearer(access).send().expect(200);
            data.json()["basket"].clone()
        };
        write();
        assert_eq!(read(&tokens.access), *basket, "{stored:.80}");
        let put = app.put("/data").bearer(&tokens.access);
        let put = put.json(json!({ "note": "new" })).send().expect(200);
        assert_eq!(put.json()["note"], "new");
        let of = |id: &str| sql(&format!("SELECT data FROM sessions WHERE id = '{id}'"));
        assert!(of(&tokens.id).contains("new"), "{stored:.80}");

        write();
        let login = app.login("ada", "demo").bearer(&tokens.access).send();
        let next = Tokens::of(&login);
        assert_eq!(read(&next.access), *basket, "{stored:.80}");
        let kept = of(&next.id);
        assert!(
            !kept.contains("kg") && !kept.contains("text") && !kept.contains("[["),
            "{kept:.80}"
        );
    }
}

fn data_is_kept_per_session(app: &App, _: Sql<'_>) {
    let (one, other) = (app.log_in("ada"), app.log_in("ada"));
    let empty = json!({ "theme": "system", "note": "", "basket": [] });
    let read = |tokens: &Tokens| {
        app.get("/data")
            .bearer(&tokens.access)
            .send()
            .expect(200)
            .json()
    };
    assert_eq!(read(&one), empty);

    let sent = json!({ "theme": "dark", "note": "Grüße 🦀", "basket": [{ "name": "tea" }] });
    let put = app
        .put("/data")
        .bearer(&one.access)
        .json(sent)
        .send()
        .expect(200)
        .json();
    let basket = json!([{ "name": "tea", "count": 1 }]);
    assert_eq!(
        put,
        json!({ "theme": "dark", "note": "Grüße 🦀", "basket": basket })
    );
    assert_eq!(read(&one), put);
    assert_eq!(read(&other), empty);
}

fn plain_sql_revokes(app: &App, sql: Sql<'_>) {
    let tokens = app.log_in("ada");
    app.me(&tokens).expect(200);
    sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{}'",
        tokens.id
    ));
    crate::support::eventually("the service hears of it", || app.me(&tokens).status == 401);
    app.me(&tokens).expect_error(401);

    let bobs = app.log_in("bob");
    sql("UPDATE users SET is_active = false WHERE username = 'bob'");
    crate::support::eventually("bob is out", || app.me(&bobs).status == 401);
    let body = json!({ "username": "bob", "password": "demo" });
    app.post("/login").json(body).send().expect_error(401);
}

fn operators_see_health_and_metrics(app: &App, _: Sql<'_>) {
    assert_eq!(
        app.get("/healthz").send().expect(200).json()["status"],
        "ok"
    );
    // Everybody is told whether it is ready, and no more.
    let ready = app.get("/readyz").send().expect(200).json();
    assert_eq!(ready, json!({ "ready": true }));
    app.get("/metrics").send().expect_error(404);
    app.operations("/healthz").expect(200);
    app.operations("/me").expect(404);
    let ready = app.operations("/readyz").expect(200).json();
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["hot"], "up");
    let has_redis = !app.tiers().contains("warm: none");
    assert_eq!(
        ready["warm"],
        if has_redis { json!("up") } else { json!("off") }
    );
    let kind = if has_redis { "postgres" } else { "sqlite" };
    assert_eq!(
        (&ready["cold"], &ready["store"]),
        (&json!("up"), &json!(kind))
    );

    let tokens = app.log_in("ada");
    let hot = "session_lookups_total{tier=\"hot\"}";
    let loads = "session_db_queries_total{op=\"load\"}";
    let before = (app.metric(hot), app.metric(loads));
    for _ in 0..10 {
        assert_eq!(app.tier(&tokens), "hot");
    }
    assert_eq!(app.metric(hot), before.0 + 10.0);
    assert_eq!(app.metric(loads), before.1);
    for tier in ["warm", "cold", "miss"] {
        app.metric(&format!("session_lookups_total{{tier=\"{tier}\"}}"));
    }
    app.metric("session_rebuilds_total");
    crate::support::eventually("what is hot is counted", || {
        app.metric("session_cached_entries{tier=\"hot\"}") >= 1.0
            && app.metric("session_cached_bytes{tier=\"hot\"}") > 0.0
    });
    let metrics = app.operations("/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert!(metrics.body.contains("\nsession_redis_commands_total"));
    assert!(!metrics.body.contains(&tokens.id));
}

fn the_page_brings_its_own_files(app: &App, _: Sql<'_>) {
    let page = app.get("/").send().expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    // What the policy would not let run.
    assert!(!page.body.contains("<style") && !page.body.contains("style="));
    assert!(!page.body.contains("<script>") && !page.body.contains(" onclick"));
    for (path, kind) in [
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/ask.js", "text/javascript"),
        ("/basket.js", "text/javascript"),
        ("/devices.js", "text/javascript"),
        ("/activity.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        assert!(page.body.contains(&format!("\"{path}\"")), "{path}");
        let file = app.get(path).send().expect(200);
        assert!(file.header("content-type").unwrap().starts_with(kind));
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    }
}
