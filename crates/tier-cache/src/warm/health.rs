//! Whether Redis can be used, and the one task that finds out.
//!
//! A network that goes silent is told by no socket for half a minute or more. So the verdict is
//! ours: both connections are pinged once a second, and at once when a command failed; a ping
//! that is not answered in time ends both, since a connection that once went silent is no longer
//! worth trusting. Until the ping is answered no command is sent, so that each request waits in vain
//! for one at most.
//!
//! A server may answer pings and be of no use all the same: its answers come later than a command
//! may take, or are none. So several failures in a row end the connections too.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
/// Commands that fail one after the other before the connections are given up, however well they are
/// pinged.
const FAILURES: u32 = 5;
/// Heartbeats from one look at the size of the database to the next.
const SAMPLE_EVERY: u32 = 3;

/// What is known of Redis.
pub(super) struct Health {
    state: watch::Sender<State>,
    /// A command failed in a way that speaks against the connection.
    doubt: Notify,
    /// The same, and it was not checked yet.
    in_doubt: AtomicBool,
    /// Commands in a row that were not answered, or by what is no answer.
    failures: AtomicU32,
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
            in_doubt: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            demoted: AtomicBool::new(false),
            trying: AtomicBool::new(true),
            gauge,
        }
    }

    /// The connection for commands, while Redis is up and nothing speaks against it.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        match &*self.state.borrow() {
            State::Up(commands) if !self.in_doubt() => Some(commands.clone()),
            State::Up(_) | State::Unknown | State::Down => None,
        }
    }

    pub(super) fn circuit(&self) -> CircuitState {
        match &*self.state.borrow() {
            State::Up(_) if self.in_doubt() => CircuitState::HalfOpen,
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

    /// A command was answered.
    pub(super) fn answered(&self) {
        // Nearly always: then nothing is written to what all threads read.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    fn checked(&self) {
        self.in_doubt.store(false, Ordering::Relaxed);
    }

    /// Whether commands failed at last.
    fn has_failed(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// Whether it was of no use although it was pinged well.
    fn is_useless(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Has the connection checked at once if this failure speaks against it, and not against
    /// the command; nothing is sent until then.
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
        // A server that says no is of use.
        let answered = matches!(failure.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
        if !answered {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if speaks || self.is_useless() {
            self.in_doubt.store(true, Ordering::Relaxed);
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
        if self.health.has_failed()
            && let Err(broken) = self.try_out(link.commands.clone()).await
        {
            return broken;
        }
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

    /// Makes sure that a server at which commands failed answers as soon as a command must be.
    async fn try_out(&self, mut commands: MultiplexedConnection) -> Result<(), Broken> {
        self.sent.ping.increment(1);
        let ping = redis::cmd("PING");
        match timeout(self.command_timeout, ping.exec_async(&mut commands)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Broken("no answer within warm.command_timeout".into())),
        }
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
            if self.health.is_useless() {
                return Broken(
                    "one command after the other was not answered in time, or by what is no answer"
                        .into(),
                );
            }
            let ping = redis::cmd("PING");
            self.sent.ping.increment(2);
            let answers =
                async { tokio::try_join!(ping.exec_async(&mut commands), hearing.ping()) };
            match timeout(self.check_timeout(), answers).await {
                Ok(Ok(((), ()))) => self.health.checked(),
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
        self.health.checked();
        self.health.answered();
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
