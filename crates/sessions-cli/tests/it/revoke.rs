//! Sessions are ended, and every node hears of it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use session_core::{SessionId, TokenKeys, TokenKind};
use tier_cache::{Login, Refusal};

use crate::support::{Node, Service, Told, contains, on_both, told};

on_both!(
    one_is_ended_once_and_other_nodes_hear_of_it,
    a_token_names_its_session,
    of_a_user_all_but_one,
    those_that_began_before_an_instant,
    everyone_is_asked_about_first,
    ctrl_c_at_the_question_ends_nothing,
    without_redis_the_database_knows,
    without_a_key_there_is_no_redis,
);

async fn logins(node: &Node, user: i64, count: usize) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(node.login(Login::user(user)).await.unwrap().session.id());
    }
    ids
}

async fn one_is_ended_once_and_other_nodes_hear_of_it(service: Service) {
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id().to_string();
    node.find(issued.access.clone()).await.unwrap();
    let told = service.run(&["revoke", &id]);
    contains(
        told.done(),
        &["revoked 1 session", "every node refuses it by 20", "1m"],
    );
    // The push may take its time.
    let mut found = node.find(issued.access.clone()).await;
    for _ in 0..6000 {
        if found.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        found = node.find(issued.access.clone()).await;
    }
    assert!(matches!(found, Err(Refusal::Revoked)), "{found:?}");
    let told = service.run(&["revoke", &id]);
    contains(told.done(), &["nothing to revoke"]);
    let unknown = SessionId::random().to_string();
    let told = service.run(&["revoke", &unknown, "--json"]).json();
    assert_eq!(told["revoked"], 0);
    let told = service.run(&["revoke", "garbage"]);
    assert!(!told.failed(2).contains("garbage"));
}

async fn a_token_names_its_session(service: Service) {
    let node = service.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let token = issued.access.expose();
    let of_others = TokenKeys::random().mint(TokenKind::Access, issued.session.id());
    let told = service.run_with(&["revoke", "-"], &of_others.expose());
    contains(told.failed(1), &["signature is not accepted", "root key"]);
    assert_eq!(service.active(), 1);
    let told = service.run_with(&["revoke", "-"], &token);
    contains(told.done(), &["revoked 1 session"]);
    assert!(!told.out.contains(token.as_str()));
    assert_eq!(service.active(), 0);
}

async fn of_a_user_all_but_one(service: Service) {
    let node = service.node().await;
    let (ada, bob) = (service.add_user("ada"), service.add_user("bob"));
    let ids = logins(&node, ada, 3).await;
    logins(&node, bob, 1).await;
    let (ada, kept) = (ada.to_string(), ids[1].to_string());
    let told = service.run(&["revoke", "--user", &ada, "--except", &kept]);
    contains(
        told.done(),
        &["revoked 2 sessions", "every node refuses them"],
    );
    assert_eq!(
        service.inspect(ids[1])["database"]["row"]["standing"],
        "active"
    );
    contains(
        service.run(&["revoke", "--user", &ada]).done(),
        &["revoked 1"],
    );
    contains(
        service.run(&["revoke", "--user", &ada]).done(),
        &["nothing to revoke"],
    );
    assert_eq!(service.active(), 1);
    service.run(&["revoke", "--except", &kept]).failed(2);
    service.run(&["revoke", "--user", "ada"]).failed(2);
    service
        .run(&["revoke", "--user", &ada, "--everyone"])
        .failed(2);
    service.run(&["revoke"]).failed(2);
}

async fn those_that_began_before_an_instant(service: Service) {
    let node = service.node().await;
    let ada = service.add_user("ada");
    logins(&node, ada, 2).await;
    let long_ago = ["revoke", "--before", "2001-01-01T00:00:00Z", "--yes"];
    contains(service.run(&long_ago).done(), &["nothing to revoke"]);
    let far_ahead = ["revoke", "--before", "2999-01-01T00:00:00Z"];
    let told = service.run(&far_ahead);
    assert_eq!(told.code, Some(1));
    contains(&told.err, &["began before 2999", "nothing was revoked"]);
    contains(service.run_with(&far_ahead, "yes\n").done(), &["revoked 2"]);
    service.run(&["revoke", "--before", "tomorrow"]).failed(2);
}

async fn everyone_is_asked_about_first(service: Service) {
    let node = service.node().await;
    let ada = service.add_user("ada");
    logins(&node, ada, 2).await;
    node.login(Login::guest()).await.unwrap();
    for no in ["", "no\n", "y\n"] {
        let told = service.run_with(&["revoke", "--everyone"], no);
        assert_eq!((told.code, told.out.as_str()), (Some(1), ""));
        contains(
            &told.err,
            &[
                "every session of every user and guest",
                "nothing was revoked",
            ],
        );
    }
    assert_eq!(service.active(), 3);
    let told = service
        .run(&["revoke", "--everyone", "--yes", "--json"])
        .json();
    assert_eq!(told["revoked"], 3);
    assert!(told["effective_within_ms"].as_u64().unwrap() <= 60_000);
    assert_eq!(service.active(), 0);
}

async fn ctrl_c_at_the_question_ends_nothing(service: Service) {
    service.node().await.login(Login::guest()).await.unwrap();
    let mut command = service.command(&["revoke", "--everyone"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let question = lines.next().unwrap().unwrap();
    assert!(question.contains("Type yes"), "{question}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let last = lines.next().unwrap().unwrap();
    assert!(last.contains("interrupted"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(service.active(), 1);
}

async fn without_redis_the_database_knows(service: Service) {
    let node = service.node().await;
    let id = node.login(Login::guest()).await.unwrap().session.id();
    service.redis.kill();
    let told = service.run(&["revoke", &id.to_string()]);
    contains(told.done(), &["revoked 1 session"]);
    contains(&told.err, &["Redis is not reached"]);
    assert_eq!(service.active(), 0);
}

async fn without_a_key_there_is_no_redis(service: Service) {
    let node = service.node().await;
    let id = node
        .login(Login::guest())
        .await
        .unwrap()
        .session
        .id()
        .to_string();
    let keyless = |with_redis: bool| -> Told {
        let mut command = service.command(&["revoke", &id]);
        command.env_remove("SESSION_KEY");
        if !with_redis {
            command.env_remove("SESSION_WARM__URL");
        }
        told(&mut command, "")
    };
    contains(keyless(true).failed(2), &["SESSION_KEY", "--key-file"]);
    assert_eq!(service.active(), 1);
    contains(keyless(false).done(), &["revoked 1 session"]);
}
