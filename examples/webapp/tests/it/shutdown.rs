//! What becomes of requests when the service is asked to end.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use testbed::{Database, Redis};

use crate::support::{App, PATIENCE, Tokens, eventually, folder, program};

/// A connection that one request after the other goes over.
struct Kept(BufReader<TcpStream>);

/// A whole response.
struct Answer {
    status: u16,
    closes: bool,
}

impl Kept {
    /// Nothing if the service takes no connections any more.
    fn open(to: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    /// Nothing if the service closed the connection instead of answering; half an answer is a failure.
    fn ask(&mut self, line: &str, token: &str, body: &str) -> Option<Answer> {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut status_line = String::new();
        match self.0.read_line(&mut status_line) {
            Ok(0) => return None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
            read => read.expect("it answers or closes"),
        };
        let (mut length, mut closes) = (0, false);
        loop {
            let mut header = String::new();
            self.0.read_line(&mut header).expect("a whole answer");
            let header = header.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(("connection", value)) => closes = value == "close",
                Some(_) => {}
                None => break,
            }
        }
        self.0
            .read_exact(&mut vec![0; length])
            .expect("a whole answer");
        let status = status_line.split(' ').nth(1).expect("a status line");
        Some(Answer {
            status: status.parse().expect("a status"),
            closes,
        })
    }
}

/// Sends what `request` makes, numbered from one, until the service takes no more; returns the number
/// of the last that was done.
fn go_on(
    to: SocketAddr,
    token: &str,
    done: &AtomicU64,
    request: impl Fn(u64) -> (&'static str, String),
) -> u64 {
    let mut last = 0;
    let mut kept = Kept::open(to).expect("it is running");
    loop {
        let (line, body) = request(last + 1);
        let Some(answer) = kept.ask(line, token, &body) else {
            return last;
        };
        match answer.status {
            200 => last += 1,
            // It says that it is about to end.
            503 => {}
            status => panic!("{line}: {status}"),
        }
        done.fetch_add(1, Ordering::SeqCst);
        if answer.closes {
            match Kept::open(to) {
                Some(next) => kept = next,
                None => return last,
            }
        }
    }
}

#[test]
fn every_request_that_it_accepted_is_answered_and_every_use_noted_before_the_end() {
    const TOUCH: Duration = Duration::from_secs(1);
    let (database, redis, folder) = (Database::create(), Redis::start(), folder());
    let args = ["--database", &database.url(), "--redis", &redis.url()];
    let mut command = program(folder.path(), &["--listen", "127.0.0.1:0"]);
    let mut app = App::spawn(
        command
            .args(args)
            .env("SESSION_SESSION__TOUCH_INTERVAL", "1s"),
    );
    let users: Vec<Tokens> = (0..8).map(|_| app.log_in("ada")).collect();
    let used_last = app.log_in("bob");
    let counts: Vec<AtomicU64> = users.iter().map(|_| AtomicU64::new(0)).collect();
    let to = app.address;

    let mut used_at = Duration::ZERO;
    let done: Vec<u64> = thread::scope(|clients| {
        let clients: Vec<_> = users
            .iter()
            .zip(&counts)
            .enumerate()
            .map(|(n, (user, done))| {
                clients.spawn(move || {
                    go_on(to, &user.access, done, |number| match n % 2 {
                        0 => ("PUT /data", format!("{{\"note\":\"{number}\"}}")),
                        _ => ("GET /me", String::new()),
                    })
                })
            })
            .collect();
        thread::sleep(2 * TOUCH);
        eventually("all clients are busy", || {
            let mut counts = counts.iter();
            counts.all(|count| count.load(Ordering::SeqCst) >= 20)
        });
        used_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        app.me(&used_last).expect(200);
        app.signal(Signal::TERM);
        clients
            .into_iter()
            .map(|client| client.join().expect("no answer is wrong"))
            .collect()
    });

    assert!(app.ended().success());
    // Of those who write. What was not answered was not accepted: it was not done either.
    for (user, done) in users.iter().zip(&done).step_by(2) {
        let id = &user.id;
        let note = database.sql(&format!(
            "SELECT data->>'note' FROM sessions WHERE id = '{id}'"
        ));
        assert_eq!(note.trim(), done.to_string());
    }
    let id = &used_last.id;
    let sql = format!("SELECT extract(epoch FROM last_seen_at) FROM sessions WHERE id = '{id}'");
    let noted: f64 = database.sql(&sql).trim().parse().expect("an instant");
    // To the millisecond.
    assert!(
        noted + 0.001 >= used_at.as_secs_f64(),
        "its last use was not noted"
    );
}
