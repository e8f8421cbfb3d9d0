//! A copy that takes reads, and was promoted by mistake while the primary lives on.

use std::time::Duration;

use testbed::Cluster;
use tier_cache::{Login, Refusal};

use super::{Known, must_refuse};
use crate::support::{Cold, Service, eventually};

/// Rows of the fork are as new as the primary's by their marks, and nodes that started after all traces
/// were pruned have no floor that would keep them out.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_promoted_copy_are_not_believed() {
    let cluster = Cluster::start();
    let service = Service::new(Cold::Postgres(cluster.database()));
    let Cold::Postgres(database) = &service.cold else {
        unreachable!()
    };
    let standby = cluster.standby();
    let mut config = service.config();
    config.cold.replica_url = Some(standby.url(database));
    config.cold.replica_timeout = Duration::from_secs(30);
    // Few enough to be forgotten.
    config.fence.max_floors = 4;
    let writer = service.node_with(config.clone()).await;
    let issued = Known::of(writer.login(Login::guest()).await.unwrap());
    let id = issued.id;
    // The copy does take reads, as long as it is one.
    standby.caught_up();
    let reader = service.node_with(config.clone()).await;
    eventually("a node reads from the copy", async || {
        reader.find(issued.access.clone()).await.is_ok()
    })
    .await;

    standby.caught_up();
    standby.promote();
    // The fork goes on by itself, so that its marks lie beyond the primary's, and changes the session.
    for _ in 0..20 {
        standby.sql(
            database,
            &format!("UPDATE sessions SET label = label || 'x', expires_at = expires_at + interval '1 s' WHERE id = '{id}'"),
        );
    }
    database.sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    must_refuse(&writer, &issued, &Refusal::Unknown).await;
    // As after a day.
    database.sql(
        "UPDATE session_history SET tombstones_since = (SELECT mark FROM session_now); \
         DELETE FROM session_tombstones",
    );
    service.redis().cli(&["FLUSHALL"]);
    let later = service.node_with(config.clone()).await;
    for node in [&reader, &writer, &later] {
        for _ in 0..20 {
            let found = node.find(issued.access.clone()).await;
            assert!(matches!(found, Err(Refusal::Unknown)), "{found:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
