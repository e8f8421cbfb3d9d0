//! What the log says while the database is down.

use std::fs::{self, File};
use std::time::Instant;

use crate::support::{App, folder, program};

#[test]
fn an_outage_is_logged_once_a_second_however_many_ask() {
    const REQUESTS: u64 = 300;
    let (cluster, folder) = (testbed::Cluster::start(), folder());
    let database = cluster.database();
    let log = folder.path().join("log");
    let url = database.url();
    let args = ["--listen", "127.0.0.1:0", "--no-redis", "--database", &url];
    let before = App::spawn(&mut program(folder.path(), &args));
    let (hot, below) = (before.log_in("ada"), before.log_in("ada"));
    drop(before);
    let app = App::spawn(
        program(folder.path(), &args)
            .env("RUST_LOG", "warn")
            .stderr(File::create(&log).unwrap()),
    );
    app.me(&hot).expect(200);
    cluster.kill();
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        let list = app.get("/sessions").bearer(&hot.access);
        list.send().expect_error(503);
        app.me(&below).expect_error(503);
    }
    let most = begun.elapsed().as_secs() + 1;
    let path = log;
    let log = fs::read_to_string(&path).unwrap();
    for message in ["answered 503", "a session cannot be checked"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(message)).collect();
        let count = lines.len() as u64;
        assert!(
            (1..=most).contains(&count),
            "{message}: {count} in {most} s"
        );
        let left_out = lines.iter().map(|line| {
            let (_, rest) = line.split_once("left_out=").expect(message);
            let number = rest.split(|char: char| !char.is_ascii_digit()).next();
            number.unwrap().parse::<u64>().expect("a number")
        });
        assert!(left_out.sum::<u64>() + count <= REQUESTS, "{log}");
    }
    // A cookie that was not cleared, since nobody was logged out, is no layer's fault.
    let out = app.post("/logout").bearer(&hot.access);
    out.send().expect_error(503);
    let log = fs::read_to_string(&path).unwrap();
    assert!(!log.contains("CookieChange"), "{log}");
    cluster.restart();
}
