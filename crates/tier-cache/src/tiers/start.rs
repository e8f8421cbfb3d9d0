use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64};

use session_core::TokenKeys;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cold_loader::ColdLoader;
use super::key_lock::KeyLocks;
use super::warm_loader::WarmLoader;
use super::{Owned, Shared, Tiers, backfill};
use crate::advice::{self, Advice};
use crate::clock::{Clock, Moment};
use crate::cold::ColdStore;
use crate::config::{ConfigError, TierConfig, without_password};
use crate::data::SessionData;
use crate::error::StoreError;
use crate::events::Events;
use crate::feed::Feed;
use crate::fence::Fence;
use crate::hot::Hot;
use crate::metrics::{Meter, Metrics};
use crate::prune;
use crate::single_flight::{SingleFlight, Spawn};
use crate::touch;
use crate::warm::Warm;

impl<D: SessionData> Tiers<D> {
    /// Opens the tiers that `config` names: the bundled cold store, whose tables are brought to
    /// the newest version, and a warm tier if there is a URL for one.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the configuration cannot be used, or the database cannot be reached. A
    /// Redis that cannot be reached is no error: it is used as soon as it can be.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time and I/O.
    pub async fn open(config: TierConfig, keys: TokenKeys) -> Result<Self, StartError> {
        Self::builder(config, keys).start().await
    }

    /// Opens tiers step by step, for a store of the application's own.
    pub fn builder(config: TierConfig, keys: TokenKeys) -> TiersBuilder<D> {
        TiersBuilder {
            config,
            keys,
            store: None,
            clock: None,
            advises: true,
            data: PhantomData,
        }
    }
}

/// Opens [`Tiers`]; made by [`Tiers::builder`].
#[derive(Debug)]
pub struct TiersBuilder<D> {
    config: TierConfig,
    keys: TokenKeys,
    store: Option<Arc<dyn ColdStore>>,
    clock: Option<Clock>,
    advises: bool,
    data: PhantomData<fn() -> D>,
}

impl<D: SessionData> TiersBuilder<D> {
    /// Uses this cold store as it is, in place of the bundled one that `cold.url` names.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn ColdStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Uses this clock, for tests of deadlines.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Whether to [warn](Advice) at the start of what is allowed but unwise. By default yes; a tool that
    /// opens the tiers of a service says no.
    #[must_use]
    pub fn advises(mut self, advises: bool) -> Self {
        self.advises = advises;
        self
    }

    /// Opens the tiers and starts their background tasks.
    ///
    /// # Errors
    ///
    /// See [`Tiers::open`].
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime with time and I/O.
    pub async fn start(self) -> Result<Tiers<D>, StartError> {
        self.config.validate()?;
        let namespace = self.config.cold.namespace.as_ref();
        let keys = match namespace {
            Some(namespace) => self.keys.within(namespace.as_str()),
            None => self.keys,
        };
        let metrics = Metrics::new(Meter::of(namespace));
        let warm = match &self.config.warm.url {
            Some(_) => Some(Arc::new(Warm::open(
                &self.config.warm.within(namespace),
                keys.clone(),
                metrics.clone(),
                self.advises,
            )?)),
            None => None,
        };
        let store = match self.store {
            Some(store) => store,
            None => open_store(&self.config).await?,
        };
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let (touches, told) = touch::channel();
        let (fills, queued) = backfill::channel();
        let (on, of) = (Arc::clone(&store), warm.clone());
        let meter = &metrics.meter;
        let cold_loader = ColdLoader::batched(on, of, &self.config.cold, meter, &tasks);
        let waiting = self.config.cold.max_waiting;
        let begins = match store.begins_in_turn() {
            true => Spawn::Inline,
            false => Spawn::Detached,
        };
        let shared = Arc::new(Shared {
            hot: Hot::new(&self.config.hot),
            warm,
            cold_loader,
            load_took: AtomicU32::new(0),
            forged: AtomicU64::new(0),
            store,
            fence: Fence::new(),
            warm_loader: WarmLoader::new(
                SingleFlight::new(waiting, Spawn::Inline, tasks.clone(), Handle::current()),
                self.config.warm.holds,
            ),
            loads: SingleFlight::new(waiting, begins, tasks.clone(), Handle::current()),
            backfill: fills,
            admission: Arc::new(Semaphore::new(waiting)),
            clock: self.clock.unwrap_or_else(Clock::system),
            keys,
            config: self.config,
            metrics,
            events: Events::new(),
            touches,
            key_locks: KeyLocks::default(),
            told: Notify::new(),
            poll_ended: Notify::new(),
            doubted: AtomicBool::new(false),
            polled: AtomicI64::new(Moment::LONG_AGO.nanos()),
            heard: AtomicBool::new(false),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });

        // The first poll, so that the caches can be trusted from the first request on. A node
        // whose first poll fails starts blind: it asks the database for each session.
        let mut feed = Feed::new(Arc::clone(&shared));
        feed.poll().await;
        tasks.spawn(feed.run(stop.clone()));
        tasks.spawn(Arc::clone(&shared).hear_store(stop.clone()));
        tasks.spawn(touch::run(Arc::clone(&shared), told, stop.clone()));
        tasks.spawn(backfill::run(Arc::clone(&shared), queued, stop.clone()));
        tasks.spawn(prune::run(Arc::clone(&shared), stop.clone()));
        tasks.spawn(Arc::clone(&shared).listen(stop.clone()));
        if let Some(warm) = &shared.warm {
            warm.ready().await;
        }
        if self.advises {
            let of_config = advice::of_config(&shared.config, !cfg!(debug_assertions));
            let of_database = advice::of_database(&shared).await;
            let of_keys = shared.keys.is_weak().then(Advice::weak_key);
            let all = of_config.iter().chain(&of_database).chain(&of_keys);
            all.for_each(Advice::give);
        }

        Ok(Tiers {
            owned: Arc::new(Owned {
                shared,
                stop: Arc::new(stop.drop_guard()),
            }),
        })
    }
}

/// The bundled store that the URL names, with its tables at the newest version: brought there, or refused
/// if they are not.
async fn open_store(config: &TierConfig) -> Result<Arc<dyn ColdStore>, StartError> {
    let cold = &config.cold;
    if !cold.migrate {
        return Ok(crate::cold::to_serve(cold).await?);
    }
    match cold.url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = crate::cold::PostgresStore::open(cold)?;
            store.migrate().await?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = crate::cold::SqliteStore::open(cold)?;
            store.migrate().await?;
            Ok(Arc::new(store))
        }
        _ => Err(ConfigError::range(
            "cold.url",
            without_password(&cold.url),
            "postgres://… or sqlite://…, and this build must have the cargo feature of that name",
        )
        .into()),
    }
}

/// Why the tiers could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cold tier cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}
