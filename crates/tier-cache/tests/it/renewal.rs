//! A session in use is loaded anew before a tier drops it, so that nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use session_core::Token;
use tier_cache::{Clock, Login, Tier, Tiers};
use tokio::sync::Semaphore;

use crate::slow::Slow;
use crate::support::{Basket, Cold, Service, eventually};

const MINUTE: Duration = Duration::from_secs(60);
/// So long before its end a session is as good as certainly due.
const SHORTLY: Duration = Duration::from_nanos(1);

/// Nodes on a clock that the test moves. `hot.ttl` and `warm.ttl` are an hour.
struct Bed {
    service: Service,
    clock: Clock,
}

impl Bed {
    fn new() -> Self {
        Self {
            service: Service::new(Cold::postgres()),
            clock: Clock::manual(),
        }
    }

    async fn node(&self) -> Tiers<Basket> {
        let mut config = self.service.quiet();
        config.warm.ttl = config.hot.ttl;
        // To the minute.
        config.warm.jitter = 0.0;
        Tiers::builder(config, self.service.keys())
            .clock(self.clock.clone())
            .start()
            .await
            .unwrap()
    }

    /// How many statements have read whole sessions.
    fn loads(&self) -> u64 {
        let Cold::Postgres(database) = &self.service.cold else {
            unreachable!("statements are counted by PostgreSQL");
        };
        let statements = database.statements().into_iter();
        let reads = statements.filter(|it| it.query.starts_with("SELECT (SELECT \"session_now\""));
        reads.map(|it| it.calls).sum()
    }

    /// Waits until Redis has been given as many records as sessions were begun, which happens behind
    /// the logins' back.
    async fn begun(&self, sessions: u64) {
        let what = "what was begun is warm";
        eventually(what, async || self.fills() >= sessions).await;
        assert_eq!(self.fills(), sessions);
    }

    /// How many records Redis was given.
    fn fills(&self) -> u64 {
        let calls = self.service.redis().calls();
        calls.get("evalsha").copied().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_used_at_the_end_of_its_hot_term_is_loaded_anew() {
    let bed = Bed::new();
    let node = bed.node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    bed.begun(1).await;
    let (loads, fills) = (bed.loads(), bed.fills());
    let used = async || {
        for _ in 0..100 {
            let found = node.find(issued.access.clone()).await.unwrap();
            assert_eq!(found.tier(), Tier::Hot, "nobody waits");
        }
    };
    bed.clock.advance(50 * MINUTE);
    used().await;
    assert_eq!(bed.loads(), loads, "it is not near its end");
    bed.clock.advance(10 * MINUTE - SHORTLY);
    // Redis is given it after it is hot here.
    eventually("it is loaded", async || {
        used().await;
        bed.fills() > fills
    })
    .await;
    assert_eq!(bed.loads(), loads + 1);

    // The end is an hour off again.
    bed.clock.advance(50 * MINUTE);
    used().await;
    assert_eq!(bed.loads(), loads + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_use_are_loaded_anew_together_in_their_last_minute() {
    const SESSIONS: u64 = 500;
    let bed = Bed::new();
    let node = bed.node().await;
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS {
        tokens.push(node.login(Login::guest()).await.unwrap().access);
    }
    let use_all = async || {
        for token in &tokens {
            let found = node.find(token.clone()).await.unwrap();
            assert_eq!(found.tier(), Tier::Hot, "nobody waits");
        }
    };
    bed.begun(SESSIONS).await;
    let (loads, fills) = (bed.loads(), bed.fills());
    bed.clock.advance(50 * MINUTE);
    use_all().await;
    // Whether a session is near its end is asked when its use has been noted.
    let noted = "SELECT count(*) FROM sessions WHERE last_seen_at > created_at + interval '49 min'";
    let all = SESSIONS.to_string();
    eventually("all uses are noted", async || {
        bed.service.cold.sql(noted).trim() == all
    })
    .await;
    assert_eq!(bed.loads(), loads, "they are not near their end");
    bed.clock.advance(9 * MINUTE);
    use_all().await;
    eventually("all are loaded", async || bed.fills() >= fills + SESSIONS).await;
    let loads = bed.loads() - loads;
    // Their uses are noted once a second, and the loads of one note go together.
    assert!((1..=100).contains(&loads), "{loads} statements");

    // Each has another hour now.
    bed.clock.advance(10 * MINUTE);
    let fills = bed.fills();
    use_all().await;
    assert_eq!(bed.fills(), fills);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_found_warm_at_the_end_of_its_term_there_is_loaded_anew() {
    let bed = Bed::new();
    let login = bed.node().await;
    let issued = login.login(Login::guest()).await.unwrap();
    bed.begun(1).await;
    // Each is another node, for which it is warm.
    let found_warm = async || {
        let node = bed.node().await;
        let found = node.find(issued.access.clone()).await.unwrap();
        assert_eq!(found.tier(), Tier::Warm, "nobody waits");
        node
    };
    let (loads, fills) = (bed.loads(), bed.fills());
    bed.clock.advance(30 * MINUTE);
    let _early = found_warm().await;
    // Redis goes by a clock of its own, and has it still.
    bed.clock.advance(30 * MINUTE - Duration::from_secs(5));
    assert_eq!((bed.loads(), bed.fills()), (loads, fills));
    // For certain in the last 31st of its term; that may have begun this very moment.
    let mut late = Vec::new();
    eventually("it is loaded anew", async || {
        late.push(found_warm().await);
        bed.fills() > fills
    })
    .await;
    // More than one may have begun to.
    for node in &late {
        assert!(node.shutdown(MINUTE).await);
    }
    assert!(bed.loads() - loads <= late.len() as u64);
    bed.clock.advance(30 * MINUTE);
    let loads = bed.loads();
    let _early_again = found_warm().await;
    assert_eq!(bed.loads(), loads);
}

/// A node whose sessions are near the end of their hot term whenever they are used, and a store that
/// answers when the test says so.
async fn always_due(bed: &Bed) -> (Tiers<Basket>, Arc<Slow>) {
    let store = Slow::on(&bed.service.cold, Semaphore::MAX_PERMITS >> 1).await;
    let mut config = bed.service.quiet();
    config.hot.ttl = MINUTE;
    config.cold.max_waiting = 100;
    let node = Tiers::builder(config, bed.service.keys())
        .clock(bed.clock.clone())
        .store(store.clone())
        .start()
        .await
        .unwrap();
    (node, store)
}

/// So many that are due at their next use.
async fn due(node: &Tiers<Basket>, clock: &Clock, sessions: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    for _ in 0..sessions {
        tokens.push(node.login(Login::guest()).await.unwrap().access);
    }
    clock.advance(MINUTE - SHORTLY);
    tokens
}

async fn use_each(node: &Tiers<Basket>, tokens: Vec<Token>) {
    for token in tokens {
        node.find(token).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_anew_keeps_no_request_out() {
    let bed = Bed::new();
    let (node, store) = always_due(&bed).await;
    let elsewhere = bed.node().await.login(Login::guest()).await.unwrap();
    bed.service.redis().cli(&["FLUSHALL"]);
    let tokens = due(&node, &bed.clock, 300).await;
    store.stop();
    let before = store.read();
    use_each(&node, tokens).await;
    eventually("some are being loaded", async || store.read() > before).await;
    // All have been noted, and what there is room for is under way.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let request = tokio::spawn(async move { node.find(elsewhere.access).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    store.answer(Semaphore::MAX_PERMITS >> 2);
    request.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_loaded_anew_for_a_node_that_is_stopped() {
    let bed = Bed::new();
    let (node, store) = always_due(&bed).await;
    let tokens = due(&node, &bed.clock, 300).await;
    assert!(node.shutdown(Duration::from_secs(60)).await);
    let before = store.read();
    // What is hot is served to the last.
    use_each(&node, tokens).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.read(), before);
}
