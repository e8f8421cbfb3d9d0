//! Fills Redis with sessions before anybody asks for them.

use session_core::{Key, SessionId};
use tier_cache::{Tiers, Unreadable, WarmFound};

use crate::cli::{Place, WarmUp};
use crate::failure::Failure;
use crate::opening::{self, Data, config, keys, open, redis, redis_is_down};
use crate::output::print;
use crate::progress::Progress;
use crate::shown;

pub(crate) async fn run(place: &Place, asked: WarmUp) -> Result<(), Failure> {
    let ids: Result<Vec<_>, _> = asked.ids.iter().map(|text| shown::id(text)).collect();
    let ids = ids?;
    let config = config(place)?;
    if config.warm.url.is_none() {
        return Err(Failure::failed(
            "there is no warm tier to fill: name the service's Redis by --redis URL, \
             SESSION_WARM__URL or --config FILE. The hot tiers of nodes cannot be filled from here",
        ));
    }
    let redis = redis(&config);
    let store = opening::store(&config).await?;
    let tiers = open(config, keys(place)?).await?;
    let down = || Failure::failed(format_args!("the Redis {redis} is not reached"));
    if redis_is_down(&tiers) {
        return Err(down());
    }
    let some = match ids.is_empty() {
        true => store.recent(tiers.now().wall, SAMPLE).await,
        false => Ok(ids.iter().copied().take(SAMPLE as usize).collect()),
    };
    if is_foreign(&tiers, &some.map_err(Failure::failed)?).await? {
        return Err(Failure::failed(
            "Redis holds these sessions under another root key than this one, which the nodes \
             cannot read: give the key of the nodes, or empty Redis first if theirs is new",
        ));
    }
    let wanted = match ids.is_empty() {
        true => tier_cache::WarmUp::recent(asked.most),
        false => tier_cache::WarmUp::these(ids),
    };
    let mut progress = Progress::new();
    let loading = tiers.warm_up(wanted.per_second(asked.per_second), |so_far| {
        progress.tell(so_far);
    });
    let done = loading.await;
    drop(progress);
    let done = done?;
    if redis_is_down(&tiers) {
        return Err(down());
    }
    let left = match done.of - done.loaded {
        0 => String::new(),
        left => format!(", the other {left} not being accepted now"),
    };
    print(&format!(
        "loaded {} of {} sessions into {redis}{left}",
        done.loaded, done.of
    ))
}

/// Sessions that are looked at before any is written.
const SAMPLE: u32 = 32;

/// Whether what Redis holds was sealed by another key. To write over it would be to empty Redis for
/// the nodes, which would all ask the database.
async fn is_foreign(tiers: &Tiers<Data>, ids: &[SessionId]) -> Result<bool, Failure> {
    let mut foreign = false;
    for &id in ids {
        for copy in tiers.inspect(Key::Id(id)).await?.warm {
            match copy.found {
                WarmFound::Record { .. } => return Ok(false),
                WarmFound::Unreadable { why, .. } => foreign |= why == Unreadable::Seal,
                _ => {}
            }
        }
    }
    Ok(foreign)
}
