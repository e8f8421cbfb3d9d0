use super::*;

/// As the module's documentation has it.
const LEAST: &str = "app on >s3cret~/ resetkeys ~session:* resetchannels &session:changes \
    -@all +get +getrange +set +eval +evalsha +publish +subscribe +ping";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_least_permissions_can_do_everything() {
    let redis = Redis::builder().user("default off").user(LEAST).start();
    let node = Node::start(
        &config(redis.url_as("app", "s3cret~/")),
        &TokenKeys::random(),
    )
    .await;
    let id = SessionId::random();
    let foreign = KeyHash::from_bytes([1; 16]);
    let record = session(id, 1, 1);
    assert!(
        node.warm
            .apply(&record, &[foreign], push(id, 1), LINEAGE, HOUR)
            .await
    );
    assert_eq!(node.get(id).await, Some(record.clone()));
    assert_eq!(
        node.look_up(Key::AccessJti(foreign), LINEAGE).await,
        Some(record)
    );
    until("the push is heard", async || !node.heard().is_empty()).await;
    // The only refusal that the server tells of is that of the size.
    until("the size was asked for", async || {
        redis.cli(&["ACL", "LOG"]).contains("dbsize")
    })
    .await;
    let log = redis.cli(&["ACL", "LOG"]);
    assert_eq!(log.matches("toplevel").count(), 1, "{log}");
    assert!(!log.contains("lua"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_lacks_a_permission_is_told_which() {
    let lacking = LEAST.replace(" +subscribe", "");
    let redis = Redis::builder().user("default off").user(&lacking).start();
    let config = config(redis.url_as("app", "s3cret~/"));
    let node = Node::open(&config, &TokenKeys::random());
    assert!(!node.warm.ready().await);
    let Err(broken) = link::Link::open(
        &node.warm.target,
        "session:changes",
        &Sent::new(&Meter::default()),
    )
    .await
    else {
        panic!("the user may not subscribe");
    };
    assert!(
        broken.0.contains("NOPERM") && broken.0.contains("subscribe"),
        "{broken:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_keeps_the_tier_down_and_is_not_shown() {
    let redis = Redis::builder().user("default off").user(LEAST).start();
    let config = config(redis.url_as("app", "wr0ng"));
    let node = Node::open(&config, &TokenKeys::random());
    assert!(!node.warm.ready().await);
    assert_eq!(node.get(SessionId::random()).await, None);
    let Err(broken) = link::Link::open(
        &node.warm.target,
        "session:changes",
        &Sent::new(&Meter::default()),
    )
    .await
    else {
        panic!("the password is wrong");
    };
    assert_eq!(
        broken.0,
        "authentication failed: check the user and the password in warm.url"
    );
    let shown = format!("{:?} {broken:?} {config:?}", node.warm);
    assert!(!shown.contains("wr0ng"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_selected() {
    let redis = Redis::start();
    let url = format!("{}?db=3", redis.url());
    let node = Node::start(&config(url), &TokenKeys::random()).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    assert_eq!(redis.cli(&["-n", "3", "DBSIZE"]), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_server_that_the_named_authority_vouches_for() {
    let redis = Redis::builder()
        .user("default off")
        .user(LEAST)
        .tls()
        .start();
    let url = redis.url_as("app", "s3cret~/");
    assert!(url.starts_with("rediss://"));
    let trusting = WarmConfig {
        ca_file: Some(redis.ca_file().into()),
        ..config(url.clone())
    };
    let keys = TokenKeys::random();
    let node = Node::start(&trusting, &keys).await;
    let id = SessionId::random();
    assert!(
        node.warm
            .apply(&session(id, 1, 1), &[], push(id, 1), LINEAGE, HOUR)
            .await
    );
    assert_eq!(node.get(id).await, Some(session(id, 1, 1)));
    until("the push is heard", async || !node.heard().is_empty()).await;

    // The system's authorities do not.
    let node = Node::open(&config(url.clone()), &keys);
    assert!(!node.warm.ready().await);
    // Nor is the server spoken to in the clear.
    let node = Node::open(&config(url.replace("rediss:", "redis:")), &keys);
    assert!(!node.warm.ready().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_is_spoken_in_either_protocol() {
    let redis = Redis::builder().tcp().start();
    for protocol in ["resp2", "resp3"] {
        let url = format!("{}/?protocol={protocol}", redis.url());
        let node = Node::start(&config(url), &TokenKeys::random()).await;
        let id = SessionId::random();
        assert!(
            node.warm
                .apply(&session(id, 1, 1), &[], push(id, 1), LINEAGE, HOUR)
                .await
        );
        assert_eq!(node.get(id).await, Some(session(id, 1, 1)));
        until("the push is heard", async || !node.heard().is_empty()).await;
    }
}

#[test]
fn a_url_that_cannot_be_used_is_refused_by_its_key_and_without_its_password() {
    let refused = |url: &str, ca_file: Option<&str>| {
        let config = WarmConfig {
            ca_file: ca_file.map(Into::into),
            ..config(url.into())
        };
        let opened = Warm::open(
            &config,
            TokenKeys::random(),
            Metrics::new(Meter::default()),
            true,
        );
        opened.map(drop).unwrap_err().to_string()
    };
    for url in [
        "",
        "s3cret",
        "http://app:s3cret@localhost",
        "redis://app:s3?cret@localhost",
        "redis://app:s3cret@localhost:port",
        "redis://app:s3cret@localhost/db",
        "rediss://app:s3cret@localhost/#insecure",
        "unix:///redis.sock?pass=s3cret&db=s3cret",
    ] {
        let error = refused(url, None);
        assert!(error.starts_with("warm.url: "), "{url}: {error}");
        assert!(!error.contains("s3"), "{url}: {error}");
    }
    let error = refused("rediss://app:s3cret@localhost", Some("/nowhere/ca.pem"));
    assert!(error.starts_with("warm.ca_file: "), "{error}");
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
    let error = refused("rediss://app:s3cret@localhost", Some("Cargo.toml"));
    assert!(error.starts_with("warm.ca_file: "), "{error}");
}

/// Why a node's connection to Redis fails.
async fn broken(config: &WarmConfig) -> String {
    let node = Node::open(config, &TokenKeys::random());
    let sent = Sent::new(&Meter::default());
    let opened = link::Link::open(&node.warm.target, "session:changes", &sent).await;
    let Err(broken) = opened else {
        panic!("the server is of use");
    };
    broken.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_the_server_does_not_have_is_told_of() {
    let redis = Redis::start();
    let told = broken(&config(format!("{}?db=99", redis.url()))).await;
    assert!(
        told.contains("names a database by a number that the server does not have"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_save_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::builder()
        .config("dir", folder.path().to_str().unwrap())
        .start();
    redis.cli(&["CONFIG", "SET", "save", "3600 1"]);
    folder.close().unwrap();
    redis.cli(&["SET", "something", "new"]);
    redis.cli(&["BGSAVE"]);
    until("saving has failed", async || {
        redis
            .cli(&["INFO", "persistence"])
            .contains("rdb_last_bgsave_status:err")
    })
    .await;
    let told = broken(&config(redis.url())).await;
    assert!(
        told.starts_with("MISCONF") && told.contains("cannot save its data to disk"),
        "{told}"
    );
}
