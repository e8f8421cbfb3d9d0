//! How those who change one session at once go one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// Whose turn it is to change a session, among the requests of this node: those of one session go
/// one after the other, where all at once would make each but one try again. Nothing rests on it;
/// the database decides.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<SessionId, Arc<Semaphore>>>);

impl Turns {
    /// Then one goes ahead all the same. Long, since all who wait would do so at once.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// Who waits for one session's at once; nobody shall take all places for one session.
    const MOST: usize = 512;

    /// # Errors
    ///
    /// [`Error::Conflict`] where too many wait already.
    pub(super) async fn take(&self, id: SessionId) -> Result<Turn<'_>, Error> {
        let mut turn = {
            let mut queues = self.lock();
            let queue = queues
                .entry(id)
                .or_insert_with(|| Arc::new(Semaphore::new(1)));
            if Arc::strong_count(queue) > Self::MOST {
                return Err(Error::Conflict { attempts: 0 });
            }
            Turn {
                turns: self,
                id,
                queue: Arc::clone(queue),
                permit: None,
            }
        };
        let queue = Arc::clone(&turn.queue);
        let permit = timeout(Self::PATIENCE, queue.acquire_owned()).await;
        turn.permit = permit.ok().and_then(Result::ok);
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a session's queue, and its turn, unless it lost patience. The last one takes the queue
/// away.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: SessionId,
    queue: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queues = self.turns.lock();
        // It holds on to the queue too.
        drop(self.permit.take());
        // The map's and ours: nobody else waits, nor can begin to while it is locked.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.id);
        }
    }
}
