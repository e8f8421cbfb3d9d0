//! Databases whose history goes back: restores, lost commits, swapped files, forked copies. What only
//! the lost history had is served by no node, although all caches hold it, and valid sessions of
//! the history that goes on are served without a restart.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | what is about to be lost, and what must become of it |
//! | `lost.rs` | backups of SQLite, a failover, and what a node does that cannot begin a new lineage |
//! | `dumps.rs` | dumps that are restored into the tables of running nodes |
//! | `crashes.rs` | commits that a crash loses, and data folders that are put back |
//! | `recovery.rs` | servers that recover to a point in time, and former primaries that come back |
//! | `schemas.rs` | schemas of which one is restored |
//! | `copies.rs` | a copy that was promoted by mistake |
//! | `around_triggers.rs` | changes that the triggers did not see, or no longer see |
//! | `files.rs` | SQLite files that are replaced |
//! | `rows.rs` | rows of a SQLite backup that are put back by SQL |
//! | `swapped_back.rs` | databases that are swapped for others, and swapped back |
//! | `unharmed.rs` | what looks like going back and is not, and what is refused without need |

mod around_triggers;
mod copies;
mod crashes;
mod dumps;
mod files;
mod lost;
mod recovery;
mod rows;
mod schemas;
mod swapped_back;
mod unharmed;

use std::process::Command;
use std::time::{Duration, Instant};

use session_core::{SessionId, Token};
use testbed::{Cluster, Database};
use tier_cache::{Issued, Login, Refusal, Session, Tier, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// A service of two nodes with a Redis.
struct World {
    service: Service,
    here: Tiers<Basket>,
    there: Tiers<Basket>,
}

impl World {
    async fn on(cold: Cold) -> Self {
        Self::with(Service::new(cold)).await
    }

    async fn with(service: Service) -> Self {
        let (here, there) = (service.node().await, service.node().await);
        Self {
            service,
            here,
            there,
        }
    }

    async fn in_cluster(cluster: &Cluster) -> Self {
        Self::on(Cold::Postgres(cluster.database())).await
    }

    fn sql(&self, sql: &str) -> String {
        self.service.cold.sql(sql)
    }

    fn database(&self) -> &Database {
        match &self.service.cold {
            Cold::Postgres(database) => database,
            Cold::Sqlite(_) => unreachable!(),
        }
    }

    /// A session that is hot on both nodes, and warm in Redis.
    async fn login(&self) -> Known {
        let known = Known::of(self.here.login(Login::guest()).await.unwrap());
        self.there.find(known.access.clone()).await.unwrap();
        known
    }

    /// Sessions before a backup.
    async fn kept(&self) -> Kept {
        Kept {
            valid: self.login().await,
            revoked: self.login().await,
        }
    }

    /// What happens after the backup, all of which will be lost: a login, and changes of a session.
    async fn lose(&self, kept: Kept) -> Lost {
        let begun = self.login().await;
        let mut session = self.here.find(kept.revoked.access.clone()).await.unwrap();
        for _ in 0..9 {
            let change = |basket: &mut Basket| basket.count += 1;
            session = self.here.update(&session, change).await.unwrap();
        }
        self.there.find(kept.revoked.access.clone()).await.unwrap();
        Lost { kept, begun }
    }

    /// Each node of before, and one that starts now, believes the history that goes on and no other.
    async fn goes_on(&self, lost: Lost) {
        let later = self.service.node().await;
        lost.believed_by(&[&self.here, &self.there, &later]).await;
    }
}

/// A session and its token. (A [`Session`](tier_cache::Session) would keep its node alive.)
struct Known {
    id: SessionId,
    access: Token,
}

impl Known {
    fn of(issued: Issued<Basket>) -> Self {
        Self {
            id: issued.session.id(),
            access: issued.access,
        }
    }
}

/// What the backup has.
struct Kept {
    valid: Known,
    /// To be revoked in the history that goes on.
    revoked: Known,
}

/// What is about to be lost.
struct Lost {
    kept: Kept,
    begun: Known,
}

impl Lost {
    /// By plain SQL, in the history that goes on.
    fn revoke(&self) -> String {
        let id = self.kept.revoked.id;
        format!("UPDATE sessions SET is_active = false WHERE id = '{id}'")
    }

    async fn believed_by(&self, nodes: &[&Tiers<Basket>]) {
        for node in nodes {
            must_refuse(node, &self.begun, &Refusal::Unknown).await;
            must_refuse(node, &self.kept.revoked, &Refusal::Revoked).await;
            must_serve(node, &self.kept.valid).await;
        }
        let issued = nodes[0].login(Login::guest()).await.unwrap();
        eventually("a new session is warm for the others", async || {
            let found = nodes[nodes.len() - 1].find(issued.access.clone()).await;
            found.is_ok_and(|session| session.tier() != Tier::Cold)
        })
        .await;
    }
}

/// Within the bound, which is far below the time for which sessions stay hot.
async fn must_refuse(node: &Tiers<Basket>, known: &Known, why: &Refusal) {
    eventually(&format!("a node says: {why}"), async || {
        is(&node.find(known.access.clone()).await, why)
    })
    .await;
}

fn is(found: &Result<Session<Basket>, Refusal>, why: &Refusal) -> bool {
    let expected = std::mem::discriminant(why);
    let found = found.as_ref().err().map(std::mem::discriminant);
    found == Some(expected)
}

/// For as long as the database does not vouch for what it says.
async fn must_be_unavailable(node: &Tiers<Basket>, known: &Known) {
    let is_unavailable = async || {
        let found = node.find(known.access.clone()).await;
        found.is_err_and(|refusal| refusal.is_unavailable())
    };
    eventually("a node says that it cannot know", is_unavailable).await;
    for _ in 0..20 {
        // For some polls.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(is_unavailable().await);
    }
}

/// Waits for a poll that begins after this is called, and ends.
async fn has_polled(node: &Tiers<Basket>) {
    let start = Instant::now();
    eventually("a poll", async || {
        let since = start.elapsed().as_millis() as u64;
        node.health().feed_lag_ms.is_some_and(|lag| lag < since)
    })
    .await;
}

/// Cold once, and then hot.
async fn must_serve(node: &Tiers<Basket>, known: &Known) {
    eventually("the session is hot", async || {
        let found = node.find(known.access.clone()).await;
        found.is_ok_and(|session| session.tier() == Tier::Hot)
    })
    .await;
}

fn signal(signal: &str, process: &str) {
    let sent = Command::new("kill")
        .args([signal, process.trim()])
        .status()
        .unwrap();
    assert!(sent.success(), "kill {signal} {process}");
}
