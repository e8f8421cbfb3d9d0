//! Clients go away whenever they like: nothing is left behind, and nobody gets another's answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use session_core::Key;
use tier_cache::cold::ColdStore;
use tier_cache::{Login, Refusal, Tiers, WarmUp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::slow::Slow;
use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(requests_that_are_cancelled_anywhere_cross_no_answers,);

/// Polls a future so many times at most; `None` if it was not done by then.
async fn polled<T>(times: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = times;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// A home-made one may block at first, or rely on being in a task.
#[tokio::test]
async fn a_load_begins_in_the_turn_of_its_asker_only_if_the_store_says_so() {
    let service = Service::new(Cold::sqlite());
    let issued = service.node().await.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    for in_turn in [false, true] {
        let store = Slow::on(&service.cold, 0).await;
        if in_turn {
            store.begin_in_turn();
        }
        let mut config = service.quiet();
        config.warm.url = None;
        let node = Tiers::<Basket>::builder(config, service.keys())
            .store(Arc::clone(&store) as Arc<dyn ColdStore>)
            .start()
            .await
            .unwrap();
        let asked = Arc::clone(&store);
        let asker = tokio::spawn(async move {
            assert!(node.find(id).now_or_never().is_none());
            (asked.begun(), node)
        });
        let (begun, _node) = asker.await.unwrap();
        assert_eq!(begun, usize::from(in_turn));
        store.answer(1);
        eventually("it goes on without its asker", async || {
            store.answered() == 1
        })
        .await;
    }
}

/// As a home-made store may expect, and so that the bundled one loses no connection.
#[tokio::test]
async fn what_the_store_is_asked_is_driven_to_its_end_when_the_asker_goes_away() {
    let service = Service::new(Cold::sqlite());
    let store = Slow::on(&service.cold, Semaphore::MAX_PERMITS >> 1).await;
    let node = Tiers::<Basket>::builder(service.quiet(), service.keys())
        .store(Arc::clone(&store) as Arc<dyn ColdStore>)
        .start()
        .await
        .unwrap();
    let issued = node.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let askers: [BoxFuture<'_, ()>; 5] = [
        node.refresh(&issued.refresh).map(drop).boxed(),
        node.rotate(&issued.session).map(drop).boxed(),
        node.name_device(id, "phone").map(drop).boxed(),
        node.warm_up(WarmUp::these([id]), |_| ()).map(drop).boxed(),
        node.inspect(Key::Id(id)).map(drop).boxed(),
    ];
    store.stop();
    for (number, mut asker) in askers.into_iter().enumerate() {
        let (asked, answered) = (store.read(), store.answered());
        eventually("the store is asked", async || {
            assert!((&mut asker).now_or_never().is_none(), "asker {number}");
            store.read() > asked
        })
        .await;
        drop(asker);
        store.answer(1);
        eventually("the store has answered", async || {
            store.answered() > answered
        })
        .await;
    }
}

/// A small generator, so that the schedule is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Fifty thousand requests on each database, of forty sessions, by keys of each kind, on a node that keeps
/// them hot for a millisecond: Redis or the database answers often, and many are dropped before they are done.
async fn requests_that_are_cancelled_anywhere_cross_no_answers(cold: Cold) {
    const CLIENTS: u64 = 50;
    const REQUESTS: u64 = 1000;
    let service = Service::new(cold);
    let mut config = service.config();
    // By time: room is made behind a request's back, and by then all may have been hot.
    config.hot.ttl = Duration::from_millis(1);
    config.cold.batch_size = 5;
    config.cold.load_timeout = Duration::from_secs(120);
    let node: Tiers<Basket> = service.node_with(config).await;
    let mut sessions = Vec::new();
    for n in 0..40 {
        let login = Login::guest().data(Basket::of(&format!("basket {n}")));
        sessions.push(node.login(login).await.unwrap());
    }
    let sessions = Arc::new(sessions);
    let (done, cancelled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for client in 1..=CLIENTS {
        let (node, sessions) = (node.clone(), Arc::clone(&sessions));
        let (done, cancelled) = (Arc::clone(&done), Arc::clone(&cancelled));
        clients.spawn(async move {
            let mut random = Random(client.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            for _ in 0..REQUESTS {
                let n = random.below(sessions.len() as u64) as usize;
                let issued = &sessions[n];
                let patience = random.below(6) as u32;
                let body = random.below(4) == 0;
                let asking = async {
                    let found = node.find(issued.access.clone()).await?;
                    assert_eq!(found.id(), issued.session.id());
                    if body {
                        let body = found.body().await?;
                        let basket = Basket::of(&format!("basket {n}"));
                        assert_eq!(body.data().unwrap(), &basket);
                    }
                    Ok::<_, Refusal>(())
                };
                match polled(patience, asking).await {
                    Some(found) => {
                        found.unwrap();
                        done.fetch_add(1, Relaxed);
                    }
                    None => drop(cancelled.fetch_add(1, Relaxed)),
                }
            }
        });
    }
    clients.join_all().await;
    let (done, cancelled) = (done.load(Relaxed), cancelled.load(Relaxed));
    assert_eq!(done + cancelled, CLIENTS * REQUESTS);
    assert!(
        done > 1000 && cancelled > 1000,
        "{done} done, {cancelled} cancelled"
    );

    // All that was begun has ended, and has left every connection and every place as it was.
    eventually("all is idle", async || {
        node.shutdown(Duration::from_millis(1)).await
    })
    .await;
    for issued in sessions.iter() {
        let found = service
            .node()
            .await
            .find(issued.access.clone())
            .await
            .unwrap();
        assert_eq!(found.id(), issued.session.id());
    }
}
