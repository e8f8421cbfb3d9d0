//! Whether Redis can be used, and the one task that finds out.
//!
//! A network that goes silent is told by no socket for half a minute or more. So the verdict is
//! ours: both connections are pinged once a second, and at once when a command failed; a ping
//! that is not answered in time ends both, since a connection that once went silent is no longer
//! worth trusting. Until the ping is answered no command is sent, so that each request waits in vain
//! for one at most.
//!
//! A server may answer pings and be of no use all the same: its answers come later than a command
//! may take, or are none. So the connections end too if commands fail after one answered ping after
//! the other, and none is answered in between.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use metrics::Gauge;
use redis::aio::{MultiplexedConnection, PubSubSink};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use session_core::Lineage;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::broken::Broken;
use super::link::Link;
use super::tier::Warm;
use crate::advice::Advice;
use crate::backoff::Backoff;
use crate::circuit::CircuitState;
use crate::cold::Changed;
use crate::push;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Checks that commands fail after, and none is answered, before the connections are given up.
const STRIKES: u32 = 3;
/// From one look at the size of the database to the next.
const SAMPLE_EVERY: Duration = Duration::from_secs(3);

/// What is known of Redis.
pub(super) struct Health {
    state: watch::Sender<State>,
    /// Told when a command failed in a way that speaks against the connection.
    suspected: Notify,
    /// Whether that was not checked yet.
    in_doubt: watch::Sender<bool>,
    /// When the last check passed, in nanoseconds since `since`.
    checked: AtomicU64,
    since: Instant,
    /// A command was not answered, or by what is no answer, and no other was answered since.
    failing: AtomicBool,
    /// Checks since then that passed all the same.
    strikes: AtomicU32,
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
            suspected: Notify::new(),
            in_doubt: watch::Sender::new(false),
            checked: AtomicU64::new(0),
            since: Instant::now(),
            failing: AtomicBool::new(false),
            strikes: AtomicU32::new(0),
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

    /// The same for what must not be left out lightly: waits for a check that is under way.
    pub(super) async fn connection_after_check(
        &self,
        until: Instant,
    ) -> Option<MultiplexedConnection> {
        let mut in_doubt = self.in_doubt.subscribe();
        let _ = timeout_at(until, in_doubt.wait_for(|in_doubt| !in_doubt)).await;
        self.connection()
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
        self.show();
    }

    fn show(&self) {
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
        // Nearly never: else nothing is written to what all threads read.
        if self.is_failing() {
            self.failing.store(false, Ordering::Relaxed);
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn in_doubt(&self) -> bool {
        *self.in_doubt.borrow()
    }

    /// The connections answered, though a command may have failed. Whether they are of use.
    fn passed(&self, suspected: bool) -> bool {
        self.checked();
        let strike = suspected && self.is_failing();
        !strike || self.strikes.fetch_add(1, Ordering::Relaxed) + 1 < STRIKES
    }

    fn checked(&self) {
        let now = self.since.elapsed().as_nanos() as u64;
        self.checked.store(now, Ordering::Relaxed);
        self.in_doubt.send_replace(false);
        self.show();
    }

    /// Whether so much time has passed since the last check.
    fn is_checked_since(&self, time: Duration) -> bool {
        let checked = Duration::from_nanos(self.checked.load(Ordering::Relaxed));
        self.since.elapsed() < checked + time
    }

    /// Has the connection checked at once if this failure speaks against it, and not against
    /// the command; nothing is sent until then. A command that was not answered within `patience`, and
    /// was sent before the last check, says nothing new.
    pub(super) fn suspect(&self, failure: &RedisError, patience: Duration) {
        if failure.is_timeout() && self.is_checked_since(patience) {
            return;
        }
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
            // A server that says no is of use.
            ErrorKind::Extension => false,
            _ => {
                self.failing.store(true, Ordering::Relaxed);
                true
            }
        };
        if speaks {
            self.in_doubt.send_replace(true);
            self.show();
            self.suspected.notify_one();
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
        if self.health.is_failing()
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
        let mut sampled: Option<Instant> = None;
        loop {
            if sampled.is_none_or(|at| at.elapsed() >= SAMPLE_EVERY) && !self.health.in_doubt() {
                sampled = Some(Instant::now());
                self.sample(&mut commands).await;
            }
            let suspected = tokio::select! {
                () = sleep(HEARTBEAT) => false,
                () = self.health.suspected.notified() => true,
            };
            if self.health.demoted.load(Ordering::Acquire) {
                return Broken(
                    "READONLY: the server is a replica: name its primary in warm.url".into(),
                );
            }
            let ping = redis::cmd("PING");
            self.sent.ping.increment(2);
            let answers =
                async { tokio::try_join!(ping.exec_async(&mut commands), hearing.ping()) };
            match timeout(self.check_timeout(), answers).await {
                Ok(Ok(((), ()))) if self.health.passed(suspected) => {}
                Ok(Ok(((), ()))) => {
                    return Broken("it answers pings, but no commands, or not in time".into());
                }
                Ok(Err(error)) => return error.into(),
                Err(_) => return Broken("a ping was not answered in time".into()),
            }
        }
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
            let memory = Memory(memory);
            if self.advises.swap(false, Ordering::Relaxed)
                && let Some(advice) = memory.advice()
            {
                advice.give();
            }
            Some((entries, memory.number("used_memory")?))
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

/// What Redis says of its memory.
struct Memory(String);

impl Memory {
    fn line(&self, name: &str) -> Option<&str> {
        let value = |line| str::strip_prefix(line, name)?.strip_prefix(':');
        self.0.lines().find_map(value).map(str::trim)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.line(name)?.parse().ok()
    }

    /// Redis evicts nothing and has no limit by default. That is unwise once there is a limit, or the
    /// machine's memory is half full of it.
    fn advice(&self) -> Option<Advice> {
        if self.line("maxmemory_policy")? != "noeviction" {
            return None;
        }
        match self.number("maxmemory")? {
            0 => {
                let (used, of) = (
                    self.number("used_memory")?,
                    self.number("total_system_memory")?,
                );
                let why = "no maxmemory, but takes half of the machine's memory";
                (used >= of / 2).then(|| Advice::eviction(why))
            }
            _ => Some(Advice::eviction("a maxmemory")),
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
