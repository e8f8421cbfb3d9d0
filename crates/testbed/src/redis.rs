use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::address::{encode, encode_credential};
use crate::error::OrFail;
use crate::folder::{Ending, Folder, Reach};
use crate::server::Server;
use crate::tls::Certificates;
use crate::{Error, Relay, port, programs};

mod replica;
mod snapshot;

pub use snapshot::Snapshot;

/// The user by which [`Redis::cli`] comes in where access rules shut out the default one.
const CONTROL_USER: &str = "testbed";

/// A private Redis server, empty at the start and gone when dropped.
///
/// It listens on a unix socket in a temporary folder, saves nothing, and may be killed, restarted
/// and paused while clients are connected.
pub struct Redis {
    server: Server,
    socket: PathBuf,
    options: RedisBuilder,
    port: Option<u16>,
    certificates: Option<Certificates>,
    /// How often `cli` had to authenticate since the server started; not for a test to count.
    own_auths: AtomicU64,
    /// A replica's way to its master's socket, since replicas know only TCP.
    link: Option<Relay>,
}

/// Options of a [`Redis`] server.
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    config: Vec<String>,
    users: Vec<String>,
    transport: Transport,
}

/// How clients are to reach the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Transport {
    #[default]
    Socket,
    Tcp,
    Tls,
}

impl Redis {
    /// Starts a server on a unix socket.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Options for a server on TCP, with TLS, with access rules or with settings of its own.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// The address for the `redis` crate: `unix://…`, or `redis://…` and `rediss://…` when TCP and
    /// TLS were asked for.
    pub fn url(&self) -> String {
        match self.port {
            None => format!("unix://{}", encode(&self.socket.to_string_lossy())),
            Some(port) => format!("{}://127.0.0.1:{port}", self.scheme()),
        }
    }

    /// The address with a user's name and password in it.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let (user, password) = (encode_credential(user), encode_credential(password));
        match self.port {
            None => format!("{}?user={user}&pass={password}", self.url()),
            Some(port) => format!("{}://{user}:{password}@127.0.0.1:{port}", self.scheme()),
        }
    }

    /// The unix socket, which is there beside TCP and TLS too.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The certificate authority, in PEM, by which the server's certificate is to be checked.
    ///
    /// # Panics
    ///
    /// When the server was started without TLS.
    #[track_caller]
    pub fn ca_file(&self) -> &Path {
        match &self.certificates {
            Some(files) => &files.authority,
            None => panic!("this Redis has no certificate: start it by Redis::builder().tls()"),
        }
    }

    /// Ends the server as a crash does (SIGKILL), and returns when it is gone.
    pub fn kill(&self) {
        self.server.end();
    }

    /// Starts the server again at the same address, and empty; kills it first if it is running.
    ///
    /// # Panics
    ///
    /// When it does not start, as when another program took its port meanwhile.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        // A snapshot, or the copy that a replica got, would be read.
        let _ = fs::remove_file(self.dump());
        self.launch().or_fail();
    }

    /// Makes the server go silent (SIGSTOP) with its connections open, and returns when it has.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Undoes [`pause`](Self::pause) (SIGCONT).
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Sends one command by `redis-cli` and returns the answer as that prints it in a pipe.
    ///
    /// Access rules do not bind it.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached or answers with an error.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> String {
        self.ask(args).or_fail()
    }

    /// How often each command was called since the server started, by its name in lower case
    /// (`get`, `config|set`). The calls that a script makes count beside the script's own.
    ///
    /// `info` and `config|resetstat` are left out, and so is the authentication of
    /// [`cli`](Self::cli), so that the difference of two answers is exactly what happened between.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let stats = self.ask(&["INFO", "commandstats"]).or_fail();
        let mut calls: BTreeMap<String, u64> = stats.lines().filter_map(parse_calls).collect();
        calls.remove("info");
        calls.remove("config|resetstat");
        if let Some(auths) = calls.get_mut("auth") {
            *auths = auths.saturating_sub(self.own_auths.load(Relaxed));
        }
        calls.retain(|_, count| *count > 0);
        calls
    }

    /// How often each command was called since `before` was taken. Those that were not called are
    /// left out.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn calls_since(&self, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut calls = self.calls();
        for (name, count) in &mut calls {
            *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
        }
        calls.retain(|_, count| *count > 0);
        calls
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() {
            "rediss"
        } else {
            "redis"
        }
    }

    fn ask(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = programs::command("redis-cli")?;
        // `-e`: an answer that is an error is a failure.
        command.arg("-e").arg("-s").arg(&self.socket);
        if !self.options.users.is_empty() {
            command.args([
                "--user",
                CONTROL_USER,
                "--pass",
                CONTROL_USER,
                "--no-auth-warning",
            ]);
            self.own_auths.fetch_add(1, Relaxed);
        }
        programs::run(command.args(args), "")
    }

    fn launch(&self) -> Result<(), Error> {
        self.own_auths.store(0, Relaxed);
        self.server.start(&mut self.command()?, || {
            UnixStream::connect(&self.socket).is_ok()
        })
    }

    fn command(&self) -> Result<Command, Error> {
        let mut command = programs::command("redis-server")?;
        command
            .args(["--daemonize", "no", "--save", "", "--appendonly", "no"])
            // A replica gets its copy at once.
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--unixsocketperm", "700", "--unixsocket"])
            .arg(&self.socket)
            .args(["--bind", &Ipv4Addr::LOCALHOST.to_string()]);

        let port = self.port.unwrap_or(0).to_string();
        match &self.certificates {
            None => {
                command.args(["--port", &port]);
            }
            Some(files) => {
                command.args([
                    "--port",
                    "0",
                    "--tls-port",
                    &port,
                    "--tls-auth-clients",
                    "no",
                ]);
                command.arg("--tls-ca-cert-file").arg(&files.authority);
                command.arg("--tls-cert-file").arg(&files.certificate);
                command.arg("--tls-key-file").arg(&files.key);
            }
        }

        if !self.options.users.is_empty() {
            let control = format!("{CONTROL_USER} on >{CONTROL_USER} ~* &* +@all");
            command.args(["--masteruser", CONTROL_USER, "--masterauth", CONTROL_USER]);
            for user in self.options.users.iter().chain([&control]) {
                command.arg("--user").args(user.split_ascii_whitespace());
            }
        }
        command.args(&self.options.config);
        Ok(command)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl RedisBuilder {
    /// Adds a setting as in `redis.conf`: `.config("maxmemory", "1mb")`.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push(format!("--{name}"));
        self.config
            .extend(value.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// Adds a user as `ACL SETUSER` does: `.user("app on >secret ~session:* +get")`.
    ///
    /// Clients without a name are the user `default`, who may do everything unless a rule here
    /// says otherwise: `.user("default off")`. A user `testbed` comes along, for
    /// [`Redis::cli`].
    pub fn user(mut self, rules: &str) -> Self {
        self.users.push(rules.to_owned());
        self
    }

    /// Listens on a free port of 127.0.0.1 too.
    pub fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    /// Listens on a free port of 127.0.0.1 too, where it speaks TLS only.
    pub fn tls(mut self) -> Self {
        self.transport = Transport::Tls;
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed or does not start.
    #[track_caller]
    pub fn start(self) -> Redis {
        self.try_start().or_fail()
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// When `redis-server` is not installed or does not start.
    pub fn try_start(self) -> Result<Redis, Error> {
        let folder = Folder::create(Reach::Owner)?;
        let certificates = match self.transport {
            Transport::Tls => Some(Certificates::create(folder.path(), None)?),
            Transport::Socket | Transport::Tcp => None,
        };
        let mut redis = Redis {
            socket: folder.path().join("redis.sock"),
            server: Server::new(Ending::Kill, folder),
            port: None,
            certificates,
            own_auths: AtomicU64::new(0),
            link: None,
            options: self,
        };

        if redis.options.transport == Transport::Socket {
            redis.launch()?;
        } else {
            port::with_free(|port| {
                redis.port = Some(port);
                redis.launch()
            })?;
        }
        Ok(redis)
    }
}

/// Reads `cmdstat_get:calls=3,usec=…`.
fn parse_calls(line: &str) -> Option<(String, u64)> {
    let (name, stats) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
    let calls = stats
        .split(',')
        .find_map(|stat| stat.strip_prefix("calls="))?;
    Some((name.to_owned(), calls.parse().ok()?))
}
