//! Redis, and each node's way to it.

use testbed::{Redis, Relay};

pub(crate) struct Warm {
    pub(crate) redis: Redis,
    /// One for each node, so that one is cut off while the others go on.
    pub(crate) ways: Vec<Relay>,
}

impl Warm {
    pub(crate) fn start(nodes: usize) -> Self {
        let redis = Redis::start();
        let ways = (0..nodes).map(|_| Relay::to(redis.socket())).collect();
        Self { redis, ways }
    }

    /// The address by which a node knows Redis.
    pub(crate) fn url(&self, node: usize) -> String {
        format!("redis://{}", self.ways[node].address())
    }

    /// Leads every node to another Redis, and ends the one before.
    pub(crate) fn hand_over(&mut self, to: Redis) {
        for way in &self.ways {
            way.redirect(to.socket());
        }
        self.redis = to;
    }

    pub(crate) fn heal(&self) {
        self.redis.resume();
        self.ways.iter().for_each(Relay::mend);
    }
}
