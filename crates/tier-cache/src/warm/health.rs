//! Whether Redis can be used, and the one task that finds out.
//!
//! A network that goes silent is told by no socket for half a minute or more. So the verdict is
//! ours: both connections are pinged once a second, and at once when a command failed; a ping
//! that is not answered in time ends both, since a connection that once went silent is no longer
//! worth trusting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::Gauge;
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use session_core::Lineage;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::link::{Broken, Link};
use super::tier::Warm;
use crate::backoff::Backoff;
use crate::circuit::CircuitState;
use crate::cold::Changed;
use crate::push;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two checks, however many commands fail meanwhile.
const CHECK_GAP: Duration = Duration::from_millis(100);
/// Heartbeats from one look at the size of the database to the next.
const SAMPLE_EVERY: u32 = 3;

/// What is known of Redis.
pub(super) struct Health {
    state: watch::Sender<State>,
    /// A command failed in a way that speaks against the connection.
    doubt: Notify,
    /// The server at the other end is no longer the one that takes writes.
    demoted: AtomicBool,
    /// A connection is being made.
    trying: AtomicBool,
    gauge: Gauge,
}

enum State {
    /// No verdict yet. Entered at the start, left at the first.
    Unknown,
    /// Both connections answered, the last time they were asked.
    Up(MultiplexedConnection),
    /// They did not, or nobody listens any more.
    Down,
}

impl Health {
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.set(CircuitState::HalfOpen.as_number());
        Self {
            state: watch::Sender::new(State::Unknown),
            doubt: Notify::new(),
            demoted: AtomicBool::new(false),
            trying: AtomicBool::new(true),
            gauge,
        }
    }

    /// The connection for commands, while Redis is up.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        match &*self.state.borrow() {
            State::Up(commands) => Some(commands.clone()),
            State::Unknown | State::Down => None,
        }
    }

    pub(super) fn circuit(&self) -> CircuitState {
        match &*self.state.borrow() {
            State::Up(_) => CircuitState::Closed,
            _ if self.trying.load(Ordering::Relaxed) => CircuitState::HalfOpen,
            State::Unknown | State::Down => CircuitState::Open,
        }
    }

    /// Notes whether a connection is being made.
    fn tries(&self, trying: bool) {
        self.trying.store(trying, Ordering::Relaxed);
        self.gauge.set(self.circuit().as_number());
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Returns when there is a verdict.
    pub(super) async fn known(&self) {
        // The sender is ours, so the channel cannot be closed meanwhile.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| !matches!(state, State::Unknown))
            .await;
    }

    /// Has the connection checked at once if this failure speaks against it, and not against
    /// the command.
    pub(super) fn suspect(&self, failure: &RedisError) {
        let speaks = match failure.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                self.demoted.store(true, Ordering::Release);
                true
            }
            ErrorKind::Server(kind) => {
                matches!(
                    kind,
                    ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
                )
            }
            ErrorKind::Io | ErrorKind::Parse => true,
            _ => false,
        };
        if speaks {
            self.doubt.notify_one();
        }
    }
}

impl Warm {
    /// Keeps the tier connected, and hands each push to `heard`, until `stop` or until this is
    /// dropped; the tier is down from then on. `heard` must be quick: nothing else is heard
    /// meanwhile.
    pub(crate) async fn listen(
        &self,
        mut heard: impl FnMut(Lineage, Changed) + Send,
        stop: CancellationToken,
    ) {
        let _silence = Silence(&self.health);
        let mut backoff = Backoff::new();
        stop.run_until_cancelled(async {
            loop {
                let broken = self.use_one_link(&mut heard, &mut backoff).await;
                self.now_down(&broken);
                self.health.tries(false);
                sleep(backoff.pause()).await;
            }
        })
        .await;
    }

    async fn use_one_link(
        &self,
        heard: &mut (impl FnMut(Lineage, Changed) + Send),
        backoff: &mut Backoff,
    ) -> Broken {
        self.health.tries(true);
        let connected = timeout(
            self.connect_timeout,
            Link::open(&self.target, &self.channel, &self.sent),
        );
        let link = match connected.await {
            Ok(Ok(link)) => link,
            Ok(Err(broken)) => return broken,
            Err(_) => return Broken("no answer within warm.connect_timeout".into()),
        };
        self.health.demoted.store(false, Ordering::Release);
        self.now_up(&link);
        self.health.tries(false);
        let since = Instant::now();
        let hear = push::hear(
            link.messages,
            &self.channel,
            &self.keys,
            &self.metrics,
            heard,
        );
        let broken = tokio::select! {
            () = hear => Broken("the server ended the subscription".into()),
            _ = link.driver => Broken("the server closed the connection".into()),
            broken = self.watch(link.commands, link.hearing) => broken,
        };
        // Not at once, or a server that accepts and then fails would be hurried.
        if since.elapsed() > 2 * HEARTBEAT {
            backoff.reset();
        }
        broken
    }

    /// Returns when a connection does not answer.
    async fn watch(&self, mut commands: MultiplexedConnection, mut hearing: PubSubSink) -> Broken {
        for beat in 0.. {
            if beat % SAMPLE_EVERY == 0 {
                self.sample(&mut commands).await;
            }
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = self.health.doubt.notified() => {}
            }
            if self.health.demoted.load(Ordering::Acquire) {
                return Broken("READONLY".into());
            }
            let ping = redis::cmd("PING");
            self.sent.ping.increment(2);
            let answers =
                async { tokio::try_join!(ping.exec_async(&mut commands), hearing.ping()) };
            match timeout(self.check_timeout(), answers).await {
                Ok(Ok(((), ()))) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return Broken("a ping was not answered in time".into()),
            }
            sleep(CHECK_GAP).await;
        }
        unreachable!("the beats do not end")
    }

    /// Long enough that a hiccup is none, short enough that not many commands run into it.
    fn check_timeout(&self) -> Duration {
        (4 * self.command_timeout).clamp(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// Shows the size of the database, which may hold other keys than ours. Where this is not
    /// permitted it is not shown.
    async fn sample(&self, commands: &mut MultiplexedConnection) {
        self.sent.dbsize.increment(1);
        self.sent.info.increment(1);
        let answers = async {
            let entries: u64 = redis::cmd("DBSIZE").query_async(commands).await.ok()?;
            let memory = redis::cmd("INFO").arg("memory").take();
            let memory: String = memory.query_async(commands).await.ok()?;
            let bytes = memory
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"))?;
            Some((entries, bytes.trim().parse().ok()?))
        };
        if let Ok(Some((entries, bytes))) = timeout(self.check_timeout(), answers).await {
            self.metrics.meter.cached("warm", entries, bytes);
        }
    }

    fn now_up(&self, link: &Link) {
        let up = State::Up(link.commands.clone());
        self.health.state.send_replace(up);
        tracing::info!(redis = %self.target, "the warm tier is up");
    }

    fn now_down(&self, Broken(reason): &Broken) {
        if !matches!(self.health.state.send_replace(State::Down), State::Down) {
            tracing::warn!(
                redis = %self.target,
                reason,
                "the warm tier is down; the cold tier takes what the hot one does not have"
            );
            // What it still holds serves nobody.
            self.metrics.meter.cached("warm", 0, 0);
        }
    }
}

/// Ends the use of connections that nobody looks after any more.
struct Silence<'a>(&'a Health);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.state.send_replace(State::Down);
    }
}
