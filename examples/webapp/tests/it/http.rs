//! The smallest HTTP client that will do: it sends any bytes, also those that no honest one would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A request under construction.
#[must_use]
pub(crate) struct Request {
    to: SocketAddr,
    head: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn new(to: SocketAddr, method: &str, path: &str) -> Self {
        Self::of_host(to, &to.to_string(), method, path)
    }

    /// A request that names this host.
    pub(crate) fn of_host(to: SocketAddr, host: &str, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        Self {
            to,
            head: head.into(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend(name.as_bytes());
        self.head.extend(b": ");
        self.head.extend(value.as_ref());
        self.head.extend(b"\r\n");
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn cookie(self, token: &str) -> Self {
        self.header("Cookie", format!("__Host-session={token}"))
    }

    pub(crate) fn json(self, body: impl ToString) -> Self {
        self.header("Content-Type", "application/json")
            .text(body.to_string())
    }

    pub(crate) fn text(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len();
        self.header("Content-Length", length.to_string())
    }

    pub(crate) fn send(self) -> Response {
        self.send_all_but(0).finish()
    }

    /// Sends the request without the last bytes of its body.
    pub(crate) fn send_all_but(self, bytes: usize) -> Pending {
        let mut stream = TcpStream::connect(self.to).expect("the service accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let (now, later) = self.body.split_at(self.body.len() - bytes);
        let first = [&self.head, &b"\r\n"[..], now].concat();
        // One that is refused for its size may be closed before it is read to its end.
        let _ = stream.write_all(&first);
        Pending {
            stream,
            later: later.into(),
        }
    }

    /// Sends the request without the last byte of its body, and returns once a handler waits for
    /// that.
    pub(crate) fn send_until_awaited(self) -> Pending {
        /// What a server says when it begins to read a body (RFC 9110 §10.1.1).
        const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

        let mut pending = self.header("Expect", "100-continue").send_all_but(1);
        let mut said = [0; GO_ON.len()];
        pending.stream.read_exact(&mut said).expect("it goes on");
        assert_eq!(said, GO_ON, "{}", String::from_utf8_lossy(&said));
        pending
    }
}

/// A request that is not wholly sent yet.
pub(crate) struct Pending {
    stream: TcpStream,
    later: Vec<u8>,
}

impl Pending {
    /// Sends the rest and reads the response.
    pub(crate) fn finish(mut self) -> Response {
        let _ = self.stream.write_all(&self.later);
        let mut answer = Vec::new();
        let ended = self.stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            panic!("no whole response: {text:?} ({ended:?})");
        };
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().into())
        });
        Response {
            status: status.and_then(|code| code.parse().ok()).expect("a status"),
            headers: headers.collect(),
            body: body.into(),
        }
    }
}

impl Response {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Checks that it is an error as all of them are.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16) -> Self {
        let this = self.expect(status);
        let json = this.json();
        let error = json["error"].as_str();
        assert!(error.is_some_and(|text| !text.is_empty()), "{this:?}");
        assert_eq!(json.as_object().unwrap().len(), 1, "{this:?}");
        this
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The token in the session cookie that this sets.
    #[track_caller]
    pub(crate) fn cookie(&self) -> &str {
        let cookie = self.header("set-cookie").expect("a cookie is set");
        let value = cookie.strip_prefix("__Host-session=").expect("ours");
        value.split(';').next().unwrap()
    }
}
