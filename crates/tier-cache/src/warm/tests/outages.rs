use futures_util::future::join_all;
use redis::RedisError;
use testbed::Relay;

use super::*;

/// Deadlines that an outage is told by, without a minute's wait.
fn impatient(redis: &Redis) -> WarmConfig {
    WarmConfig {
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_millis(250),
        ..config(redis.url())
    }
}

/// Fills until the record is there: on a loaded machine even a healthy Redis may be late.
async fn keeps(node: &Node, id: SessionId) {
    until("a record is kept", async || {
        node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
        node.get(id).await == Some(session(id, 1, 1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_nothing_is_sent_and_afterwards_all_is_well() {
    let redis = Redis::start();
    let node = Node::start(&impatient(&redis), &TokenKeys::random()).await;
    let id = SessionId::random();
    keeps(&node, id).await;

    redis.kill();
    until("the outage is noticed", async || !node.warm.is_up()).await;
    let gets = count(&node.gets);
    let errors = count(&node.errors);
    assert_eq!(node.get(id).await, None);
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    assert!(
        !node
            .warm
            .apply(&tombstone(id, 2, 1), &[], push(id, 2), LINEAGE, HOUR)
            .await
    );
    assert_eq!((count(&node.gets), count(&node.errors)), (gets, errors));

    redis.restart();
    until("the tier is up again", async || node.warm.is_up()).await;
    // The server has forgotten records, script and subscription.
    assert_eq!(node.get(id).await, None);
    keeps(&node, id).await;
    until("a push is heard", async || {
        node.warm
            .apply(&session(id, 2, 1), &[], push(id, 2), LINEAGE, HOUR)
            .await;
        node.heard().contains(&push(id, 2))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_goes_silent_is_noticed_though_its_connections_stay_open() {
    let redis = Redis::start();
    let node = Node::start(&impatient(&redis), &TokenKeys::random()).await;
    let id = SessionId::random();
    keeps(&node, id).await;

    redis.pause();
    until("the silence is noticed", async || !node.warm.is_up()).await;
    redis.resume();
    until("the record is found again", async || {
        node.get(id).await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_times_out_is_a_counted_miss() {
    let redis = Redis::start();
    let patient = config(redis.url());
    let node = Node::start(&patient, &TokenKeys::random()).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;

    let hasty = WarmConfig {
        command_timeout: Duration::from_millis(1),
        ..patient
    };
    let node = Node::start(&hasty, &node.warm.keys).await;
    redis.pause();
    // The heartbeat may find out first, and then nothing is sent.
    let three = [id, SessionId::random(), SessionId::random()].map(Key::Id);
    let found: Vec<_> = node.warm.get(&three, LINEAGE).await.collect();
    assert_eq!(found, [None, None, None]);
    assert_eq!(count(&node.errors), count(&node.gets));
    until("the silence is noticed", async || !node.warm.is_up()).await;
    redis.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_wait_for_a_silent_redis_nobody_waits_twice() {
    let redis = Redis::start();
    let node = Node::start(&impatient(&redis), &TokenKeys::random()).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    redis.pause();
    let ask_at_once = async || join_all((0..20).map(|_| node.get(id))).await;
    ask_at_once().await;
    let sent = count(&node.gets);
    // Whether it is silent is being found out, or was.
    ask_at_once().await;
    node.warm.fill(&session(id, 2, 1), LINEAGE, HOUR).await;
    assert_eq!(count(&node.gets), sent);
    assert!(count(&node.errors) <= 20 + 1, "{}", count(&node.errors));
    redis.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_answers_later_than_a_command_may_is_given_up_until_it_is_quick_again() {
    let redis = Redis::start();
    let way = Relay::to(redis.socket());
    let config = WarmConfig {
        url: Some(format!("redis://{}", way.address())),
        ..impatient(&redis)
    };
    let node = Node::start(&config, &TokenKeys::random()).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    // Soon enough for the pings that look after the connection.
    way.delay(2 * config.command_timeout);
    until("it is given up", async || {
        node.get(id).await;
        !node.warm.is_up()
    })
    .await;
    let sent = count(&node.gets);
    tokio::time::sleep(4 * config.command_timeout).await;
    assert_eq!(node.get(id).await, None);
    assert_eq!(count(&node.gets), sent, "it was let in again");
    way.delay(Duration::ZERO);
    until("the record is found again", async || {
        node.get(id).await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hiccup_that_many_wait_out_is_none() {
    let redis = Redis::start();
    let patient = WarmConfig {
        // A check may take four times as long.
        command_timeout: Duration::from_secs(1),
        ..config(redis.url())
    };
    let node = Node::start(&patient, &TokenKeys::random()).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    let before = connections(&redis);
    redis.pause();
    join_all((0..20).map(|_| node.get(id))).await;
    redis.resume();
    until("the record is found again", async || {
        node.get(id).await.is_some()
    })
    .await;
    assert_eq!(connections(&redis), before, "none was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_command_now_and_then_closes_nothing() {
    const PUSHES: i64 = 100;
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    let before = connections(&redis);
    let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    for version in 2..2 + PUSHES {
        // As of a command that was sent after the last check, while others were answered.
        node.warm.health.suspect(&late, Duration::ZERO);
        let record = session(id, version, 1);
        let told = node
            .warm
            .apply(&record, &[], push(id, version), LINEAGE, HOUR);
        assert!(
            told.await,
            "push {version} waits for the check, and is told"
        );
    }
    assert_eq!(connections(&redis), before, "none was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_last_check_says_nothing_of_what_is_now() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let late = RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    node.warm.health.suspect(&late, HOUR);
    assert!(node.warm.health.connection().is_some());
    node.warm.health.suspect(&late, Duration::ZERO);
    assert!(node.warm.health.connection().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_or_silent_at_the_start_is_used_once_it_answers() {
    let redis = Redis::start();
    let impatient = impatient(&redis);
    redis.kill();
    let down = Node::open(&impatient, &TokenKeys::random());
    assert!(!down.warm.ready().await);
    assert_eq!(down.get(SessionId::random()).await, None);
    redis.restart();
    until("the tier is up", async || down.warm.is_up()).await;

    redis.pause();
    let silent = Node::open(&impatient, &TokenKeys::random());
    assert!(!silent.warm.ready().await);
    redis.resume();
    for node in [&down, &silent] {
        until("the tier is up", async || node.warm.is_up()).await;
        keeps(node, SessionId::random()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_drops_are_replaced() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    for kind in ["normal", "pubsub"] {
        let connections = connections(&redis);
        redis.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        until("there are new connections", async || {
            let now = self::connections(&redis);
            now.len() == 2 && now.iter().all(|id| !connections.contains(id))
        })
        .await;
        until("the record is found again", async || {
            node.get(id).await.is_some()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_writes_is_asked_for_anew() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    keeps(&node, id).await;
    let before = connections(&redis);
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    node.warm.fill(&session(id, 2, 1), LINEAGE, HOUR).await;
    assert_eq!(count(&node.errors), 1);
    until("there are new connections", async || {
        let now = connections(&redis);
        now.len() == 2 && now.iter().all(|id| !before.contains(id))
    })
    .await;
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    until("a record is kept", async || {
        node.warm.fill(&session(id, 2, 1), LINEAGE, HOUR).await;
        node.get(id).await == Some(session(id, 2, 1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_is_stopped_leaves_no_connection_and_no_task_behind() {
    let redis = Redis::start();
    let mut node = Node::on(&redis).await;
    assert_eq!(connections(&redis).len(), 2);
    node.stop.cancel();
    (&mut node.listening).await.unwrap();
    assert!(!node.warm.is_up());
    assert_eq!(node.get(SessionId::random()).await, None);
    until("the connections are closed", async || {
        connections(&redis).is_empty()
    })
    .await;
}

/// The numbers of the connections that the tier has open.
fn connections(redis: &Redis) -> Vec<String> {
    redis
        .cli(&["CLIENT", "LIST"])
        .lines()
        .filter(|line| !line.contains("cmd=client"))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}
