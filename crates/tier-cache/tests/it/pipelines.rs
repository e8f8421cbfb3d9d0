//! Those whose sessions are asked of Redis in one pipeline do not depend on each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Deserializer, Serialize};
use tier_cache::{ByteSize, Holds, Issued, Login, Refusal, Session, Tier, TierConfig, Tiers};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::support::{Basket, Cold, Service};

const PLENTY: Duration = Duration::from_secs(60);

/// A configuration of nodes that keep nothing hot.
fn cool(service: &Service) -> TierConfig {
    let mut config = service.quiet();
    config.hot.capacity = ByteSize::b(0);
    config
}

async fn logged_in(node: &Tiers<Basket>, count: usize) -> Vec<Issued<Basket>> {
    let logins = (0..count).map(|_| node.login(Login::guest()));
    let logins = join_all(logins).await;
    logins.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn many_who_ask_together_get_their_own_session_each() {
    let service = Service::new(Cold::sqlite());
    let node = service.node_with(cool(&service)).await;
    let sessions = logged_in(&node, 100).await;
    let found = sessions
        .iter()
        .map(|issued| node.find(issued.access.clone()));
    for (found, issued) in join_all(found).await.into_iter().zip(&sessions) {
        let found = found.unwrap();
        assert_eq!(found.id(), issued.session.id());
        assert_eq!(found.tier(), Tier::Warm);
    }
}

#[tokio::test]
async fn whoever_asked_first_may_go_away_or_never_go_on() {
    let service = Service::new(Cold::sqlite());
    let node = service.node_with(cool(&service)).await;
    let issued = logged_in(&node, 2).await;
    // In a task, so that it is begun in the turn of the one who leaves.
    let in_task = async move {
        let [ours, theirs] = &issued[..] else {
            unreachable!("two logins");
        };
        let find = |issued: &Issued<Basket>| node.find(issued.access.clone()).boxed();
        let (mut leaves, mut stays) = (find(ours), find(ours));
        assert!((&mut leaves).now_or_never().is_none());
        assert!((&mut stays).now_or_never().is_none());
        drop(leaves);
        let (ours, theirs) =
            tokio::join!(timeout(PLENTY, find(ours)), timeout(PLENTY, find(theirs)));
        for found in [ours, theirs] {
            assert_eq!(found.unwrap().unwrap().tier(), Tier::Warm);
        }
        assert_eq!(stays.await.unwrap().tier(), Tier::Warm);
    };
    tokio::spawn(in_task).await.unwrap();
}

/// Data that cannot be read, now and then.
#[derive(Clone, Default, Serialize)]
struct Fragile(bool);

static BREAKS: AtomicBool = AtomicBool::new(false);

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(data: D) -> Result<Self, D::Error> {
        let fragile = bool::deserialize(data)?;
        assert!(!fragile || !BREAKS.load(Ordering::SeqCst), "as planned");
        Ok(Self(fragile))
    }
}

#[tokio::test]
async fn data_whose_reading_panics_fails_its_own_requests_alone() {
    let service = Service::new(Cold::sqlite());
    let mut config = cool(&service);
    config.warm.holds = Holds::Full;
    let node: Tiers<Fragile> = Tiers::open(config, service.keys()).await.unwrap();
    let login = |fragile| node.login(Login::guest().data(Fragile(fragile)));
    let sessions = join_all([false, true, false].map(login)).await;
    let find = || {
        let sessions = sessions.iter();
        let tokens = sessions.map(|issued| issued.as_ref().unwrap().access.clone());
        join_all(tokens.map(|token| timeout(PLENTY, node.find(token))))
    };
    let tier = |found: Result<Result<Session<Fragile>, Refusal>, _>| match found {
        Ok(Ok(session)) => Some(session.tier()),
        Ok(Err(Refusal::Unavailable { .. })) => None,
        other => panic!("{other:?}"),
    };
    BREAKS.store(true, Ordering::SeqCst);
    let found: Vec<_> = find().await.into_iter().map(tier).collect();
    assert_eq!(found, [Some(Tier::Warm), None, Some(Tier::Warm)]);
    BREAKS.store(false, Ordering::SeqCst);
    let found: Vec<_> = find().await.into_iter().map(tier).collect();
    assert_eq!(found, [Some(Tier::Warm); 3]);
}

#[test]
fn nobody_waits_for_a_runtime_that_has_gone() {
    let service = Service::new(Cold::sqlite());
    let [first, second] = [Runtime::new().unwrap(), Runtime::new().unwrap()];
    let node = first.block_on(service.node_with(cool(&service)));
    let issued = first.block_on(node.login(Login::guest())).unwrap();
    let find = async || timeout(PLENTY, node.find(issued.access.clone())).await;
    let found = second.block_on(find()).unwrap();
    assert_eq!(found.unwrap().tier(), Tier::Warm);
    drop(first);
    for _ in 0..2 {
        let found = second.block_on(find()).expect("an answer");
        assert!(found.is_err_and(|refusal| refusal.is_unavailable()));
    }
}

#[test]
fn nobody_waits_longer_than_a_request_may_for_a_runtime_that_nobody_drives() {
    let service = Service::new(Cold::sqlite());
    let mut config = cool(&service);
    config.cold.load_timeout = Duration::from_millis(200);
    config.cold.max_waiting = 8;
    let stands = Builder::new_current_thread().enable_all().build().unwrap();
    let node = stands.block_on(service.node_with(config));
    let issued = stands.block_on(logged_in(&node, 3));
    let other = Runtime::new().unwrap();
    let find = |issued: &Issued<Basket>| timeout(PLENTY, node.find(issued.access.clone()));
    let found = other.block_on(async { join_all(issued.iter().map(find)).await });
    for found in found {
        let found = found.expect("an answer");
        assert!(found.is_err_and(|refusal| refusal.is_unavailable()));
    }
    // It goes on where it was.
    let found = stands.block_on(async { find(&issued[0]).await });
    assert_eq!(found.unwrap().unwrap().id(), issued[0].session.id());
}
