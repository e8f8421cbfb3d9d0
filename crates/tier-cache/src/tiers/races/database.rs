//! A database of one session, whose every answer takes its time.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use session_core::{Device, Head, Key, Lineage, Mark, SessionId, Timestamp, UserId, Version};

use crate::clock::{Clock, Moment};
use crate::cold::{
    Change, Changed, Changes, ColdStore, Created, Cursor, Limit, NewSession, Pruned, RawBody,
    Retention, Row, Scope,
};
use crate::error::StoreError;
use crate::sync::step;

pub(super) const SESSION: SessionId = SessionId::from_bytes([7; 16]);

#[derive(Debug)]
pub(super) struct Database {
    clock: Clock,
    truth: Mutex<Truth>,
    /// Tells of no single change, only that there may have been some.
    vague: bool,
    /// Whether it tells that it has moved.
    tells: bool,
    /// Whether a new lineage can be begun.
    renews: bool,
}

#[derive(Clone, Debug)]
struct Truth {
    row: Row,
    lineage: Lineage,
    /// What the next change is numbered.
    next: Mark,
    /// What a replica has, which hears of nothing any more.
    replica: Option<Row>,
    /// It may lack what its lineage had.
    moved: bool,
    revoked: Option<Moment>,
}

impl Database {
    pub(super) fn new(clock: Clock, vague: bool) -> Self {
        let now = clock.now().wall;
        let head = Head::new(SESSION, now, now + Duration::from_secs(600));
        let body = RawBody {
            device: Device::default(),
            created_at: Timestamp::from_unix_millis(0),
            data: "null".into(),
        };
        let row = Row {
            head,
            changed_at: Mark::new(1),
            lineage: Lineage::ONLY,
            read_at: now,
            ttl: None,
            rotation: None,
            body,
        };
        let truth = Truth {
            row,
            lineage: Lineage::ONLY,
            next: Mark::new(9),
            replica: None,
            moved: false,
            revoked: None,
        };
        Self {
            clock,
            truth: Mutex::new(truth),
            vague,
            tells: true,
            renews: true,
        }
    }

    /// One that does not tell that it has moved.
    pub(super) fn silent(self) -> Self {
        Self {
            tells: false,
            ..self
        }
    }

    /// Revokes the session for good.
    pub(super) fn revoke(&self) {
        // Only who revokes moves the clock, so it does not move meanwhile.
        let now = self.clock.now().moment;
        step();
        let mut truth = self.truth();
        truth.row.changed_at = truth.next;
        truth.next = Mark::new(truth.next.get() + 1);
        truth.row.head.is_active = false;
        truth.row.head.version = Version::new(truth.row.head.version.get() + 1);
        truth.revoked = Some(now);
    }

    /// Loses its last commits, numbers what comes then as those were, and revokes the session.
    pub(super) fn set_back(&self) {
        self.keep_in_replica();
        self.truth().next = Mark::new(2);
        // Its version counts from what was not lost.
        self.truth().row.head.version = Version::new(0);
        self.revoke();
    }

    /// Loses its last commits, while an open transaction holds all marks back; and revokes the session, in
    /// the version that was lost.
    pub(super) fn crash(&self) {
        self.go_back();
        self.revoke();
    }

    /// Has the tables of a dump in the place of its own, or the file of a backup, in which the session was
    /// revoked. Numbers go on.
    pub(super) fn restore(&self) {
        step();
        let now = self.clock.now().moment;
        self.go_back();
        let mut truth = self.truth();
        truth.row.head.is_active = false;
        truth.row.changed_at = Mark::new(1);
        truth.revoked = Some(now);
    }

    fn go_back(&self) {
        self.keep_in_replica();
        let mut truth = self.truth();
        truth.row.head.version = Version::new(0);
        truth.moved = true;
    }

    /// Has its replica promoted by mistake, which goes on by itself, and revokes the session; the fork's
    /// row is newer by version and mark.
    pub(super) fn fork(&self) {
        step();
        let mut truth = self.truth();
        let far = Mark::new(truth.next.get() + 100);
        // As the view shows it: see `session_now` in the migration.
        let lineage = Lineage::new(!truth.lineage.get());
        if let Some(row) = &mut truth.replica {
            row.head.version = Version::new(99);
            row.head.as_of = far;
            row.lineage = lineage;
        }
        drop(truth);
        self.revoke();
    }

    /// Goes on from a copy that has lost nothing, but cannot be told from one that has.
    pub(super) fn fail_over(&self) {
        let mut truth = self.truth();
        truth.next = Mark::new(2);
        truth.row.changed_at = Mark::new(1);
    }

    /// One whose replica hears of nothing from now on, and on which no lineage can be begun.
    pub(super) fn frozen(clock: Clock) -> Self {
        let database = Self {
            renews: false,
            ..Self::new(clock, false)
        };
        database.keep_in_replica();
        database
    }

    pub(super) fn keep_in_replica(&self) {
        let mut truth = self.truth();
        let mut row = truth.row.clone();
        row.head.as_of = truth.next;
        truth.replica = Some(row);
    }

    /// When the revocation was committed.
    pub(super) fn revoked(&self) -> Option<Moment> {
        self.truth().revoked
    }

    /// What it is at the moment of some snapshot.
    fn snapshot(&self) -> Truth {
        step();
        let mut truth = self.truth().clone();
        truth.row.head.as_of = truth.next;
        truth.row.lineage = truth.lineage;
        step();
        truth
    }

    // Nobody steps while holding it.
    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }
}

#[async_trait]
impl ColdStore for Database {
    async fn load(&self, _: Key) -> Result<Option<Row>, StoreError> {
        Ok(Some(self.snapshot().row))
    }

    async fn load_replica(&self, _: Vec<Key>) -> Vec<Row> {
        step();
        let row = self.truth().replica.clone();
        step();
        Vec::from_iter(row)
    }

    async fn changes(&self, since: Mark, _: u32) -> Result<Changes, StoreError> {
        let Truth {
            row,
            next,
            lineage,
            moved,
            ..
        } = self.snapshot();
        let changed = Changed {
            id: SESSION,
            version: row.head.version,
            mark: row.changed_at,
        };
        Ok(Changes {
            up_to: next,
            complete_since: if self.vague { next } else { since },
            sessions: [changed]
                .into_iter()
                .filter(|changed| changed.mark >= since && !self.vague)
                .collect(),
            lineage,
            begun: None,
            moved: (moved && self.tells).then(|| "it went back".into()),
        })
    }

    async fn renew_lineage(&self, lost: Lineage) -> Result<(), StoreError> {
        step();
        if !self.renews {
            return Err(StoreError::transient("renew_lineage", "not now"));
        }
        let mut truth = self.truth();
        if truth.lineage == lost {
            truth.lineage = Lineage::new(lost.get() + 1);
            truth.moved = false;
        }
        Ok(())
    }

    async fn version(&self, _: SessionId) -> Result<Option<Version>, StoreError> {
        unreachable!()
    }

    async fn create(&self, _: NewSession, _: Option<Limit>) -> Result<Created, StoreError> {
        unreachable!()
    }

    async fn revoke_all(
        &self,
        _: Scope,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        unreachable!()
    }

    async fn touch(&self, _: Vec<(SessionId, Timestamp)>, _: Duration) -> Result<u64, StoreError> {
        unreachable!()
    }

    async fn update(&self, _: SessionId, _: Version, _: Change) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn revoke(&self, _: SessionId, _: Timestamp) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn list(
        &self,
        _: UserId,
        _: Timestamp,
        _: Option<Cursor>,
        _: u32,
    ) -> Result<Vec<Row>, StoreError> {
        unreachable!()
    }

    async fn prune(&self, _: Timestamp, _: Retention, _: u32) -> Result<Pruned, StoreError> {
        unreachable!()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}
