//! Hearing PostgreSQL's notifications, on a connection of its own.
//!
//! A notification says only that something changed; the feed asks what. So it needs no trust, a
//! change of a million sessions is one, and one that is lost costs the feed's interval.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sql::Deadlines;
use super::target::with_sources;
use crate::backoff::Backoff;
use crate::config::Namespace;
use crate::error::StoreError;
use crate::metrics::Meter;

/// To the channel that the triggers name. Once listening it changes nothing, but the answer shows
/// that the server is still there.
const LISTEN: &str = "LISTEN session_changes";
/// A network that goes silent is told by no socket for long.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How to make the connection.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) target: Arc<tokio_postgres::Config>,
    pub(super) tls: MakeRustlsConnect,
    pub(super) deadlines: Deadlines,
    pub(super) meter: Meter,
    /// Whose changes are meant; none: everybody's.
    pub(super) namespace: Option<Namespace>,
}

/// What the log was last told.
#[derive(PartialEq)]
enum State {
    /// At first.
    Unknown,
    /// By an answer to [`LISTEN`].
    Hearing,
    /// By a failure, until the next answer.
    Deaf,
}

impl Listener {
    /// Calls `changed` at each notification, and whenever some may have been missed; until it is
    /// dropped, which closes the connection.
    pub(super) async fn listen(&self, changed: &(dyn Fn() + Send + Sync)) {
        let mut state = State::Unknown;
        let mut backoff = Backoff::new();
        loop {
            let since = Instant::now();
            let Err(reason) = self.use_one_connection(changed, &mut state).await;
            self.meter.listen_failures().increment(1);
            if state != State::Deaf {
                state = State::Deaf;
                tracing::warn!(
                    %reason,
                    "the database's notifications are not heard: plain SQL is obeyed at the next poll"
                );
            }
            // Not at once, or a server that accepts and then fails would be hurried.
            if since.elapsed() > 2 * HEARTBEAT {
                backoff.reset();
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Returns when the connection fails.
    async fn use_one_connection(
        &self,
        changed: &(dyn Fn() + Send + Sync),
        state: &mut State,
    ) -> Result<Infallible, StoreError> {
        let lost =
            |error: tokio_postgres::Error| StoreError::transient("listen", with_sources(&error));
        let connecting = async { self.target.connect(self.tls.clone()).await.map_err(lost) };
        let (client, mut connection) = self
            .in_time(self.deadlines.connect, "cold.connect_timeout", connecting)
            .await?;
        // Drives the connection too, so that nothing of it outlives this future.
        let hearing = async {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(told))) if self.means_us(&told) => {
                        self.meter.notifications().increment(1);
                        changed();
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(lost(error)),
                    None => return Err(StoreError::transient("listen", "the connection ended")),
                }
            }
        };
        let asking = async {
            loop {
                let answer = async { client.batch_execute(LISTEN).await.map_err(lost) };
                self.in_time(self.deadlines.statement, "cold.statement_timeout", answer)
                    .await?;
                if *state != State::Hearing {
                    *state = State::Hearing;
                    tracing::info!("the database's notifications are heard");
                    // What was told while nobody listened.
                    changed();
                }
                sleep(HEARTBEAT).await;
            }
        };
        tokio::select! {
            // First what the server says of its end, then that nobody answers.
            biased;
            failed = hearing => failed,
            failed = asking => failed,
        }
    }

    /// The triggers name the schema that changed; by hand one need not.
    fn means_us(&self, told: &Notification) -> bool {
        let namespace = self.namespace.as_ref().map(Namespace::as_str);
        told.payload().is_empty() || namespace.is_none_or(|namespace| namespace == told.payload())
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        key: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::transient(
                "listen",
                format_args!(
                    "no answer within {key} ({})",
                    humantime::format_duration(limit)
                ),
            )),
        }
    }
}
