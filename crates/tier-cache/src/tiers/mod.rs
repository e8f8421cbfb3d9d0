//! The tiers as one: what an application holds.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | what the tiers are made of, and how they end |
//! | `start.rs` | how they are opened |
//! | `credential.rs` | what a caller shows to find a session |
//! | `lookup.rs` | how a hot session is found, and how strictness confirms it |
//! | `hot_entries.rs` | which hot entries may be served, and how they are renewed in time |
//! | `verdict.rs` | whether an entry may be served for what the caller presented |
//! | `pending.rs` | how a session is found that is not hot |
//! | `load.rs` | how a session that is not hot is brought there |
//! | `warm_loader.rs` | how sessions are loaded from Redis, in pipelines |
//! | `answers.rs` | whether the database answers loads |
//! | `detached.rs` | how a store operation goes on after its caller was cancelled |
//! | `cold_loader.rs` | how sessions are loaded from the database |
//! | `batcher.rs` | how loads that come while it is busy share a statement |
//! | `backfill.rs` | how loaded sessions are written to the warm tier |
//! | `admission.rs` | how many requests may wait, and for how long |
//! | `login.rs` | how sessions begin, and go on under another name |
//! | `upgrade.rs` | how a login takes a guest's place, and what becomes of one that is sent twice |
//! | `warm_up.rs` | how many are loaded before anybody asks for them |
//! | `update.rs` | how what a session holds is changed |
//! | `key_lock.rs` | how changes of one session go one after the other |
//! | `refresh.rs` | how refresh tokens are traded, once each |
//! | `revoke.rs` | how sessions are revoked |
//! | `list.rs` | how a user's sessions are listed, page by page |
//! | `inspect.rs` | what each tier holds of a session, and what the gate says of it |
//! | `stats.rs` | how much each tier holds |
//! | `write.rs` | how the caches come to know what was written |

mod admission;
mod answers;
mod backfill;
mod batcher;
mod cold_loader;
mod credential;
mod detached;
mod hot_entries;
mod inspect;
mod key_lock;
mod list;
mod load;
mod login;
mod lookup;
mod pending;
#[cfg(test)]
mod races;
mod refresh;
mod revoke;
mod start;
mod stats;
mod update;
mod upgrade;
mod verdict;
mod warm_loader;
mod warm_up;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64};
use std::time::Duration;

use futures_util::Stream;
use session_core::{Key, SessionId, TokenKeys};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use credential::{Credential, ForeignKeys};
pub use inspect::{Inspection, WarmCopy};
pub use list::{Listed, ListedPage};
pub use login::{Issued, Login};
pub use lookup::Lookup;
pub use pending::PendingLookup;
pub use revoke::Receipt;
pub use start::{StartError, TiersBuilder};
pub use stats::Stats;
pub(crate) use verdict::Presented;
pub use warm_up::{WarmUp, WarmedUp};

use crate::clock::{Clock, Now};
use crate::cold::ColdStore;
use crate::config::TierConfig;
use crate::data::SessionData;
use crate::events::{Event, Events, Reason};
use crate::fence::Fence;
use crate::health::Health;
use crate::hot::Hot;
use crate::metrics::Metrics;
use crate::single_flight::SingleFlight;
use crate::touch::Touch;
use crate::warm::Warm;

use backfill::Fill;
use cold_loader::ColdLoader;
use key_lock::KeyLocks;
use load::{From, Loaded};
use warm_loader::WarmLoader;

/// How often a change is tried against others' changes of the same session. Each time one of those
/// who try succeeds; but it need not be fair, and there is one who tries per node, see [`KeyLocks`].
const ATTEMPTS: u32 = 64;

/// Sessions in three tiers: hot in the process, warm in Redis, cold in SQL.
///
/// Cheap to clone; each clone is the same tiers. When the last one is dropped, the background
/// tasks (the feed of changes, the listeners to the warm tier and the cold one, pruning) end by themselves;
/// [`shutdown`](Self::shutdown) waits until they have.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use session_core::TokenKeys;
/// use tier_cache::{Login, TierConfig, Tiers};
///
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}/sessions.db", folder.path().display());
/// let mut config = TierConfig::default();
/// config.cold.url = url; // or postgres://…; config.warm.url = Some("redis://…".into())
/// let tiers: Tiers<Vec<String>> = Tiers::open(config, TokenKeys::random()).await?;
///
/// // Login: the client gets the tokens, the database only their hashes.
/// let issued = tiers.login(Login::guest().data(vec!["tea".into()])).await?;
///
/// // Each request: the token finds the session, here in the process, with no I/O.
/// let session = tiers.find(issued.access.clone()).await?;
/// assert_eq!(session.tier().as_str(), "hot");
/// assert_eq!(session.body().await?.data()?, &["tea"]);
///
/// // Logout: after `settled`, no node accepts the session any more.
/// let receipt = tiers.revoke(session.id()).await?;
/// assert!(receipt.effective_within() <= std::time::Duration::from_secs(5));
/// assert!(tiers.find(issued.access).await.is_err());
/// tiers.shutdown(std::time::Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
pub struct Tiers<D: SessionData> {
    owned: Arc<Owned<D>>,
}

/// What the application's handles own together; the background tasks hold only [`Shared`].
///
/// Apart from others in the lines of the processors' caches, for [`Tiers::twin`].
#[repr(align(128))]
struct Owned<D: SessionData> {
    shared: Arc<Shared<D>>,
    stop: Arc<DropGuard>,
}

pub(crate) struct Shared<D: SessionData> {
    pub(crate) config: TierConfig,
    pub(crate) clock: Clock,
    pub(crate) keys: TokenKeys,
    /// Tokens that were refused since their signature is not accepted.
    forged: AtomicU64,
    pub(crate) hot: Hot<D>,
    pub(crate) warm: Option<Arc<Warm>>,
    pub(crate) store: Arc<dyn ColdStore>,
    pub(crate) fence: Fence,
    pub(crate) metrics: Metrics,
    loads: SingleFlight<(Key, From), Loaded<D>>,
    /// Questions to the warm tier.
    warm_loader: WarmLoader<D>,
    pub(crate) cold_loader: ColdLoader,
    /// Microseconds that the last load from the database took.
    load_took: AtomicU32,
    /// What is to be kept in the warm tier.
    backfill: mpsc::Sender<Fill>,
    /// For requests that wait for something outside of the process.
    admission: Arc<Semaphore>,
    /// What happened to sessions.
    pub(crate) events: Events,
    /// Uses of sessions, to be noted in the database.
    pub(crate) touches: mpsc::Sender<Touch>,
    key_locks: KeyLocks,
    /// The store told of changes since the last poll began.
    pub(crate) told: Notify,
    /// Whether the database answered the last poll, but does not vouch for its history.
    pub(crate) doubted: AtomicBool,
    /// For those who wait for the end of a poll.
    pub(crate) poll_ended: Notify,
    /// Nanoseconds of the [`Moment`] at which the last successful poll of the feed began.
    pub(crate) polled: AtomicI64,
    /// Whether the last poll succeeded.
    pub(crate) heard: AtomicBool,
    pub(crate) tasks: TaskTracker,
    stop: CancellationToken,
}

impl<D: SessionData> Tiers<D> {
    /// The configuration that the tiers run by.
    pub fn config(&self) -> &TierConfig {
        &self.shared().config
    }

    /// The keys that tokens are minted and checked with.
    pub fn keys(&self) -> &TokenKeys {
        &self.shared().keys
    }

    /// Whether both are the same tiers, and not merely tiers of the same type of data.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.shared(), other.shared())
    }

    /// The same tiers, by a handle that counts its clones apart from this one's. Threads that clone
    /// one handle all the time, as each session that is found does, wait for each other at its
    /// count; with a twin each they do not.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            owned: Arc::new(Owned {
                shared: Arc::clone(&self.owned.shared),
                stop: Arc::clone(&self.owned.stop),
            }),
        }
    }

    /// Both clocks now, as the tiers read them.
    pub fn now(&self) -> Now {
        self.shared().clock.now()
    }

    /// What this node does to sessions from now on, and refuses requests for; see [`Event`]. It
    /// ends with the tiers. A receiver that falls more than 4,096 events behind is told how many it
    /// [missed](Event::Missed); nothing waits for it.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<D> {
        self.shared().events.listen()
    }

    /// Has the audit log tell of a request that something above the tiers refused, such as a layer
    /// that demands a recent login.
    pub fn tell_refused(&self, session: Option<SessionId>, reason: Reason) {
        self.shared()
            .events
            .tell(Event::Refused { session, reason });
    }

    /// What each tier can do just now; no I/O.
    pub fn health(&self) -> Health {
        Health::of(self.shared())
    }

    /// Switches the gate off, so that the promise no longer holds: for showing that a test of the
    /// promise can fail.
    #[cfg(feature = "test-hooks")]
    #[doc(hidden)]
    pub fn open_the_gate(&self) {
        let gate = &self.shared().fence.gate_is_open;
        gate.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends the background tasks and waits for what is under way, at most for `deadline`.
    /// Returns whether all of it ended.
    ///
    /// Sessions cannot be changed any more from here on; what is hot is no longer served once
    /// the staleness bound has passed.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let shared = self.shared();
        shared.stop.cancel();
        shared.tasks.close();
        tokio::time::timeout(deadline, shared.tasks.wait())
            .await
            .is_ok()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<D>> {
        &self.owned.shared
    }
}

impl<D: SessionData> Clone for Tiers<D> {
    fn clone(&self) -> Self {
        Self {
            owned: Arc::clone(&self.owned),
        }
    }
}

impl<D: SessionData> fmt::Debug for Tiers<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
