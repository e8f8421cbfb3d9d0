use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_heard_by_every_node() {
    let redis = Redis::start();
    let (config, keys) = (config(redis.url()), TokenKeys::random());
    let writer = Node::start(&config, &keys).await;
    let other = Node::start(&config, &keys).await;
    let id = SessionId::random();
    let (first, second) = (push(id, 2), push(id, i64::MAX));
    assert!(
        writer
            .warm
            .apply(&session(id, 2, 1), &[], first, LINEAGE, HOUR)
            .await
    );
    // An older record does not take the newer one's place, but is told of nevertheless.
    assert!(
        writer
            .warm
            .apply(&session(id, 1, 1), &[], second, LINEAGE, HOUR)
            .await
    );
    assert_eq!(other.get(id).await, Some(session(id, 2, 1)));
    for node in [&other, &writer] {
        until("both pushes are heard", async || node.heard().len() >= 2).await;
        assert_eq!(node.heard(), [first, second]);
    }
    assert_eq!(count(&writer.pushes_sent), 2);
    assert_eq!(count(&other.unreadable), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_is_not_told() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    let told = push(id, 1);
    assert!(
        node.warm
            .apply(&session(id, 1, 1), &[], told, LINEAGE, HOUR)
            .await
    );
    until("the push is heard", async || !node.heard().is_empty()).await;
    assert_eq!(node.heard(), [told]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_garbled_push_is_ignored_and_counted() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let channel = node.warm.channel.clone();
    let id = SessionId::random();
    let forged = push(id, i64::MAX).encode(&channel, LINEAGE, &TokenKeys::random());
    let elsewhere = push(id, i64::MAX).encode("other:changes", LINEAGE, &node.warm.keys);
    for message in [&forged[..], &elsewhere, b"", b"hello", &[1; 5000]] {
        let publish = redis::cmd("PUBLISH").arg(&channel).arg(message).take();
        assert_eq!(node.send::<i64>(&publish).await, 1);
    }
    let told = push(id, 2);
    assert!(
        node.warm
            .apply(&session(id, 2, 1), &[], told, LINEAGE, HOUR)
            .await
    );
    until("the push is heard", async || !node.heard().is_empty()).await;
    assert_eq!(node.heard(), [told]);
    assert_eq!(count(&node.unreadable), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_told_even_where_no_memory_is_left_for_the_record() {
    let redis = Redis::start();
    let node = Node::on(&redis).await;
    let id = SessionId::random();
    // The script must be there already.
    node.warm.fill(&session(id, 1, 1), LINEAGE, HOUR).await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let told = push(id, 2);
    assert!(
        !node
            .warm
            .apply(&tombstone(id, 2, 1), &[], told, LINEAGE, HOUR)
            .await
    );
    until("the push is heard", async || !node.heard().is_empty()).await;
    assert_eq!(node.heard(), [told]);
    assert_eq!(count(&node.errors), 1);
    assert!(node.warm.is_up());
}
