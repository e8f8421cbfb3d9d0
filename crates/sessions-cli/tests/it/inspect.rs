//! What each tier holds of a session, and why a node would not believe Redis.

use session_core::{Device, SessionId};
use tier_cache::{Issued, Login};

use crate::support::{KEY, Node, Service, contains, on_both, told};

on_both!(
    a_root_that_is_being_rotated_is_accepted_too,
    a_foreign_session_is_found_under_any_root,
    a_live_session_is_in_both_tiers,
    a_record_made_stale_by_plain_sql_is_refused_and_why,
    a_deleted_session_is_told_of,
    one_that_is_not_used_is_idle,
    a_token_comes_by_standard_input_and_is_never_shown,
    foreign_keys_come_by_standard_input,
    what_is_not_there_is_an_error,
    without_redis_the_database_is_told_of,
    another_root_key_reads_nothing_in_redis,
    what_a_client_chose_moves_no_cursor,
);

type Data = Box<serde_json::value::RawValue>;

async fn login(node: &Node) -> Issued<Data> {
    node.login(Login::guest()).await.expect("a login")
}

async fn a_live_session_is_in_both_tiers(service: Service) {
    let node = service.node().await;
    let ada = service.add_user("ada");
    let issued = node.login(Login::user(ada)).await.unwrap();
    let id = issued.session.id();
    let told = service.run(&["inspect", &id.to_string()]);
    contains(
        told.done(),
        &[
            &id.to_string(),
            "database: active",
            "ada <ada@example.com>",
            "Redis: a head",
            "as in the database",
            "believes it",
            "other processes cannot be seen",
        ],
    );
    let seen = service.inspect(id);
    assert_eq!(seen["database"]["row"]["standing"], "active");
    assert_eq!(seen["database"]["row"]["version"], 1);
    assert_eq!(seen["redis"][0]["kind"], "head");
    assert_eq!(seen["redis"][0]["admission"], "admitted");
    assert_eq!(seen["gate"]["lineage"], seen["database"]["lineage"]);

    node.revoke(id).await.unwrap();
    let seen = service.inspect(id);
    assert_eq!(seen["database"]["row"]["standing"], "revoked");
    assert_eq!(seen["redis"][0]["kind"], "tombstone");
}

async fn a_record_made_stale_by_plain_sql_is_refused_and_why(service: Service) {
    let node = service.node().await;
    let id = login(&node).await.session.id();
    service.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    let told = service.run(&["inspect", &id.to_string()]);
    contains(
        told.done(),
        &[
            "database: switched off",
            "1, older than the database's 2",
            "refuses it: version 1 lies below the floor 2",
        ],
    );
    let seen = service.inspect(id);
    assert_eq!(seen["redis"][0]["admission"], "below-floor");
    assert_eq!(seen["gate"]["floor"]["version"], 2);
    assert_eq!(
        seen["gate"]["floor"]["change"],
        seen["database"]["row"]["change"]
    );

    // One that knows no more than a few changes back refuses it for its mark.
    for _ in 0..4 {
        login(&node).await;
    }
    service.sql(&format!(
        "UPDATE sessions SET label = 'changed' WHERE id <> '{id}'"
    ));
    let mut seen = told_with_few_floors(&service, id);
    for _ in 0..600 {
        // On a shared server it remembers more while other tests' older transactions are open.
        if seen.contains("refuses it: its mark") {
            break;
        }
        seen = told_with_few_floors(&service, id);
    }
    contains(
        &seen,
        &[
            "refuses it: its mark",
            "since which the node knows every change",
        ],
    );
}

fn told_with_few_floors(service: &Service, id: SessionId) -> String {
    let mut command = service.command(&["inspect", &id.to_string()]);
    let told = told(command.env("SESSION_FENCE__MAX_FLOORS", "2"), "");
    told.done().to_owned()
}

async fn a_deleted_session_is_told_of(service: Service) {
    let id = login(&service.node().await).await.session.id();
    service.sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    let told = service.run(&["inspect", &id.to_string()]);
    contains(
        told.done(),
        &["database: deleted", "refuses it: the session was deleted"],
    );
    assert_eq!(service.inspect(id)["gate"]["deleted"], true);
}

async fn one_that_is_not_used_is_idle(service: Service) {
    let idle = Login::guest().idle_ttl(std::time::Duration::from_secs(300));
    let node = service.node().await;
    let id = node.login(idle).await.unwrap().session.id();
    let long_ago = match service.url().starts_with("sqlite") {
        true => "1000",
        false => "to_timestamp(1)",
    };
    service.sql(&format!(
        "UPDATE sessions SET last_seen_at = {long_ago} WHERE id = '{id}'"
    ));
    // A use is no change that matters: the record in Redis says what it said.
    let told = service.run(&["inspect", &id.to_string()]);
    contains(
        told.done(),
        &["not used for too long since 1970", "believes it"],
    );
    let seen = service.inspect(id);
    assert_eq!(seen["database"]["row"]["standing"], "idle");
    assert_eq!(seen["redis"][0]["standing"], "active");
}

async fn a_token_comes_by_standard_input_and_is_never_shown(service: Service) {
    let node = service.node().await;
    let Issued {
        session,
        access,
        refresh,
    } = login(&node).await;
    let hash = node.keys().hash(&access);
    let hash: String = hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let (access, refresh) = (access.expose(), refresh.expose());
    let silent = |text: &str| {
        for secret in [access.as_str(), refresh.as_str(), &hash] {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    };
    for (token, words) in [
        (&access, "an access token, the one"),
        (&refresh, "a refresh token, the one"),
    ] {
        let input = format!("{}\n", token.as_str());
        let mut command = service.command(&["inspect", "-"]);
        // Whatever is logged.
        let told = told(command.env("RUST_LOG", "trace"), &input);
        contains(told.done(), &[words, &session.id().to_string()]);
        silent(&told.out);
        silent(&told.err);
        let json = service.run_with(&["inspect", "-", "--json"], &input);
        assert_eq!(json.json()["token"]["present"], true);
        silent(&json.out);
    }

    // Where it does not belong it is not repeated either.
    for args in [
        &["inspect", access.as_str()][..],
        &["revoke", access.as_str()],
        &["warm-up", access.as_str()],
        &["list", access.as_str()],
        &[access.as_str()],
    ] {
        let told = service.run(args);
        told.failed(2);
        silent(&told.err);
    }
    let told = service.run_with(&["inspect", "-"], "no token");
    contains(told.failed(1), &["no token of ours"]);
    contains(service.run(&["inspect", "-"]).failed(1), &["empty"]);
}

async fn foreign_keys_come_by_standard_input(service: Service) {
    let node = service.node().await;
    let adopted = node.adopt(
        Login::guest(),
        Some(foreign("their-jti")),
        Some(foreign("their-refresh")),
    );
    let id = adopted.await.unwrap().id().to_string();
    for (flag, input) in [("--jti", "their-jti\n"), ("--refresh", "their-refresh")] {
        let told = service.run_with(&["inspect", flag, "--issuer", ISSUER], input);
        contains(
            told.done(),
            &[&id, "Redis: a head", "under its foreign access key"],
        );
        assert!(!told.out.contains(input.trim()), "{told:?}");
        let json = service
            .run_with(&["inspect", flag, "--issuer", ISSUER, "--json"], input)
            .json();
        assert_eq!(json["redis"].as_array().unwrap().len(), 3);
    }
    let told = service.run_with(&["inspect", "--jti", "--issuer", ISSUER], "nobody's");
    contains(told.failed(1), &["no tier knows"]);
}

async fn what_is_not_there_is_an_error(service: Service) {
    service.node().await;
    let id = SessionId::random().to_string();
    contains(
        service.run(&["inspect", &id]).failed(1),
        &["no tier knows", &id],
    );
    let told = service.run(&["inspect", "garbage-of-any-kind"]);
    assert!(!told.failed(2).contains("garbage"), "{told:?}");
}

async fn without_redis_the_database_is_told_of(service: Service) {
    let id = login(&service.node().await).await.session.id();
    service.redis.kill();
    let told = service.run(&["inspect", &id.to_string()]);
    contains(told.done(), &["database: active", "Redis: not to be asked"]);
    assert_eq!(service.inspect(id)["redis"][0]["found"], "unanswered");

    let told = service.run(&["inspect", &id.to_string(), "--redis", ""]);
    contains(told.done(), &["Redis: none is named"]);
}

async fn another_root_key_reads_nothing_in_redis(service: Service) {
    let id = login(&service.node().await).await.session.id();
    let mut command = service.command(&["inspect", &id.to_string()]);
    let told = told(
        command.env("SESSION_KEY", format!("not {KEY}").replace("root", "other")),
        "",
    );
    contains(
        told.done(),
        &["something that no node reads", "seal does not match"],
    );
}

async fn what_a_client_chose_moves_no_cursor(service: Service) {
    let node = service.node().await;
    let device = Device {
        user_agent: Some("evil\u{1b}[2J\u{202e}agent".into()),
        ..Device::default()
    };
    let ada = service.add_user("ada");
    let login = Login::user(ada).device(device);
    let id = node.login(login).await.unwrap().session.id().to_string();
    for args in [&["inspect", id.as_str()][..], &["list", &ada.to_string()]] {
        let told = service.run(args);
        contains(told.done(), &[r"evil\u{1b}[2J\u{202e}agent"]);
    }
}

const ISSUER: &str = "https://idp.example";

fn foreign(id: &str) -> session_core::ForeignToken<'_> {
    session_core::ForeignToken::new(ISSUER, id).unwrap()
}

async fn a_root_that_is_being_rotated_is_accepted_too(service: Service) {
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let (id, token) = (issued.session.id().to_string(), issued.access.expose());
    let next = "8Yq0v3JmZk1xT5Wn7RbLd2HsPcGfEaUi";
    let asked = |variable: Option<&str>| {
        let mut command = service.command(&["inspect", "-"]);
        command.env("SESSION_KEY", next);
        if let Some(variable) = variable {
            command.env(variable, KEY);
        }
        told(&mut command, &token)
    };
    contains(
        asked(Some("SESSION_KEY_RETIRED")).done(),
        &[&id, "believes it"],
    );
    contains(
        asked(Some("SESSION_KEY_NEXT")).done(),
        &[&id, "believes it"],
    );
    // What a leaked root has sealed is not believed.
    for unbelieved in [asked(Some("SESSION_KEY_LEAKED")), asked(None)] {
        assert!(!unbelieved.out.contains("believes it"), "{unbelieved:?}");
    }
    let mut command = service.command(&["inspect", "-"]);
    let told = told(command.env("SESSION_KEY_RETIRED", KEY), &token);
    contains(told.failed(1), &["MAC key in common"]);
}

async fn a_foreign_session_is_found_under_any_root(service: Service) {
    let node = service.node().await;
    let adopted = node.adopt(
        Login::guest(),
        Some(foreign("their-jti")),
        Some(foreign("their-refresh")),
    );
    let id = adopted.await.unwrap().id().to_string();
    for (flag, input) in [("--jti", "their-jti"), ("--refresh", "their-refresh")] {
        let asked = |variable: Option<&str>| {
            let mut command = service.command(&["inspect", flag, "--issuer", ISSUER]);
            command.env("SESSION_KEY", "8Yq0v3JmZk1xT5Wn7RbLd2HsPcGfEaUi");
            if let Some(variable) = variable {
                command.env(variable, KEY);
            }
            told(&mut command, input)
        };
        for variable in [
            "SESSION_KEY_RETIRED",
            "SESSION_KEY_NEXT",
            "SESSION_KEY_LEAKED",
        ] {
            contains(asked(Some(variable)).done(), &[&id]);
        }
        contains(asked(None).failed(1), &["no tier knows"]);
    }
}
