use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Redis, Relay};

#[test]
fn what_is_said_gets_through_both_ways_on_tcp_and_on_a_unix_socket() {
    let redis = Redis::builder().tcp().start();
    let port = redis.url().rsplit(':').next().unwrap().parse().unwrap();
    let tcp = Relay::to(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    let socket = Relay::to(redis.socket());
    for relay in [tcp, socket] {
        ask(&mut connect(&relay), "PING", "+PONG");
    }
}

#[test]
fn a_cut_way_is_silent_and_what_waited_gets_through_when_it_is_mended() {
    let redis = Redis::start();
    let relay = Relay::to(redis.socket());
    let mut old = connect(&relay);
    ask(&mut old, "PING", "+PONG");

    relay.cut();
    let mut new = connect(&relay);
    for client in [&mut old, &mut new] {
        client.write_all(b"INCR key\r\n").unwrap();
        assert!(is_silent(client));
    }
    assert_eq!(redis.cli(&["EXISTS", "key"]), "0");

    relay.mend();
    for client in [&mut old, &mut new] {
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], b':');
    }
    assert_eq!(redis.cli(&["GET", "key"]), "2");
}

#[test]
fn a_slow_way_holds_each_answer_back() {
    let redis = Redis::start();
    let relay = Relay::to(redis.socket());
    let mut client = connect(&relay);
    let delay = Duration::from_millis(20);
    relay.delay(delay);
    let begun = Instant::now();
    for _ in 0..3 {
        ask(&mut client, "PING", "+PONG");
    }
    assert!(begun.elapsed() >= 3 * delay);
    relay.delay(Duration::ZERO);
    ask(&mut client, "PING", "+PONG");
}

#[test]
fn two_ways_to_a_server_are_cut_apart() {
    let redis = Redis::start();
    let (one, other) = (Relay::to(redis.socket()), Relay::to(redis.socket()));
    let (mut cut, mut whole) = (connect(&one), connect(&other));
    one.cut();
    cut.write_all(b"PING\r\n").unwrap();
    assert!(is_silent(&mut cut));
    ask(&mut whole, "PING", "+PONG");
}

#[test]
fn a_way_led_elsewhere_closes_what_was_open_even_if_it_is_cut() {
    let (here, there) = (Redis::start(), Redis::start());
    there.cli(&["SET", "place", "there"]);
    let relay = Relay::to(here.socket());
    let mut old = connect(&relay);
    ask(&mut old, "PING", "+PONG");
    relay.cut();

    relay.redirect(there.socket());
    assert!(is_closed(&mut old));
    relay.mend();
    ask(&mut connect(&relay), "GET place", "$5\r\nthere");
}

#[test]
fn a_server_that_is_not_there_closes_the_connection_until_it_is() {
    let redis = Redis::start();
    let relay = Relay::to(redis.socket());
    let mut open = connect(&relay);
    ask(&mut open, "PING", "+PONG");

    redis.kill();
    assert!(is_closed(&mut open) && is_closed(&mut connect(&relay)));
    redis.restart();
    ask(&mut connect(&relay), "PING", "+PONG");

    let nowhere = Relay::to(Path::new("/nonexistent/socket"));
    assert!(is_closed(&mut connect(&nowhere)));
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::to(server.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut question = String::new();
        client.read_to_string(&mut question).unwrap();
        client.write_all(question.repeat(2).as_bytes()).unwrap();
    });
    let mut client = connect(&relay);
    // More than the buffers on the way hold.
    let question = "question".repeat(100_000);
    client.write_all(question.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer == question.repeat(2), "{} bytes", answer.len());
    answering.join().unwrap();
}

#[test]
fn what_is_open_is_closed_when_the_relay_is_dropped_even_if_it_is_cut() {
    let redis = Redis::start();
    let relay = Relay::to(redis.socket());
    let mut open = connect(&relay);
    ask(&mut open, "PING", "+PONG");
    relay.cut();
    drop(relay);
    assert!(is_closed(&mut open));
}

fn connect(relay: &Relay) -> TcpStream {
    TcpStream::connect(relay.address()).unwrap()
}

fn ask(client: &mut TcpStream, question: &str, answer: &str) {
    client
        .write_all(format!("{question}\r\n").as_bytes())
        .unwrap();
    let mut said = vec![0; answer.len() + 2];
    client.read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said).trim_end(), answer);
}

fn is_silent(client: &mut TcpStream) -> bool {
    let wait = Duration::from_millis(50);
    client.set_read_timeout(Some(wait)).unwrap();
    let silence = client.read(&mut [0]).map_err(|error| error.kind());
    client.set_read_timeout(None).unwrap();
    silence == Err(ErrorKind::WouldBlock)
}

/// Waits for it.
fn is_closed(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0]), Ok(0) | Err(_))
}
