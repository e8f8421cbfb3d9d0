//! Who asks the database itself is not answered by a copy of it, whatever else is under way.

use std::sync::Arc;
use std::time::Duration;

use session_core::SessionId;
use tier_cache::cold::ColdStore;
use tier_cache::{Login, Refusal, Session, Strictness, Tier, Tiers};

use crate::slow::Slow;
use crate::support::{Basket, Cold, Service, eventually};

/// No test takes so long.
const LONG: Duration = Duration::from_secs(120);

struct Bed {
    store: Arc<Slow>,
    reader: Tiers<Basket>,
    /// Of the reader, which has its head only: handlers ask for its body.
    head: Session<Basket>,
}

impl Bed {
    /// A node with a copy of the database as it is now, that hears of no change for a while.
    async fn new(service: &Service, id: SessionId) -> Self {
        let store = Slow::with_copy(&service.cold, id).await;
        let mut config = service.quiet();
        config.cold.load_timeout = LONG;
        config.cold.replica_timeout = LONG;
        let reader = Tiers::builder(config, service.keys())
            .store(Arc::clone(&store) as Arc<dyn ColdStore>)
            .start()
            .await
            .unwrap();
        let head = reader.find(id).await.unwrap();
        assert_eq!(head.tier(), Tier::Warm);
        Self {
            store,
            reader,
            head,
        }
    }

    /// The answer to `asking`, which begins while a body is being fetched from the copy, and is over
    /// before the copy has answered.
    async fn beside_a_body<T>(&self, asking: impl Future<Output = T>) -> T {
        let head = self.head.clone();
        let body = tokio::spawn(async move { head.body().await.map(drop) });
        eventually("the copy is asked", async || self.store.copy_asked() == 1).await;
        let answer = asking.await;
        self.store.copy_answers();
        // It may have been overtaken.
        drop(body.await.unwrap());
        answer
    }
}

#[tokio::test]
async fn a_strict_request_is_not_answered_by_a_copy_that_another_asks() {
    let service = Service::new(Cold::postgres());
    let writer = service.quiet_node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let bed = Bed::new(&service, id).await;
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false, revoked_at = now() WHERE id = '{id}'"
    ));
    let reader = bed.reader.clone();
    let strict = async move { reader.find_strict(id, Strictness::Row).await };
    let found = bed.beside_a_body(strict).await;
    assert!(matches!(found, Err(Refusal::Revoked)), "{found:?}");
}

#[tokio::test]
async fn a_new_token_is_not_refused_by_a_copy_that_another_asks() {
    let service = Service::new(Cold::postgres());
    let writer = service.quiet_node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let bed = Bed::new(&service, issued.session.id()).await;
    // On a node whose push through Redis does not come, or not yet.
    let mut config = service.quiet();
    config.warm.url = None;
    let other = service.node_with(config).await;
    let newer = other.refresh(&issued.refresh).await.unwrap();
    let (reader, token) = (bed.reader.clone(), newer.access.clone());
    let found = bed
        .beside_a_body(async move { reader.find(token).await })
        .await;
    // It is remembered too, for half a minute, as what no later change can make good again.
    let again = bed.reader.find(newer.access).await;
    assert!(found.is_ok() && again.is_ok(), "{found:?}, then {again:?}");
}

#[tokio::test]
async fn a_copy_that_does_not_answer_is_not_waited_for_whosever_the_store_is() {
    let service = Service::new(Cold::postgres());
    let writer = service.quiet_node().await;
    let issued = writer.login(Login::guest()).await.unwrap();
    let id = issued.session.id();
    let store = Slow::with_copy(&service.cold, id).await;
    let mut config = service.quiet();
    config.warm.url = None;
    // So that there is a queue for the copy, with room for one.
    config.cold.replica_url = Some("postgres://nobody.invalid/".into());
    config.cold.load_concurrency = 1;
    config.cold.batch_size = 1;
    config.cold.load_timeout = LONG;
    let reader = Tiers::<Basket>::builder(config, service.keys())
        .store(Arc::clone(&store) as Arc<dyn ColdStore>)
        .start()
        .await
        .unwrap();
    let refresh = session_core::Key::Refresh(service.keys().hash(&issued.refresh));
    // Each is a load of its own, and the second waits for the first one's room.
    let (one, other) = tokio::join!(reader.find(id), reader.find(refresh));
    assert!(one.is_ok() && other.is_ok(), "{one:?}, {other:?}");
    assert!(store.copy_asked() > 0);
}
