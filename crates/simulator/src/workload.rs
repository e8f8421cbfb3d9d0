//! What the users of a service do.

use std::time::Duration;

use serde::Serialize;

/// How requests come to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// Each request goes to any node.
    Random,
    /// All requests of a session go to the same node.
    Sticky,
}

/// Sessions, and what is asked of them. Rates are of the whole service, per second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Sessions that are alive at any time.
    pub sessions: u64,
    /// Nodes of the service.
    pub nodes: u32,
    /// Requests that show a session.
    pub requests: f64,
    /// How unequally they fall on sessions: the one of rank k gets a share in proportion to
    /// k^-zipf. 0: all alike.
    pub zipf: f64,
    /// Requests of a visit, on average; after each the user goes on or leaves by the same chance.
    pub visit: f64,
    /// Time between two requests of a visit, on average.
    #[serde(serialize_with = "seconds")]
    pub think: Duration,
    /// Sessions that begin in place of one that is left to expire.
    pub logins: f64,
    /// Sessions that are revoked; each time another begins in its place.
    pub revocations: f64,
    /// Changes of what a session holds, refreshes of tokens among them.
    pub updates: f64,
    /// The part of requests whose handlers ask for the session's body.
    pub bodies: f64,
    /// The part of sessions that are found by somebody else's keys, two each.
    pub foreign: f64,
    /// Bytes of the application's data in a session, as JSON.
    pub data: u32,
    /// Bytes of texts in a session's head: the user's address and name.
    pub name: u32,
    /// Bytes of texts in its body: the device's user agent and label.
    pub device: u32,
    /// How requests come to nodes.
    pub routing: Routing,
}

impl Default for Workload {
    fn default() -> Self {
        Self::of(1_000_000, 10)
    }
}

impl Workload {
    /// So many sessions as people have them: each is used a hundred times in three hours, ten times a
    /// visit, lives for twelve hours, and is revoked or changed now and then.
    pub fn of(sessions: u64, nodes: u32) -> Self {
        let all = sessions as f64;
        let requests = all / 100.0;
        Self {
            sessions,
            nodes,
            requests,
            zipf: 0.6,
            visit: 10.0,
            think: Duration::from_secs(15),
            logins: all / (12.0 * 3600.0),
            revocations: all / 1e6,
            updates: requests / 1000.0,
            bodies: 0.0,
            foreign: 0.0,
            data: 100,
            name: 32,
            device: 120,
            routing: Routing::Random,
        }
    }

    /// Whether it can be simulated.
    ///
    /// # Errors
    ///
    /// Says what is out of range.
    pub fn validate(&self) -> Result<(), String> {
        let within = |part: f64| (0.0..=1.0).contains(&part);
        let wrong = if self.sessions == 0 || self.nodes == 0 {
            "there must be sessions and nodes"
        } else if self.requests <= 0.0 {
            "there must be requests"
        } else if self.visit < 1.0 || self.think.is_zero() {
            "a visit has one request at least, and takes time"
        } else if !within(self.bodies) || !within(self.foreign) {
            "bodies and foreign are parts, from 0 to 1"
        } else {
            return Ok(());
        };
        Err(wrong.into())
    }

    /// The share of all requests that fall on the sessions of ranks `from` to `to`, the latter not
    /// among them; the first rank is 1.
    pub(crate) fn share(&self, from: f64, to: f64) -> f64 {
        power_sum(from, to, self.zipf) / power_sum(1.0, self.sessions as f64 + 1.0, self.zipf)
    }

    /// Whether the sessions of a place are found by somebody else's keys: those of as many places as the
    /// part says, of all ranks alike.
    pub fn is_foreign(&self, place: u32) -> bool {
        let mixed = place.wrapping_add(1).wrapping_mul(0x9e37_79b9);
        f64::from(mixed) / (f64::from(u32::MAX) + 1.0) < self.foreign
    }

    /// Sessions that begin, by whatever cause.
    pub fn begun(&self) -> f64 {
        self.logins + self.revocations
    }

    /// Changes that each node is told of by the feed.
    pub fn changes(&self) -> f64 {
        self.revocations + self.updates
    }
}

/// Σ k^-s for whole k with `from` ≤ k < `to`: what is small is added up, the rest an integral around
/// each k (the midpoint rule, which at k > 32 is right to some 10^-5).
fn power_sum(from: f64, to: f64, s: f64) -> f64 {
    const EXACT: f64 = 33.0;
    let mut sum = 0.0;
    let mut k = from;
    while k < to.min(EXACT) {
        sum += k.powf(-s);
        k += 1.0;
    }
    if k < to {
        let (a, b) = (k - 0.5, to - 0.5);
        sum += match (s - 1.0).abs() < 1e-9 {
            true => (b / a).ln(),
            false => (b.powf(1.0 - s) - a.powf(1.0 - s)) / (1.0 - s),
        };
    }
    sum
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_fall_by_the_exponent() {
        for zipf in [0.0, 0.6, 1.0, 1.3] {
            let workload = Workload {
                sessions: 100_000,
                zipf,
                ..Workload::default()
            };
            let whole = workload.share(1.0, 100.0) + workload.share(100.0, 100_001.0);
            assert!((whole - 1.0).abs() < 1e-9, "{zipf}: {whole}");
            let exact: f64 = (1..=100_000).map(|k| f64::from(k).powf(-zipf)).sum();
            let sum = power_sum(1.0, 100_001.0, zipf);
            assert!((sum / exact - 1.0).abs() < 1e-4, "{zipf}: {sum}, {exact}");
            let ratio = workload.share(1.0, 2.0) / workload.share(10.0, 11.0);
            assert!((ratio / 10_f64.powf(zipf) - 1.0).abs() < 1e-6);
        }
    }
}
