//! The tier itself: how it is asked, and how records get there.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::metrics::Counter;
use futures_util::future::{join, join_all};
use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, ParsingError, RedisError, Script, ServerErrorKind, Value,
};
use session_core::{KeyHash, Lineage, TokenKeys};
use tokio::time::{Instant, timeout, timeout_at};

use super::content::WarmRecord;
use super::health::Health;
use super::link::Target;
use super::record::{Place, encode};
use crate::circuit::CircuitState;
use crate::cold::Changed;
use crate::config::{ConfigError, WarmConfig};
use crate::metrics::{Meter, Metrics};

const SET_IF_NEWER: &str = include_str!("set_if_newer.lua");

/// The warm tier.
///
/// It is down until [`listen`](Self::listen) runs and has connected; await
/// [`ready`](Self::ready) before the first request.
pub(crate) struct Warm {
    pub(super) target: Target,
    pub(super) prefix: Box<str>,
    /// How long a lease lasts; zero: there are none.
    pub(super) lease: Duration,
    pub(super) channel: String,
    pub(super) keys: TokenKeys,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) set_if_newer: Script,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) sent: Sent,
    /// Whether Redis's settings are still to be looked at, for a warning.
    pub(super) advises: AtomicBool,
}

impl Warm {
    /// A tier at `config.url`. No I/O beyond reading `config.ca_file`: a Redis that is down is no
    /// reason not to start.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names `warm.url` if that does not parse, and `warm.ca_file` if that is not
    /// readable.
    pub(crate) fn open(
        config: &WarmConfig,
        keys: TokenKeys,
        metrics: Metrics,
        advises: bool,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            advises: AtomicBool::new(advises),
            target: Target::parse(config)?,
            prefix: config.prefix.as_str().into(),
            lease: config.lease,
            channel: format!("{}:changes", config.prefix),
            keys,
            connect_timeout: config.connect_timeout,
            command_timeout: config.command_timeout,
            set_if_newer: Script::new(SET_IF_NEWER),
            health: Health::new(metrics.meter.circuit("warm")),
            sent: Sent::new(&metrics.meter),
            metrics,
        })
    }

    /// Waits for the first verdict on Redis, at most `connect_timeout`; then says whether it is
    /// up.
    pub(crate) async fn ready(&self) -> bool {
        let _ = timeout(self.connect_timeout, self.health.known()).await;
        self.is_up()
    }

    /// Whether Redis is asked.
    pub(crate) fn circuit(&self) -> CircuitState {
        self.health.circuit()
    }

    /// Whether Redis answered, the last time it was asked.
    pub(crate) fn is_up(&self) -> bool {
        self.health.is_up()
    }

    /// Keeps what a cold load brought, unless a newer record is there. Nothing is published.
    pub(crate) async fn fill(&self, record: &WarmRecord, lineage: Lineage, ttl: Duration) {
        let foreign: Vec<KeyHash> = record.foreign_keys().collect();
        self.store(record, &foreign, None, lineage, ttl).await;
    }

    /// Keeps what a committed write made, unless a newer record is there, and publishes `push` in
    /// any case. Returns whether Redis took all of it.
    ///
    /// `foreign_keys` are those that led to the session before the write, so that a copy there
    /// does not outlive it; those in the record itself need not be named. If this is dropped, all,
    /// some or nothing of it may happen.
    pub(crate) async fn apply(
        &self,
        record: &WarmRecord,
        foreign_keys: &[KeyHash],
        push: Changed,
        lineage: Lineage,
        ttl: Duration,
    ) -> bool {
        let mut foreign: Vec<KeyHash> = record.foreign_keys().collect();
        for key in foreign_keys {
            if key.is_foreign() && !foreign.contains(key) {
                foreign.push(*key);
            }
        }
        self.store(record, &foreign, Some(push), lineage, ttl).await
    }

    async fn store(
        &self,
        record: &WarmRecord,
        foreign: &[KeyHash],
        push: Option<Changed>,
        lineage: Lineage,
        ttl: Duration,
    ) -> bool {
        // For all of it, a check of the connection included.
        let until = Instant::now() + self.command_timeout;
        let connection = match push {
            None => self.health.connection(),
            Some(_) => self.health.connection_after_check(until).await,
        };
        let Some(connection) = connection else {
            return false;
        };
        let line = Line { connection, until };
        let set = |place, push| self.set(line.clone(), record, place, push, lineage, ttl);
        let copies = foreign.iter().map(|key| set(Place::Foreign(*key), None));
        let session = set(Place::Session(record.id()), push);
        let (session, copies) = join(session, join_all(copies)).await;
        session && copies.into_iter().all(|taken| taken)
    }

    async fn set(
        &self,
        line: Line,
        record: &WarmRecord,
        place: Place,
        push: Option<Changed>,
        lineage: Lineage,
        ttl: Duration,
    ) -> bool {
        let key = place.key(&self.prefix);
        let bytes = encode(record, place, &key, lineage, &self.keys);
        let message = push.map(|push| push.encode(&self.channel, lineage, &self.keys));
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            // Redis takes no zero, and no time that its clock cannot hold.
            let ttl = ttl.as_millis().clamp(1, 1 << 50) as u64;
            command.arg(script).arg(1).arg(&key).arg(&bytes).arg(ttl);
            if let Some(message) = &message {
                command.arg(&self.channel).arg(message.as_slice());
            }
            command
        };
        let by_hash = command("EVALSHA", self.set_if_newer.get_hash());
        let evalsha = &self.sent.evalsha;
        let mut answer = self.ask_on::<Done>(line.clone(), evalsha, &by_hash).await;
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if answer.as_ref().is_err_and(|error| error.kind() == unknown) {
            // Once per start of the server: it keeps the script that it is given here.
            let in_full = command("EVAL", SET_IF_NEWER);
            answer = self.ask_on(line, &self.sent.eval, &in_full).await;
        }
        match answer {
            Ok(Done) => {
                if push.is_some() {
                    self.metrics.pushes_sent.increment(1);
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        connection: MultiplexedConnection,
        sent: &Counter,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let until = Instant::now() + self.command_timeout;
        self.ask_on(Line { connection, until }, sent, command).await
    }

    async fn ask_on<T: FromRedisValue>(
        &self,
        mut line: Line,
        sent: &Counter,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        sent.increment(1);
        match timeout_at(line.until, command.query_async(&mut line.connection)).await {
            Ok(answer) => answer.inspect(|_| self.health.answered()),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    pub(super) fn failed(&self, error: &RedisError) {
        self.metrics.warm_errors.increment(1);
        self.health.suspect(error, self.command_timeout);
    }
}

impl fmt::Debug for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm")
            .field("redis", &format_args!("{}", self.target))
            .field("prefix", &self.prefix)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

/// A connection, and until when its answers are waited for.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    until: Instant,
}

/// `OK`. Whatever else is answered, it was not done.
struct Done;

impl FromRedisValue for Done {
    fn from_redis_value(answer: Value) -> Result<Self, ParsingError> {
        match answer {
            Value::Okay => Ok(Self),
            _ => Err("not OK".into()),
        }
    }
}

/// Counts the commands sent. Handles are taken once, since looking one up costs more than a hot
/// hit.
pub(super) struct Sent {
    pub(super) get: Counter,
    pub(super) set: Counter,
    pub(super) evalsha: Counter,
    pub(super) eval: Counter,
    pub(super) ping: Counter,
    pub(super) subscribe: Counter,
    pub(super) dbsize: Counter,
    pub(super) info: Counter,
}

impl Sent {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            get: meter.redis_command("GET"),
            set: meter.redis_command("SET"),
            evalsha: meter.redis_command("EVALSHA"),
            eval: meter.redis_command("EVAL"),
            ping: meter.redis_command("PING"),
            subscribe: meter.redis_command("SUBSCRIBE"),
            dbsize: meter.redis_command("DBSIZE"),
            info: meter.redis_command("INFO"),
        }
    }
}
