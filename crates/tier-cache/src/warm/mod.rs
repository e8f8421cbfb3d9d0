//! The warm tier: heads, or whole sessions, in Redis.
//!
//! Redis makes us fast; it is never what makes us right. Nothing here is trusted beyond what its
//! seal vouches for, whatever fails is a miss, and while Redis is known to be down nothing waits
//! for it.
//!
//! # Keys
//!
//! | key | holds |
//! |---|---|
//! | `{prefix}:{id}` | the session, or the tombstone of a revoked one |
//! | `{prefix}:f:{hash}` | a complete copy, for each foreign key that leads to the session |
//!
//! Id and hash are written in 22 characters of base64url. A lookup is one `GET`; a script sets one
//! key, so that all of this may stand behind a proxy of a Redis Cluster. Changes are told on the
//! channel `{prefix}:changes`.
//!
//! # Permissions
//!
//! The least that an ACL user needs, for the prefix `session`:
//!
//! ```text
//! ACL SETUSER app on >password resetkeys ~session:* resetchannels &session:changes
//!     -@all +get +getrange +set +eval +evalsha +publish +subscribe +ping
//! ```
//!
//! `+select` too where the URL names a database other than 0; `+dbsize +info` for the gauges of
//! the tier's size, which are left out otherwise.
//!
//! # TLS
//!
//! A `rediss://` URL is spoken with rustls and its ring provider, whatever provider the process
//! has installed, or none. The server must show a certificate for the host in the URL by an
//! authority of the system, or by one in `warm.ca_file`.

mod health;
mod link;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use ::metrics::Counter;
use futures_util::future::{join, join_all};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind};
use session_core::{Key, KeyHash, Timestamp, TokenKeys};
use tokio::time::timeout;

use self::health::{Health, random_part};
use self::link::Target;
use self::record::{Place, decode, encode};
use crate::config::{ConfigError, WarmConfig};
use crate::metrics::{Metrics, redis_command};
use crate::push::Push;

pub(crate) use self::record::{WarmRecord, ordered, unordered};

const SET_IF_NEWER: &str = include_str!("set_if_newer.lua");

/// The warm tier.
///
/// It is down until [`listen`](Self::listen) runs and has connected; await
/// [`ready`](Self::ready) before the first request.
pub(crate) struct Warm {
    target: Target,
    prefix: Box<str>,
    channel: String,
    keys: TokenKeys,
    connect_timeout: Duration,
    command_timeout: Duration,
    set_if_newer: Script,
    health: Health,
    metrics: Metrics,
    sent: Sent,
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
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            target: Target::parse(config)?,
            prefix: config.prefix.as_str().into(),
            channel: format!("{}:changes", config.prefix),
            keys,
            connect_timeout: config.connect_timeout,
            command_timeout: config.command_timeout,
            set_if_newer: Script::new(SET_IF_NEWER),
            health: Health::new(),
            metrics,
            sent: Sent::new(),
        })
    }

    /// Waits for the first verdict on Redis, at most `connect_timeout`; then says whether it is
    /// up.
    pub(crate) async fn ready(&self) -> bool {
        let _ = timeout(self.connect_timeout, self.health.known()).await;
        self.is_up()
    }

    /// Whether Redis answered, the last time it was asked.
    pub(crate) fn is_up(&self) -> bool {
        self.health.is_up()
    }

    /// What a key leads to, by one `GET`; whatever goes wrong is a miss.
    ///
    /// A foreign key may lead to a session that has another key by now: the caller compares.
    pub(crate) async fn get(&self, key: Key) -> Option<WarmRecord> {
        let place = Place::of(key)?;
        let connection = self.health.connection()?;
        let key = place.key(&self.prefix);
        let get = redis::cmd("GET").arg(&key).take();
        match self
            .ask::<Option<Vec<u8>>>(connection, &self.sent.get, &get)
            .await
        {
            Ok(bytes) => {
                let record = decode(&bytes?, place, &key, &self.keys);
                if record.is_none() {
                    self.metrics.warm_unreadable.increment(1);
                }
                record
            }
            Err(error) if error.code() == Some("WRONGTYPE") => {
                self.metrics.warm_unreadable.increment(1);
                None
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Keeps what a cold load brought, unless a newer record is there. Nothing is published.
    pub(crate) async fn fill(&self, record: &WarmRecord, ttl: Duration) {
        let foreign: Vec<KeyHash> = record.foreign_keys().collect();
        self.store(record, &foreign, None, ttl).await;
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
        push: Push,
        ttl: Duration,
    ) -> bool {
        let mut foreign: Vec<KeyHash> = record.foreign_keys().collect();
        for key in foreign_keys {
            if key.is_foreign() && !foreign.contains(key) {
                foreign.push(*key);
            }
        }
        self.store(record, &foreign, Some(push), ttl).await
    }

    async fn store(
        &self,
        record: &WarmRecord,
        foreign: &[KeyHash],
        push: Option<Push>,
        ttl: Duration,
    ) -> bool {
        let Some(connection) = self.health.connection() else {
            return false;
        };
        let set = |place, push| self.set(connection.clone(), record, place, push, ttl);
        let copies = foreign.iter().map(|key| set(Place::Foreign(*key), None));
        let session = set(Place::Session(record.id()), push);
        let (session, copies) = join(session, join_all(copies)).await;
        session && copies.into_iter().all(|taken| taken)
    }

    async fn set(
        &self,
        connection: MultiplexedConnection,
        record: &WarmRecord,
        place: Place,
        push: Option<Push>,
        ttl: Duration,
    ) -> bool {
        let key = place.key(&self.prefix);
        let bytes = encode(record, place, &key, &self.keys);
        let message = push.map(|push| push.encode(&self.channel, &self.keys));
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
        let mut answer = self
            .ask::<()>(connection.clone(), &self.sent.evalsha, &by_hash)
            .await;
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if answer.as_ref().is_err_and(|error| error.kind() == unknown) {
            // Once per start of the server: it keeps the script that it is given here.
            let in_full = command("EVAL", SET_IF_NEWER);
            answer = self.ask(connection, &self.sent.eval, &in_full).await;
        }
        match answer {
            Ok(()) => {
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

    async fn ask<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        sent: &Counter,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        sent.increment(1);
        match timeout(self.command_timeout, command.query_async(&mut connection)).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    fn failed(&self, error: &RedisError) {
        self.metrics.warm_errors.increment(1);
        self.health.suspect(error);
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

/// How long a record is to stay warm: `config.ttl` less a random part of it, so that records
/// filled together do not end together, and not beyond the session's expiry. `None` if that has
/// passed.
pub(crate) fn ttl(expires_at: Timestamp, now: Timestamp, config: &WarmConfig) -> Option<Duration> {
    let kept = 1.0 - config.jitter.clamp(0.0, 0.9) * random_part();
    let ttl = config.ttl.mul_f64(kept).min(expires_at.since(now));
    (!ttl.is_zero()).then_some(ttl)
}

/// Counts the commands sent. Handles are taken once, since looking one up costs more than a hot
/// hit.
struct Sent {
    get: Counter,
    evalsha: Counter,
    eval: Counter,
    ping: Counter,
    subscribe: Counter,
    dbsize: Counter,
    info: Counter,
}

impl Sent {
    fn new() -> Self {
        Self {
            get: redis_command("GET"),
            evalsha: redis_command("EVALSHA"),
            eval: redis_command("EVAL"),
            ping: redis_command("PING"),
            subscribe: redis_command("SUBSCRIBE"),
            dbsize: redis_command("DBSIZE"),
            info: redis_command("INFO"),
        }
    }
}
