//! What each tier holds of a session, and what the gate says of it: for operators.

use std::sync::Arc;

use session_core::{Key, Lineage, Mark, SessionId, Timestamp};

use super::Tiers;
use crate::cold::{ColdStore, Row};
use crate::data::SessionData;
use crate::error::Error;
use crate::fence::{Admission, Gate};
use crate::warm::{WarmFound, WarmPlace};

/// What the database and Redis hold of a session, and what this node's gate says of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// When it was looked at.
    pub at: Timestamp,
    /// The session; `None` if nothing leads from the key to one.
    pub id: Option<SessionId>,
    /// Its row in the database, revoked and expired ones too.
    pub row: Option<Row>,
    /// What Redis holds of it: its own record first, then copies under foreign keys. Empty without
    /// a warm tier.
    pub warm: Vec<WarmCopy>,
    /// What this node's gate goes by for it; `None` if there is no session.
    pub gate: Option<Gate>,
    /// The mark that the database gives out now.
    pub mark: Mark,
    /// What its marks are of now.
    pub lineage: Lineage,
}

/// What Redis holds at one place, and what this node would do with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WarmCopy {
    /// Where.
    pub place: WarmPlace,
    /// What.
    pub found: WarmFound,
    /// What the gate says; `None` where there is no record to ask it of.
    pub admission: Option<Admission>,
}

impl<D: SessionData> Tiers<D> {
    /// Looks at a session in the database and in Redis, past the hot tier, and asks this node's gate
    /// of each record there. It brings nothing into any tier, and is no use of the session.
    ///
    /// Some statements and commands, one after the other, so what changes meanwhile may be seen in
    /// one and not in the other. For operators, not for requests.
    ///
    /// Cancellation-safe.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the database cannot be read. A Redis that cannot be is
    /// [told](WarmFound::Unanswered).
    pub async fn inspect(&self, key: Key) -> Result<Inspection, Error> {
        let shared = self.shared();
        // Of the changes none, but what stands beside them.
        let look = async move |store: Arc<dyn ColdStore>| {
            let now = store.changes(Mark::new(i64::MAX), 1).await?;
            Ok((now, store.load(key).await?))
        };
        let (now, row) = shared.run_detached(look).await?;
        let at = shared.clock.now().wall;
        let mut id = match (&row, key) {
            (Some(row), _) => Some(row.head.id),
            (None, Key::Id(id)) => Some(id),
            (None, _) => None,
        };

        let mut found = Vec::new();
        if let Some(warm) = &shared.warm {
            let mut places = Vec::new();
            if let Some(row) = &row {
                let access = row.head.access.map(Key::AccessJti);
                let refresh = row.head.refresh.map(Key::Refresh);
                places.extend(access.into_iter().chain(refresh));
            }
            // It may have led here until a moment ago.
            if !places.contains(&key) {
                places.push(key);
            }
            for key in places {
                let place = match key {
                    Key::AccessJti(hash) if hash.is_foreign() => WarmPlace::Access,
                    Key::Refresh(hash) if hash.is_foreign() => WarmPlace::Refresh,
                    _ => continue,
                };
                let copy = warm.inspect(key, now.lineage, at).await;
                if let WarmFound::Record { id: whose, .. } = copy {
                    id = id.or(Some(whose));
                }
                found.push((place, copy));
            }
            if let Some(id) = id {
                let own = warm.inspect(Key::Id(id), now.lineage, at).await;
                found.insert(0, (WarmPlace::Session, own));
            }
        }

        let judged = found.into_iter().map(|(place, found)| {
            let admission = match &found {
                WarmFound::Record {
                    id, version, as_of, ..
                } => {
                    let gate = shared.fence.gate(*id);
                    Some(gate.admission(now.lineage, *version, *as_of))
                }
                _ => None,
            };
            WarmCopy {
                place,
                found,
                admission,
            }
        });
        Ok(Inspection {
            at,
            id,
            row,
            warm: judged.collect(),
            gate: id.map(|id| shared.fence.gate(id)),
            mark: now.up_to,
            lineage: now.lineage,
        })
    }
}
