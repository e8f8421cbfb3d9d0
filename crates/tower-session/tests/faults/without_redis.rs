//! What is expected of nodes that cannot use Redis.

use std::sync::Arc;

use futures_util::future::join_all;
use tier_cache::TierState;

use crate::bed::{Held, POOL, eventually};
use crate::journal::Journal;
use crate::row::{BUSY, Row};
use crate::service::Ask;

impl Row {
    /// Both nodes use Redis.
    pub(crate) async fn connected(&self) {
        eventually("both nodes use Redis", async || {
            self.bed
                .nodes()
                .iter()
                .all(|node| node.warm_is(TierState::Up))
        })
        .await;
    }

    /// Both nodes have given Redis up.
    pub(crate) async fn given_up(&self) {
        eventually("both nodes have given Redis up", async || {
            self.bed
                .nodes()
                .iter()
                .all(|node| node.warm_is(TierState::Down))
        })
        .await;
    }

    /// Redis is given up after few commands have failed since there were `before`. While it is out of
    /// order for good it is sent nothing; and a crowd that nobody knows here is served all the same.
    pub(crate) async fn left_alone(&mut self, before: u64, most: u64) {
        self.given_up().await;
        self.rounds().await;
        let (sent, failed) = (self.commands(), self.failed_commands());
        assert!(
            failed - before <= most,
            "{} commands failed",
            failed - before
        );
        self.crowd_is_served().await;
        self.rounds().await;
        assert_eq!((self.commands(), self.failed_commands()), (sent, failed));
        self.note_failed(before);
        self.remark += ", then none was sent";
    }

    pub(crate) fn note_failed(&mut self, before: u64) {
        let failed = self.failed_commands() - before;
        self.remark = format!("; {failed} commands failed");
    }

    /// Many who were never here come at once: few statements serve them, over few connections.
    pub(crate) async fn crowd_is_served(&mut self) {
        let crowd = std::mem::take(&mut self.crowd);
        let (loads, others) = (self.bed.loads(), self.others());
        let bed = &self.bed;
        let asked = crowd.iter().map(async |held: &Held| {
            let answer = bed.here.ask(Ask::Me, &held.token).await;
            self.journal
                .note(&self.journal.crowd, held, Ask::Me, &answer);
            assert!(answer.shown().is_some(), "{answer:?}");
        });
        join_all(asked).await;
        let connections = self.bed.connections();
        // Those for statements, and the feed's own.
        let most = self.bed.nodes().len() * (POOL + 1);
        assert!(connections <= most, "{connections} connections");
        let (loads, others) = (self.bed.loads() - loads, self.others() - others);
        assert!(
            loads <= crowd.len() as u64 / 2 + others + BUSY,
            "{loads} statements for {} sessions, and {others} requests of others",
            crowd.len()
        );
    }

    /// What the clients have done that may take a statement that reads a session: each login, miss,
    /// change, revocation and unknown token takes one.
    fn others(&self) -> u64 {
        let Journal {
            misses,
            writes,
            ending,
            foreign,
            ..
        } = &*self.journal;
        let asked = [misses, writes, ending, foreign].map(|tally| tally.now().answered());
        let count = self.bed.database.sql("SELECT count(*) FROM sessions");
        let logins: u64 = count.trim().parse().expect("a number");
        asked.into_iter().sum::<u64>() + logins
    }

    /// Redis is used again: what one node writes the other finds there. What is hot is loaded anew by
    /// nobody, and what is not by one statement each, at most.
    pub(crate) async fn recovers_without_a_storm(&mut self) {
        let (loads, others) = (self.bed.loads(), self.others());
        self.misses_are_warm_again().await;
        let (loads, others) = (self.bed.loads() - loads, self.others() - others);
        assert!(
            loads <= others + BUSY,
            "{loads} statements for {others} requests"
        );
        self.recovery = format!("warm again; {loads} statements for {others} requests");
    }

    /// What one node has written to Redis the other finds there.
    pub(crate) async fn misses_are_warm_again(&self) {
        self.connected().await;
        let before = self.journal.misses.now();
        eventually("misses are answered by Redis again", async || {
            (self.journal.misses.now() - before).warm >= 5
        })
        .await;
    }

    /// Ends the row, in which every request for a hot session was served by the hot tier.
    pub(crate) async fn end_with_hot_hits(self) {
        let journal = Arc::clone(&self.journal);
        self.end().await;
        let hot = journal.hot.now();
        assert_eq!(hot.hot, hot.answered(), "{hot:?}");
    }

    pub(crate) fn failed_commands(&self) -> u64 {
        self.bed
            .nodes()
            .map(|node| node.failed_commands())
            .iter()
            .sum()
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.bed.nodes().map(|node| node.attempts()).iter().sum()
    }

    pub(crate) fn commands(&self) -> u64 {
        self.bed.nodes().map(|node| node.commands()).iter().sum()
    }
}
