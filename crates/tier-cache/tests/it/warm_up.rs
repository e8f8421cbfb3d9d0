//! Sessions are loaded before anybody asks for them.

use session_core::SessionId;
use tier_cache::{Login, Tier, WarmUp, WarmedUp};

use crate::counting::counted;
use crate::storms::sessions;
use crate::support::{Cold, Service, on_both};

on_both!(
    those_that_were_seen_last_are_hot_and_warm_afterwards,
    only_what_lives_is_loaded,
);

async fn those_that_were_seen_last_are_hot_and_warm_afterwards(cold: Cold) {
    let service = Service::new(cold);
    let node = service.quiet_node().await;
    let ids = sessions(&service.cold, 700);
    // The last of them are those of long ago.
    let (recent, old) = ids.split_at(600);
    let ago = service.cold.seconds_from_now(-60 * 60);
    let names: Vec<_> = old.iter().map(|id| format!("'{id}'")).collect();
    service.cold.sql(&format!(
        "UPDATE sessions SET last_seen_at = {ago} WHERE id IN ({})",
        names.join(", ")
    ));
    let mut steps = Vec::new();
    let warm_up = WarmUp::recent(600).per_second(1_000_000);
    let done = node
        .warm_up(warm_up, |step| steps.push(step))
        .await
        .unwrap();
    let step = |done| WarmedUp {
        done,
        loaded: done,
        of: 600,
    };
    assert_eq!(steps, [step(0), step(256), step(512), step(600)]);
    assert_eq!(done, step(600));

    let other = service.quiet_node().await;
    for &id in recent.iter().step_by(50) {
        assert_eq!(node.find(id).await.unwrap().tier(), Tier::Hot);
        assert_eq!(other.find(id).await.unwrap().tier(), Tier::Warm);
    }
    for &id in old.iter().step_by(50) {
        assert_eq!(other.find(id).await.unwrap().tier(), Tier::Cold);
    }
}

async fn only_what_lives_is_loaded(cold: Cold) {
    let service = Service::new(cold);
    let node = service.quiet_node().await;
    let ids = sessions(&service.cold, 4);
    let [revoked, expired, one, two] = ids[..] else {
        unreachable!()
    };
    let ago = service.cold.seconds_from_now(-60);
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{revoked}'; \
         UPDATE sessions SET expires_at = {ago} WHERE id = '{expired}'"
    ));
    let all = node.warm_up(WarmUp::recent(100), |_| {}).await.unwrap();
    assert_eq!((all.loaded, all.of), (2, 2));
    let named = WarmUp::these([revoked, one, SessionId::random(), two, expired]);
    let named = node.warm_up(named, |_| {}).await.unwrap();
    assert_eq!((named.loaded, named.done, named.of), (2, 5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_needs_no_warming() {
    let service = Service::new(Cold::postgres());
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let (tier, cost) = counted(&service, async {
        node.find(issued.access.clone()).await.unwrap().tier()
    })
    .await;
    assert_eq!((tier, cost.sql), (Tier::Hot, 0));
    assert!(cost.redis.is_empty(), "{:?}", cost.redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_are_four_statements() {
    let service = Service::new(Cold::postgres());
    let node = service.quiet_node().await;
    sessions(&service.cold, 600);
    let warm_up = node.warm_up(WarmUp::recent(600).per_second(1_000_000), |_| {});
    let (done, cost) = counted(&service, warm_up).await;
    assert_eq!((done.unwrap().loaded, cost.sql), (600, 4));
}
