//! Leases: of the nodes that miss a session at the same moment one loads it, and the others wait a
//! little for what it brings to Redis.
//!
//! They are for the database's ease alone. Whoever waits for a lease in vain loads the session
//! itself; so one that is lost, or given twice, costs a statement.

use std::io;
use std::time::Duration;

use redis::{FromRedisValue, ParsingError, Pipeline, RedisError, Value};
use session_core::Key;
use tokio::time::timeout;

use super::record::Place;
use super::tier::Warm;

impl Warm {
    /// Asks for the leases of what these keys lead to, in one pipeline; they end by themselves after
    /// `warm.lease`. Says of each whether this node is to load it: not if another has the lease.
    pub(crate) async fn lease(&self, keys: &[Key]) -> Vec<bool> {
        match self.set_leases(keys, "NX", self.lease).await {
            Some(leases) => leases.iter().map(|lease| lease.is_ours).collect(),
            None => vec![true; keys.len()],
        }
    }

    /// Ends a lease early, since there will be nothing to wait for. If it has passed to another
    /// node meanwhile, that one's ends too, which costs a statement.
    pub(crate) async fn end_lease(&self, key: Key) {
        // It needs no other permission than the lease itself.
        let at_once = Duration::from_millis(1);
        self.set_leases(&[key], "XX", at_once).await;
    }

    /// What Redis says to each; `None` if it does not, or if there are no leases.
    async fn set_leases(&self, keys: &[Key], condition: &str, ttl: Duration) -> Option<Vec<Lease>> {
        if self.lease.is_zero() {
            return None;
        }
        let mut connection = self.health.connection()?;
        let mut leases = Pipeline::with_capacity(keys.len());
        for &key in keys {
            let key = Place::of(key)?.lease(&self.prefix);
            let set = leases.cmd("SET").arg(key).arg("").arg(condition);
            set.arg("PX").arg(ttl.as_millis() as u64);
        }
        self.sent.set.increment(keys.len() as u64);
        let answers = leases.query_async(&mut connection);
        let answers = match timeout(self.command_timeout, answers).await {
            Ok(answers) => answers.inspect(|_| self.health.answered()),
            Err(_) => Err(RedisError::from(io::Error::from(io::ErrorKind::TimedOut))),
        };
        answers.inspect_err(|error| self.failed(error)).ok()
    }
}

struct Lease {
    is_ours: bool,
}

impl FromRedisValue for Lease {
    fn from_redis_value(answer: Value) -> Result<Self, ParsingError> {
        let is_ours = match answer {
            Value::Okay => true,
            Value::Nil => false,
            _ => return Err("neither OK nor nothing".into()),
        };
        Ok(Self { is_ours })
    }
}
