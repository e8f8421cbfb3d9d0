//! How much Redis holds.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, InfoDict};

use super::finding::WarmStats;
use super::tier::Warm;

/// Steps of a scan at most, each of which looks at about [`AT_ONCE`] keys.
const STEPS: usize = 200;
const AT_ONCE: usize = 1000;
/// Characters of an id or a hash in a key.
const NAME: usize = 22;

impl Warm {
    /// Counts, looking at some 200,000 keys at most; `None` while Redis is not reached.
    pub(crate) async fn stats(&self) -> Option<WarmStats> {
        let connection = self.health.connection()?;
        let mut stats = WarmStats::default();
        self.scan(&connection, &mut stats).await;
        stats.keys = self
            .told(&connection, "DBSIZE", &redis::cmd("DBSIZE"))
            .await;
        let info = redis::cmd("INFO").arg("memory").take();
        if let Some(info) = self.told::<InfoDict>(&connection, "INFO", &info).await {
            stats.memory = info.get("used_memory");
            stats.max_memory = info.get("maxmemory").filter(|&most: &u64| most > 0);
        }
        let listeners = redis::cmd("PUBSUB").arg("NUMSUB").arg(&self.channel).take();
        let listeners = self
            .told::<(String, u64)>(&connection, "PUBSUB", &listeners)
            .await;
        stats.listeners = listeners.map(|(_, count)| count);
        Some(stats)
    }

    async fn scan(&self, connection: &MultiplexedConnection, stats: &mut WarmStats) {
        let (mut sessions, mut copies) = (0, 0);
        let begin = format!("{}:", self.prefix);
        let mut cursor = 0_u64;
        for _ in 0..STEPS {
            let mut step = redis::cmd("SCAN");
            step.arg(cursor).arg("MATCH").arg(pattern(&begin));
            step.arg("COUNT").arg(AT_ONCE);
            let Some((next, keys)) = self
                .told::<(u64, Vec<Vec<u8>>)>(connection, "SCAN", &step)
                .await
            else {
                // Not permitted; or cut off, and what was counted is the least.
                return;
            };
            for key in keys {
                // Keys of a namespace have more behind the prefix; leases are no records.
                match key.strip_prefix(begin.as_bytes()) {
                    Some(name) if name.len() == NAME && !name.contains(&b':') => sessions += 1,
                    Some([b'f', b':', name @ ..]) if name.len() == NAME => copies += 1,
                    _ => {}
                }
            }
            (stats.sessions, stats.copies) = (Some(sessions), Some(copies));
            cursor = next;
            if cursor == 0 {
                stats.complete = true;
                return;
            }
        }
    }

    /// What Redis says to a command that it may not permit.
    async fn told<T: FromRedisValue>(
        &self,
        connection: &MultiplexedConnection,
        name: &'static str,
        command: &Cmd,
    ) -> Option<T> {
        let sent = self.metrics.meter.redis_command(name);
        self.ask(connection.clone(), &sent, command).await.ok()
    }
}

/// Matches what begins so, and no more than that: a prefix may hold what is special in a pattern.
fn pattern(begin: &str) -> String {
    let mut pattern = String::with_capacity(begin.len() + 1);
    for c in begin.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(pattern("session:"), "session:*");
        assert_eq!(pattern("a*b[c]?:"), r"a\*b\[c\]\?:*");
    }
}
