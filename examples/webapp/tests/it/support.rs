//! Running services, each in a folder of its own, gone with the test.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Request, Response};

/// Makes of each function two tests: on SQLite alone, and on PostgreSQL and Redis.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[test]
                fn $name() {
                    let file = testbed::SqliteFile::create();
                    let folder = crate::support::folder();
                    let app = crate::support::App::start(
                        folder.path(),
                        &["--database", &file.url(), "--no-redis"],
                    );
                    super::$name(&app, &|sql| file.sql(sql));
                }
            )*
        }
        mod on_postgres_and_redis {
            $(
                #[test]
                fn $name() {
                    let database = testbed::Database::create();
                    let redis = testbed::Redis::start();
                    let folder = crate::support::folder();
                    let app = crate::support::App::start(
                        folder.path(),
                        &["--database", &database.url(), "--redis", &redis.url()],
                    );
                    super::$name(&app, &|sql| database.sql(sql));
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// Asks the database of a test.
pub(crate) type Sql<'a> = &'a dyn Fn(&str) -> String;

/// What anything may take on a very slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running service; killed when dropped.
pub(crate) struct App {
    child: Child,
    lines: Receiver<String>,
    pub(crate) address: SocketAddr,
    /// All that it printed until it took requests.
    pub(crate) printed: Vec<String>,
    /// The lines to try.
    pub(crate) curl: Vec<String>,
}

/// The tokens of a login.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// A folder to run in; short, since a socket's path is.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("webapp-test-")
        .tempdir_in("/tmp")
        .expect("a temporary folder")
}

/// The program in `folder`, reached by nothing of the environment of the test.
pub(crate) fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webapp"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let named = [
            "DATABASE_URL",
            "REDIS_URL",
            "REAUTHENTICATE_AFTER",
            "OPERATIONS",
            "ALLOW_HOSTS",
        ];
        if text.starts_with("SESSION_") || named.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(folder)
        .env("STATE_DIRECTORY", folder)
        .args(args)
        .env("TMPDIR", folder)
        .env("RUST_LOG", "error")
        // The machine that runs the tests may be slow; what is tested here is not.
        .env("SESSION_WARM__COMMAND_TIMEOUT", "10s")
        .env("SESSION_WARM__CONNECT_TIMEOUT", "10s")
        .env("SESSION_COLD__STATEMENT_TIMEOUT", "30s")
        .env("SESSION_COLD__CONNECT_TIMEOUT", "30s")
        .env("SESSION_FENCE__STALENESS_BOUND", "30s")
        .env("SESSION_FENCE__POLL_INTERVAL", "100ms")
        .stdin(Stdio::null());
    command
}

impl App {
    /// Starts a service on a free port.
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        Self::spawn(program(folder, &["--listen", "127.0.0.1:0"]).args(args))
    }

    /// Starts a service with neither flags nor Redis.
    pub(crate) fn plain(folder: &Path) -> Self {
        Self::start(folder, &["--no-redis"])
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut app = Self {
            child,
            lines,
            address: ([127, 0, 0, 1], 0).into(),
            printed: Vec::new(),
            curl: Vec::new(),
        };
        loop {
            let line = app.line();
            if let Some(rest) = line.strip_prefix("listening on http://") {
                let host = rest.split(',').next().unwrap();
                let host = host.replace("localhost", "127.0.0.1");
                app.address = host.parse().expect("an address");
                app.curl = (0..3).map(|_| app.line().trim().to_owned()).collect();
                return app;
            }
            app.printed.push(line);
        }
    }

    /// The next line that it prints.
    pub(crate) fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("it prints another line")
    }

    /// The line that says which tiers are on.
    pub(crate) fn tiers(&self) -> &str {
        let mut lines = self.printed.iter();
        let line = lines.find(|line| line.starts_with("tiers: "));
        line.expect("it says which tiers are on")
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        Request::new(self.address, "GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Request {
        Request::new(self.address, "POST", path)
    }

    pub(crate) fn put(&self, path: &str) -> Request {
        Request::new(self.address, "PUT", path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request {
        Request::new(self.address, "DELETE", path)
    }

    #[track_caller]
    pub(crate) fn log_in(&self, name: &str) -> Tokens {
        Tokens::of(&self.login(name, "demo").send())
    }

    /// A login to send.
    pub(crate) fn login(&self, name: &str, password: &str) -> Request {
        let body = json!({ "username": name, "password": password, "tokens": true });
        self.post("/login").json(body)
    }

    #[track_caller]
    pub(crate) fn refresh(&self, token: &str) -> Response {
        let body = json!({ "refresh_token": token });
        self.post("/refresh").json(body).send()
    }

    pub(crate) fn me(&self, tokens: &Tokens) -> Response {
        self.get("/me").bearer(&tokens.access).send()
    }

    /// The tier that finds a session.
    #[track_caller]
    pub(crate) fn tier(&self, tokens: &Tokens) -> String {
        let me: Value = self.me(tokens).expect(200).json();
        me["tier"].as_str().expect("a tier").into()
    }

    /// A metric's value, by its name and labels as in the text.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.operations("/metrics").expect(200).body;
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').next_back());
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    /// What is told to whoever runs the service, on a port of its own.
    pub(crate) fn operations(&self, path: &str) -> Response {
        let mut lines = self.printed.iter();
        let address = lines.find_map(|line| line.strip_prefix("operations: http://"));
        let (address, _) = address.expect("it says where").split_once('/').unwrap();
        Request::new(address.parse().unwrap(), "GET", path).send()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("it is running");
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the service ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether its port still takes connections.
    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tokens {
    #[track_caller]
    pub(crate) fn of(response: &Response) -> Self {
        assert_eq!(response.status, 200, "{response:?}");
        let json = response.json();
        let text = |key: &str| json[key].as_str().expect(key).to_owned();
        if response.header("set-cookie").is_some() {
            assert_eq!(response.cookie(), "", "never beside the tokens");
        }
        Self {
            id: text("session_id"),
            access: text("access_token"),
            refresh: text("refresh_token"),
        }
    }
}

/// Waits until `done`, for as long as a very slow machine may take.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program to its end, which must come by itself.
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let id = Pid::from_child(&child);
    let (sender, output) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = output.recv_timeout(PATIENCE) else {
        let _ = kill_process(id, Signal::KILL);
        panic!("it does not end by itself: {command:?}");
    };
    output.expect("it is waited for")
}
