//! Has all nodes, and Redis, forget what they cache: begins a new lineage.

use serde_json::json;
use session_core::Timestamp;
use tier_cache::cold::{Lineage, Mark};
use tier_cache::without_password;

use crate::cli::{InvalidateCaches, Place};
use crate::failure::Failure;
use crate::opening::{config, store};
use crate::output::{print, rough};

pub(crate) async fn run(place: &Place, asked: InvalidateCaches) -> Result<(), Failure> {
    let config = config(place)?;
    let store = store(&config).await?;
    let failed = |error: tier_cache::StoreError| {
        let database = without_password(&config.cold.url);
        Failure::failed(format_args!("the database {database}: {}", error.reason))
    };
    let lineage = async || store.changes(Mark::ZERO, 1).await.map(|seen| seen.lineage);
    let before = lineage().await.map_err(failed)?;
    store.renew_lineage(before).await.map_err(failed)?;
    let now = lineage().await.map_err(failed)?;

    let bound = config.fence.staleness_bound;
    let by = Timestamp::from(std::time::SystemTime::now()) + bound;
    if asked.wait {
        tokio::time::sleep(bound).await;
    }
    if asked.json {
        // As texts: JSON's numbers are not exact beyond 53 bits.
        let text = |lineage: Lineage| lineage.get().to_string();
        let told = json!({
            "lineage_before": text(before),
            "lineage": text(now),
            "effective_by": by,
            "effective_within_ms": bound.as_millis() as u64,
        });
        return print(&format!("{told:#}"));
    }
    print(&format!(
        "what was cached before is served by no node after {by}, as the staleness bound of {} has it; \
         no session ended",
        rough(bound)
    ))
}
