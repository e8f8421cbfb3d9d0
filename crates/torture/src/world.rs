//! The servers and nodes of a run.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Plan;
use crate::cold::Cold;
use crate::history::STATEMENT;
use crate::node::{OPEN_GATE, SECRET, UNAWARE};
use crate::warm::Warm;

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) cold: Cold,
}

impl World {
    pub(crate) fn start(plan: &Plan, warm: Option<&Warm>) -> Self {
        let cold = Cold::start(plan);
        let nodes = (0..plan.nodes)
            .map(|number| {
                let mut settings = cold.settings();
                let warm = warm.map(|warm| warm.url(number));
                settings.extend(warm.map(|url| ("SESSION_WARM__URL", url)));
                Node::start(plan, settings)
            })
            .collect();
        Self { nodes, cold }
    }

    /// The processes of the nodes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::pid).collect()
    }

    /// Everything runs again.
    pub(crate) fn heal(&self) {
        self.cold.heal();
        self.nodes.iter().for_each(Node::resume);
    }
}

/// A node's process; killed when dropped.
pub(crate) struct Node {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Node {
    fn start(plan: &Plan, settings: Vec<(&str, String)>) -> Self {
        let mut command = Command::new(&plan.node);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SESSION_") {
                command.env_remove(name);
            }
        }
        let bound = plan.bound.as_millis();
        let statement = STATEMENT.as_millis();
        command
            .env("SESSION_KEY", SECRET)
            .envs(settings)
            .env("SESSION_COLD__STATEMENT_TIMEOUT", format!("{statement}ms"))
            .env("SESSION_COLD__CONNECT_TIMEOUT", "2s")
            .env("SESSION_FENCE__STALENESS_BOUND", format!("{bound}ms"))
            .env("SESSION_FENCE__POLL_INTERVAL", format!("{}ms", bound / 4))
            .env("SESSION_COLD__NOTIFY", plan.notify.to_string())
            // Full within minutes, so that sessions are driven out and floors forgotten, and memory
            // that goes on growing is not theirs.
            .env("SESSION_HOT__CAPACITY", "1MiB")
            .env("SESSION_FENCE__MAX_FLOORS", "1000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if plan.gate_open {
            command.env(OPEN_GATE, "1");
        }
        if plan.unaware {
            command.env(UNAWARE, "1");
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

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
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
