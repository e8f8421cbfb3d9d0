//! All nodes forget what they cache, while they serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use session_core::Token;
use tier_cache::{Login, Refusal, Tier};

use crate::support::{Node, Service, contains, on_both};

on_both!(
    everything_is_read_anew_and_nobody_is_refused,
    it_says_what_is_wrong,
);

/// What a node may answer for a session.
async fn tier(node: &Node, access: &Token) -> Tier {
    node.find(access.clone()).await.unwrap().tier()
}

async fn everything_is_read_anew_and_nobody_is_refused(service: Service) {
    let (here, there) = (service.polling_node().await, service.polling_node().await);
    let issued = here.login(Login::guest()).await.unwrap();
    let access = issued.access.clone();
    for node in [&here, &there] {
        while tier(node, &access).await != Tier::Hot {}
    }
    let stop = Arc::new(AtomicBool::new(false));
    let ask = |node: &Node| {
        let (node, access, stop) = (node.clone(), access.clone(), Arc::clone(&stop));
        // From the database, or from what the other node read there.
        let anew = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&anew);
        let asking = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if node.find(access.clone()).await?.tier() != Tier::Hot {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok::<(), Refusal>(())
        });
        (anew, asking)
    };
    let asking = [ask(&here), ask(&there)];
    let told = service.run(&["invalidate-caches", "--json"]).json();
    assert_ne!(told["lineage"], told["lineage_before"]);
    assert_eq!(told["effective_within_ms"], 60_000);
    contains(
        service.run(&["invalidate-caches"]).done(),
        &["no session ended", "served by no node after 20", "1m"],
    );
    for (node, (anew, _)) in [&here, &there].into_iter().zip(&asking) {
        let mut tries = 0;
        while anew.load(Ordering::Relaxed) == 0
            || !node.health().is_trusting()
            || tier(node, &access).await != Tier::Hot
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tries += 1;
            assert!(tries < 6000, "it is never read anew, and hot again");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (_, asking) in asking {
        asking.await.unwrap().unwrap();
    }
}

async fn it_says_what_is_wrong(service: Service) {
    let told = service.run(&["invalidate-caches"]);
    let told = told.failed(1);
    assert!(
        told.contains("no tables of sessions") || told.contains("there is no file"),
        "{told}"
    );
}
