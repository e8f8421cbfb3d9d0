//! How the service starts, runs and stops.

use std::pin::pin;
use std::process;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_session::Tiers;
use tower_session::tier_cache::without_password;

use crate::accounts::{Accounts, DEMO_USERS};
use crate::activity::Activity;
use crate::api::{Api, Data};
use crate::banner::Banner;
use crate::cli::Settings;
use crate::passwords::Passwords;
use crate::private_redis::PrivateRedis;
use crate::signals::Signals;
use crate::{Failure, app, banner, files, secret, server};

/// How long requests that are under way may take to end once the service is asked to.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the tiers may take to end after that.
const SETTLE: Duration = Duration::from_secs(5);

/// The service with all that it needs, ready to take requests.
pub(crate) struct Service {
    listener: TcpListener,
    app: Router,
    /// For whoever runs the service, on a port of its own.
    operations: (TcpListener, Router),
    max_connections: usize,
    slow_client: Duration,
    tiers: Tiers<Data>,
    /// Keeps what happens to sessions; ends with this.
    recording: JoinSet<()>,
    redis: Option<PrivateRedis>,
    banner: Banner,
}

impl Service {
    /// Opens all that the service needs. Dropping the future, or the service, lets go of it all.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        let Settings {
            listen,
            operations,
            max_connections,
            slow_client,
            mut tiers,
            private_redis,
            policy,
        } = settings;

        // The port first: it is what most often is not to be had, and it costs nothing.
        let listener = TcpListener::bind(&listen).await.map_err(|error| {
            format!("cannot listen on {listen}: {error}; --listen names another")
        })?;
        let private = TcpListener::bind(&operations).await.map_err(|error| {
            format!("cannot listen on {operations}: {error}; --operations names another")
        })?;
        let address = listener.local_addr()?;
        // Before the tiers, which take their handles when they start.
        let metrics = PrometheusBuilder::new().install_recorder()?;

        files::close(&tiers.cold.url);
        let database = without_password(&tiers.cold.url);
        let accounts = Accounts::open(&tiers.cold)
            .await
            .map_err(|error| format!("the database {database} cannot be used: {error}"))?;
        let (root, key) = secret::root(&accounts, &tiers.cold).await?;
        let passwords = Passwords::new()?;
        accounts.add_demo_users(&passwords).await.map_err(|error| {
            format!(
                "cannot add the demo users: {error}; give the role INSERT and SELECT on the table \
                 users, or add {} yourself",
                DEMO_USERS.join(" and ")
            )
        })?;

        let (redis, missing) = match private_redis {
            false => (None, None),
            true => match PrivateRedis::start().await {
                Ok(redis) => (Some(redis), None),
                Err(reason) => (None, Some(reason)),
            },
        };
        if let Some(redis) = &redis {
            tiers.warm.url = Some(redis.url());
        }

        let tiers = Tiers::builder(tiers, secret::keys(&root)?)
            .store(accounts.store())
            .start()
            .await?;
        let activity = Activity::new();
        let mut recording = JoinSet::new();
        recording.spawn(activity.clone().record(tiers.events()));
        let banner = Banner {
            address,
            operations: private.local_addr()?,
            key,
            private_redis: redis.is_some(),
            no_private_redis: missing,
        };
        let sessions = app::sessions(&tiers, &policy);
        let api = Api::new(
            sessions,
            tiers.clone(),
            accounts,
            passwords,
            activity,
            metrics,
            policy.trust_forwarded_for,
        );
        let operations = (private, app::operations(api.clone()));
        let app = app::router(api, policy);
        Ok(Self {
            listener,
            app,
            operations,
            max_connections: server::most_connections(max_connections),
            slow_client,
            tiers,
            recording,
            redis,
            banner,
        })
    }

    /// Serves until a signal comes; then takes no new connections, lets the requests under way
    /// end, and stops all that was started. A second signal ends the process at once.
    pub(crate) async fn run(mut self, mut signals: Signals) -> Result<(), Failure> {
        self.banner.print(&self.tiers);
        /// Probes and scrapers are few.
        const OPERATIONS_MAX: usize = 16;

        let (stop, stopped) = watch::channel(());
        let until_stopped = || {
            let mut stopped = stopped.clone();
            async move {
                // An error means that the sender is gone, and we with it.
                let _ = stopped.changed().await;
            }
        };
        let app = server::serve(
            self.listener,
            self.app,
            self.max_connections,
            self.slow_client,
            until_stopped(),
        );
        let (listener, operations) = self.operations;
        let operations = server::serve(
            listener,
            operations,
            OPERATIONS_MAX,
            self.slow_client,
            until_stopped(),
        );
        let mut server = pin!(async { tokio::join!(app, operations) });

        tokio::select! {
            _ = &mut server => return Ok(()),
            () = signals.next() => {}
        }
        banner::say(format_args!(
            "stopping: requests under way have {DRAIN:?} to end; once more stops at once"
        ));
        let orderly = async {
            let _ = stop.send(());
            if tokio::time::timeout(DRAIN, server).await.is_err() {
                tracing::warn!("some requests did not end in time, and are cut off");
            }
            if !self.tiers.shutdown(SETTLE).await {
                tracing::warn!("some work of the session tiers did not end in time");
            }
            self.recording.shutdown().await;
            if let Some(redis) = self.redis {
                redis.stop().await;
            }
        };
        tokio::select! {
            () = orderly => Ok(()),
            // The keeper of the private Redis hears of our end and sees to it.
            () = signals.next() => process::exit(130),
        }
    }
}
