//! The servers and nodes of a run.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Cluster, Database, Redis};

use crate::Plan;
use crate::node::OPEN_GATE;

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Option<Redis>,
    pub(crate) database: Database,
    /// Last: its databases go first.
    pub(crate) cluster: Cluster,
}

impl World {
    pub(crate) fn start(plan: &Plan) -> Self {
        // Of its own, since it is to be stopped and killed.
        let cluster = Cluster::start();
        let database = cluster.database();
        let redis = plan.redis.then(Redis::start);
        let nodes = (0..plan.nodes)
            .map(|_| Node::start(plan, &database, redis.as_ref()))
            .collect();
        Self {
            nodes,
            redis,
            database,
            cluster,
        }
    }

    /// Everything runs again.
    pub(crate) fn heal(&self) {
        self.cluster.resume();
        if let Some(redis) = &self.redis {
            redis.resume();
        }
        self.nodes.iter().for_each(Node::resume);
    }
}

/// A node's process; killed when dropped.
pub(crate) struct Node {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Node {
    fn start(plan: &Plan, database: &Database, redis: Option<&Redis>) -> Self {
        let mut command = Command::new(&plan.node);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SESSION_") {
                command.env_remove(name);
            }
        }
        let bound = plan.bound.as_millis();
        command
            .env("SESSION_KEY", "torture".repeat(8))
            .env("SESSION_COLD__URL", database.url())
            .env("SESSION_COLD__STATEMENT_TIMEOUT", "2s")
            .env("SESSION_COLD__CONNECT_TIMEOUT", "2s")
            .env("SESSION_FENCE__STALENESS_BOUND", format!("{bound}ms"))
            .env("SESSION_FENCE__POLL_INTERVAL", format!("{}ms", bound / 4))
            .env("SESSION_COLD__NOTIFY", plan.notify.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if plan.gate_open {
            command.env(OPEN_GATE, "1");
        }
        if let Some(redis) = redis {
            command.env("SESSION_WARM__URL", redis.url());
        }
        let mut process = command.spawn().expect("torture-node runs");
        let stdout = process.stdout.take().expect("a pipe");
        let mut port = String::new();
        BufReader::new(stdout).read_line(&mut port).expect("a line");
        let port: u16 = port.trim().parse().expect("torture-node prints its port");
        Self {
            process,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("the node runs");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
