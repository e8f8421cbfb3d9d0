//! A lock for each session: changes of one session go one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// Locks by session id, for the requests of this node that change sessions. Without them concurrent
/// changes of one session would conflict and be retried. Correctness does not depend on them: the
/// database decides.
#[derive(Default)]
pub(super) struct KeyLocks(Mutex<HashMap<SessionId, Arc<Semaphore>>>);

impl KeyLocks {
    /// After so long a caller goes on without the lock. Long, since all waiting callers would do so at once.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// The limit of callers that wait for one session, so that one session cannot use up all permits.
    const MOST: usize = 512;

    /// Locks a session.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if too many callers wait for it already.
    pub(super) async fn lock(&self, id: SessionId) -> Result<KeyGuard<'_>, Error> {
        let mut guard = {
            let mut queues = self.queues();
            let queue = queues
                .entry(id)
                .or_insert_with(|| Arc::new(Semaphore::new(1)));
            if Arc::strong_count(queue) > Self::MOST {
                return Err(Error::Conflict { attempts: 0 });
            }
            KeyGuard {
                locks: self,
                id,
                queue: Arc::clone(queue),
                permit: None,
            }
        };
        let queue = Arc::clone(&guard.queue);
        let permit = timeout(Self::PATIENCE, queue.acquire_owned()).await;
        guard.permit = permit.ok().and_then(Result::ok);
        Ok(guard)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a session's queue, and its lock unless the wait timed out. The last guard removes the
/// queue.
pub(super) struct KeyGuard<'a> {
    locks: &'a KeyLocks,
    id: SessionId,
    queue: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        let mut queues = self.locks.queues();
        // The permit holds a reference to the queue too.
        drop(self.permit.take());
        // The map's reference and ours: no other caller waits, and none can start while the map is locked.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.id);
        }
    }
}
