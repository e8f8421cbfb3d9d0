//! What is expected of nodes that cannot use the database.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use tier_cache::{OnBlind, TierState};
use tower_session::Tier;

use crate::bed::{Held, eventually};
use crate::clients::counted;
use crate::row::Row;
use crate::service::{Ask, Told};

impl Row {
    /// What is cached is served until the bound has passed. Writes fail in words, and change no cache.
    pub(crate) async fn caches_serve_until_the_bound(&mut self) {
        self.database_is_missed().await;
        self.hot_is_served().await;
        self.crowd_is_served_by_redis().await;
        self.writes_fail_and_change_nothing().await;
        self.the_bound_passes().await;
    }

    /// Both nodes have noticed.
    pub(crate) async fn database_is_missed(&self) {
        eventually("both nodes miss the database", async || {
            let nodes = self.bed.nodes().into_iter();
            nodes
                .map(|node| node.tiers.health().cold)
                .all(|cold| cold == TierState::Down)
        })
        .await;
    }

    /// Each hot session is served, by the hot tier.
    pub(crate) async fn hot_is_served(&self) {
        let before = self.journal.hot.now();
        self.hot_rounds().await;
        let seen = self.journal.hot.now() - before;
        assert!(seen.hot > 0 && seen.hot == seen.answered(), "{seen:?}");
    }

    /// So is each that only Redis has, by the other node.
    async fn crowd_is_served_by_redis(&self) {
        let asked = self.crowd.iter().map(async |held: &Held| {
            let answer = self.bed.here.ask(Ask::Me, &held.token).await;
            self.journal
                .note(&self.journal.crowd, held, Ask::Me, &answer);
            let shown = answer.shown().expect("it is warm");
            assert_eq!(shown.tier, Tier::Warm);
        });
        join_all(asked).await;
    }

    pub(crate) async fn writes_fail_and_change_nothing(&self) {
        let here = &self.bed.here;
        let held = &self.untouched;
        for ask in [Ask::Count, Ask::Logout] {
            let answer = here.ask(ask, &held.token).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
            let Told::Failure(words) = &answer.told else {
                panic!("{ask:?} failed without a word: {answer:?}");
            };
            assert!(words.contains("database"), "{words}");
            let answer = here.ask(Ask::Basket, &held.token).await;
            assert_eq!(counted(&answer), Some(0), "{answer:?}");
            assert_eq!(answer.shown().map(|shown| shown.tier), Some(Tier::Hot));
        }
    }

    /// From then on hot sessions are refused, or served for as long as `fence.on_blind` says.
    pub(crate) async fn the_bound_passes(&self) {
        let fence = &self.bed.here.tiers.config().fence;
        self.bed
            .clock
            .advance(fence.staleness_bound + Duration::from_secs(1));
        if let OnBlind::ServeFor(longer) = fence.on_blind {
            self.hot_is_served().await;
            self.bed.clock.advance(longer);
        }
        self.nobody_is_served().await;
    }

    /// Past the bound, while the database does not answer.
    pub(crate) async fn nobody_is_served(&self) {
        // What began before may end now.
        self.hot_rounds().await;
        let before = self.journal.hot.now();
        self.hot_rounds().await;
        let seen = self.journal.hot.now() - before;
        assert!(
            seen.undecided > 0 && seen.undecided == seen.answered(),
            "{seen:?}"
        );
    }

    /// The database is back: caches are trusted, writes are taken, and all who had a session have it.
    pub(crate) async fn recovers_from_blindness(&mut self) {
        eventually("both nodes trust their caches", async || {
            let mut nodes = self.bed.nodes().into_iter();
            nodes.all(|node| node.tiers.health().is_trusting())
        })
        .await;
        let journal = &self.journal;
        let tallies = [&journal.hot, &journal.misses, &journal.writes];
        let before = tallies.map(|tally| tally.now().served());
        eventually("all are served", async || {
            let mut now = tallies.iter().zip(before);
            now.all(|(tally, before)| tally.now().served() >= before + 5)
        })
        .await;
        for held in self.crowd.iter().chain([&self.untouched]) {
            for node in self.bed.nodes() {
                eventually("each session is still there", async || {
                    let answer = node.ask(Ask::Basket, &held.token).await;
                    self.journal
                        .note(&self.journal.crowd, held, Ask::Basket, &answer);
                    assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
                    answer.shown().is_some()
                })
                .await;
            }
        }
        self.recovery = "served and written again, by the same processes".into();
    }
}
