//! A cold store that makes its sessions up, so that a million of them cost no database: for what is
//! measured of the tiers above it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::{
    Device, Head, Key, KeyHash, Lineage, Mark, SessionId, Timestamp, User, UserId, Version,
};
use tower_session::tier_cache::StoreError;
use tower_session::tier_cache::cold::{
    Change, Changes, ColdStore, Created, Cursor, Limit, NewSession, Pruned, RawBody, Retention,
    Row, Scope,
};

/// Nothing ever changes in it.
#[derive(Clone)]
pub(crate) struct MadeUp {
    known: Arc<Known>,
}

struct Known {
    /// The number of each, of which its row is made, and its access key.
    by_id: HashMap<SessionId, (u32, KeyHash)>,
    /// Those with foreign keys.
    by_key: HashMap<KeyHash, SessionId>,
    begun: Timestamp,
}

/// How long they live, used or not.
const TTL: Duration = Duration::from_secs(12 * 60 * 60);

impl MadeUp {
    /// A store of these sessions, each with the hash of its access token or foreign key.
    pub(crate) fn new(sessions: impl IntoIterator<Item = (SessionId, KeyHash)>) -> Self {
        let (mut by_id, mut by_key) = (HashMap::new(), HashMap::new());
        for (number, (id, access)) in (0..).zip(sessions) {
            by_id.insert(id, (number, access));
            if access.is_foreign() {
                by_key.insert(access, id);
            }
        }
        Self {
            known: Arc::new(Known {
                by_id,
                by_key,
                begun: now(),
            }),
        }
    }

    fn row(&self, key: Key) -> Option<Row> {
        let id = match key {
            Key::Id(id) => id,
            Key::AccessJti(hash) | Key::Refresh(hash) => *self.known.by_key.get(&hash)?,
        };
        let (number, access) = *self.known.by_id.get(&id)?;
        let begun = self.known.begun;
        Some(Row {
            head: Head {
                user: Some(User {
                    id: UserId::Int(number.into()),
                    email: format!("user{number:07}@example.com").into(),
                    username: format!("user{number:07}").into(),
                }),
                idle_ttl: Some(TTL),
                assurance: 1,
                access: Some(access),
                as_of: Mark::new(1),
                ..Head::new(id, begun, begun + TTL)
            },
            changed_at: Mark::ZERO,
            lineage: Lineage::ONLY,
            read_at: begun,
            ttl: None,
            rotation: None,
            body: RawBody {
                device: Device::default(),
                created_at: begun,
                data: r#"{"items":1}"#.into(),
            },
        })
    }
}

impl std::fmt::Debug for MadeUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeUp")
            .field("sessions", &self.known.by_id.len())
            .finish_non_exhaustive()
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(0))
}

#[async_trait]
impl ColdStore for MadeUp {
    async fn load(&self, key: Key) -> Result<Option<Row>, StoreError> {
        Ok(self.row(key))
    }

    async fn version(&self, id: SessionId) -> Result<Option<Version>, StoreError> {
        Ok(self.known.by_id.get(&id).map(|_| Version::FIRST))
    }

    async fn create(&self, _: NewSession, _: Option<Limit>) -> Result<Created, StoreError> {
        Ok(Created::Full)
    }

    async fn update(&self, _: SessionId, _: Version, _: Change) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn revoke(&self, _: SessionId, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn revoke_all(
        &self,
        _: Scope,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        Ok(Vec::new())
    }

    async fn touch(&self, _: Vec<(SessionId, Timestamp)>, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn list(
        &self,
        _: UserId,
        _: Timestamp,
        _: Option<Cursor>,
        _: u32,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }

    async fn changes(&self, since: Mark, _: u32) -> Result<Changes, StoreError> {
        Ok(Changes {
            up_to: Mark::new(1),
            complete_since: since,
            sessions: Vec::new(),
            lineage: Lineage::ONLY,
            begun: None,
            moved: None,
        })
    }

    async fn prune(&self, _: Timestamp, _: Retention, _: u32) -> Result<Pruned, StoreError> {
        Ok(Pruned::default())
    }

    fn kind(&self) -> &'static str {
        "made up"
    }
}
