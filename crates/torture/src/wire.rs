//! What a driver and a node say to each other: one line of JSON each way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Begin a session.
    Login,
    /// Find the session of a token.
    Find { token: String },
    /// The same, given up after so many microseconds, as by a client that goes away.
    FindBriefly { token: String, micros: u64 },
    /// The same, confirmed by the database's row.
    FindStrict { token: String },
    /// Add one to the session's count, and leave a tag that no other change leaves.
    Increment { token: String, tag: u64 },
    /// Trade a refresh token in for a new pair.
    Refresh { token: String },
    /// Count the tasks of the node's runtime.
    Tasks,
    /// Count the bytes that the node's heap has in use.
    Heap,
    /// Revoke a session.
    Revoke { id: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Say {
    Session {
        id: String,
        /// With a login, or a new pair.
        tokens: Option<Tokens>,
        version: i64,
        count: Option<u64>,
        /// Of the last change; zero if there was none.
        tag: Option<u64>,
        tier: String,
        /// When the node began to look, and when it had the session; nanoseconds since boot.
        asked_at: i64,
        served_at: i64,
    },
    Done,
    GivenUp,
    Tasks(u64),
    Heap(u64),
    Refused(String),
    Failed(String),
}

/// A driver's connection to a node.
pub(crate) struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    pub(crate) fn open(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
        // Longer than any pause of a node.
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> std::io::Result<Say> {
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}
