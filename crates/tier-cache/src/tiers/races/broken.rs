//! Each step with one rule of the protocol left out. The rest is as in the code that it stands for.

use std::sync::Arc;

use session_core::{Key, Mark, WrittenToken};

use super::database::SESSION;
use super::now;
use crate::clock::{Moment, Now};
use crate::error::Refusal;
use crate::hot::Entry;
use crate::session::Tier;
use crate::tiers::Shared;
use crate::tiers::load::{Landed, Loaded};

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The gate is asked after the insert into the hot tier, too.
    AskAfterInsert,
    /// The gate is asked again when a request collects what was loaded.
    AskAtCollection,
    /// A floor is raised before the entry is removed.
    FloorFirst,
    /// The hot tier is cleared when the fence starts over.
    ClearAtRestart,
    /// An answer is of the generation in which it was asked for, not in which it came.
    GenerationOfAsking,
    /// Trust is granted after the floors are raised.
    TrustLast,
    /// Trust counts from the asking, not from the answer.
    TrustFromAsking,
    /// A request reads the trust before the cache.
    TrustBeforeCache,
    /// A request reads the clock after the cache.
    ClockLast,
    /// Who brings an entry to the front takes the ticket before the entry.
    TicketFirst,
    /// The front forgets an entry after it was removed.
    ForgetLast,
    /// A record of another lineage is refused.
    Lineage,
    /// A node that starts over drops its lineage together with its trust.
    LineageFirst,
    /// And its floors after the hot tier was cleared.
    FloorsLast,
    /// The feed tells that the database may lack what its lineage had.
    Moved,
}

/// For `load::cold`.
pub(super) fn load(shared: &Shared<()>, rule: Rule) -> Loaded<()> {
    let good_until = shared.clock.now().moment + shared.config.fence.staleness_bound;
    let asked = shared.hot.generation();
    let row = now(shared.store.load(Key::Id(SESSION))).unwrap().unwrap();
    if !shared.admits(&row.head) {
        return Err(shared.too_late());
    }
    let generation = match rule {
        Rule::GenerationOfAsking => shared.hot.generation(),
        _ => asked,
    };
    let entry = Entry::cold(row, shared.clock.now(), generation, &shared.hot);
    let entry = shared.hot.insert(Arc::new(entry), |head| {
        rule == Rule::AskAfterInsert || shared.admits(head)
    });
    Ok(Landed {
        entry: entry.ok_or(Refusal::Unknown)?,
        tier: Tier::Cold,
        good_until,
    })
}

/// For `load::replica`: any lineage will do.
pub(super) fn replica(shared: &Arc<Shared<()>>) -> Option<Landed<()>> {
    if !shared.fence.trusts(shared.clock.now().moment) {
        return None;
    }
    let generation = shared.hot.generation();
    let row = now(shared.store.load_replica(vec![Key::Id(SESSION)])).pop()?;
    let entry = Entry::cold(row, shared.clock.now(), generation, &shared.hot);
    let entry = shared
        .hot
        .insert(Arc::new(entry), |head| shared.admits(head))?;
    Some(Landed {
        entry,
        tier: Tier::Cold,
        good_until: Moment::LONG_AGO,
    })
}

/// For `Tiers::judge`: the gate is not asked.
pub(super) fn collect_unasked(shared: &Shared<()>, landed: &Landed<()>) -> bool {
    let trusted_until = shared.fence.trusted_until();
    let now = shared.clock.now().moment;
    landed.entry.head().is_active && (now < trusted_until || now < landed.good_until)
}

/// For `Shared::hot_entry`.
pub(super) fn trust_after_cache(shared: &Shared<()>) -> Option<(Arc<Entry<()>>, Now)> {
    let entry = shared.hot.get(SESSION)?;
    let trusted_until = shared.fence.trusted_until();
    let now = shared.clock.now();
    (now.moment < trusted_until).then_some((entry, now))
}

/// For `Shared::hot_entry`; says when it had read the cache.
pub(super) fn clock_before_cache(shared: &Shared<()>) -> Option<(Arc<Entry<()>>, Now)> {
    let trusted_until = shared.fence.trusted_until();
    let early = shared.clock.now();
    let before_cache = shared.clock.now();
    let entry = shared.hot.get(SESSION)?;
    (early.moment < trusted_until).then_some((entry, before_cache))
}

/// For `World::known_or_brought`.
pub(super) fn ticket_after_cache(
    shared: &Shared<()>,
    token: WrittenToken<'_>,
) -> Option<(Arc<Entry<()>>, Now)> {
    shared.known_entry(token).or_else(|| {
        let found = shared.hot_entry(Key::Id(SESSION))?;
        let ticket = shared.hot.glimpse(token.stem()).ticket;
        shared.hot.bring(token, &found.0, ticket);
        Some(found)
    })
}

/// For `Feed`.
pub(super) struct Feed {
    shared: Arc<Shared<()>>,
    rule: Rule,
    cursor: Mark,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared<()>>, rule: Rule) -> Self {
        Self {
            shared,
            rule,
            cursor: Mark::ZERO,
        }
    }

    pub(super) fn poll(&mut self) {
        let Self { shared, rule, .. } = self;
        let bound = shared.config.fence.staleness_bound;
        let mut asked = shared.clock.now().moment;
        let changes = now(shared.store.changes(self.cursor, u32::MAX)).unwrap();
        if changes.up_to < self.cursor {
            let fence = &shared.fence;
            let lineage = fence.lineage().unwrap();
            fence.distrust();
            if *rule == Rule::FloorsLast {
                fence.start_over();
                shared.hot.clear();
                return;
            }
            fence.follow(lineage);
            shared.hot.clear();
            fence.distrust();
            fence.start_over();
            return;
        }
        shared.fence.follow(changes.lineage);
        if *rule == Rule::TrustLast {
            shared.fence.trust_until(asked + bound);
        }
        if changes.complete_since > self.cursor || self.cursor == Mark::ZERO {
            shared.fence.restart(changes.complete_since);
            if *rule != Rule::ClearAtRestart {
                shared.hot.clear();
            }
        }
        for changed in &changes.sessions {
            if *rule == Rule::FloorFirst {
                shared.hot.remove_below(changed.id, changed.version);
                shared
                    .fence
                    .raise(changed.id, changed.version, changed.mark);
            } else if *rule == Rule::ForgetLast {
                let (fence, hot) = (&shared.fence, &shared.hot);
                fence.raise(changed.id, changed.version, changed.mark);
                hot.forget_and_remove_below(changed.id, changed.version);
            } else {
                shared.raise(changed.id, changed.version, changed.mark);
            }
        }
        self.cursor = changes.up_to;
        if *rule == Rule::TrustFromAsking {
            asked = shared.clock.now().moment;
        }
        shared.fence.trust_until(asked + bound);
    }
}
