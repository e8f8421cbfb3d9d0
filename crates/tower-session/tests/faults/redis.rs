//! Redis is out of order in one way or another. That costs speed, and nothing else.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use testbed::{Database, Redis, Relay};
use tier_cache::Clock;
use tower_session::Tier;

use crate::bed::{Bed, Held, config, eventually};
use crate::imposter::{Imposter, Manner};
use crate::row::{BUSY, Row};
use crate::service::Ask;

/// Commands that are under way at most when a node stops to send any: of each client one, and what it
/// and others left behind to be kept.
const UNDER_WAY: u64 = 4 * BUSY;

#[tokio::test(flavor = "multi_thread")]
async fn redis_refuses_connections() {
    let redis = Redis::start();
    let mut row = begin("Redis: refused", redis.url()).await;
    let before = row.failed_commands();
    redis.kill();
    row.left_alone(before, UNDER_WAY).await;
    redis.restart();
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_silent() {
    let redis = Redis::start();
    let mut row = begin("Redis: silent", redis.url()).await;
    let before = row.failed_commands();
    redis.pause();
    row.left_alone(before, UNDER_WAY).await;
    redis.resume();
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

/// Slower than a command may take, and not so slow that it would pass for silent.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_slow() {
    let redis = Redis::start();
    let way = Relay::to(redis.socket());
    let mut row = begin("Redis: slow", through(&way)).await;
    let before = row.failed_commands();
    let command_timeout = row.bed.here.tiers.config().warm.command_timeout;
    way.delay(command_timeout * 3 / 2);
    // It looks well three times before it is given up.
    row.left_alone(before, 3 * UNDER_WAY).await;
    way.delay(Duration::ZERO);
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flaps() {
    const FLAPS: u64 = 12;
    let redis = Redis::start();
    let way = Relay::to(redis.socket());
    let nowhere = Redis::start();
    nowhere.kill();
    let mut row = begin(
        "Redis: flapping, twelve times in three seconds",
        through(&way),
    )
    .await;
    let (failed, attempts) = (row.failed_commands(), row.attempts());
    for _ in 0..FLAPS {
        for target in [nowhere.socket(), redis.socket()] {
            way.redirect(target);
            tokio::time::sleep(Duration::from_millis(125)).await;
        }
    }
    let (failed, attempts) = (row.failed_commands() - failed, row.attempts() - attempts);
    assert!(failed <= FLAPS * UNDER_WAY, "{failed} commands failed");
    // The pauses between two attempts grow from 50 ms.
    assert!(attempts <= 4 * FLAPS, "{attempts} attempts to connect");
    row.remark = format!("; {failed} commands failed, {attempts} connections");
    row.crowd_is_served().await;
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_out_of_memory() {
    let redis = Redis::start();
    let mut row = begin("Redis: out of memory", redis.url()).await;
    let failed = row.failed_commands();
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually("records are not kept", async || {
        row.failed_commands() > failed
    })
    .await;
    row.rounds().await;
    row.crowd_is_served().await;
    row.rounds().await;
    row.note_failed(failed);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_read_only() {
    let redis = Redis::start();
    let mut row = begin("Redis: read-only", redis.url()).await;
    let (failed, attempts) = (row.failed_commands(), row.attempts());
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    eventually("both nodes look for the new primary", async || {
        row.attempts() >= attempts + 4
    })
    .await;
    row.rounds().await;
    row.crowd_is_served().await;
    row.rounds().await;
    row.note_failed(failed);
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_evicts_under_load() {
    let redis = Redis::start();
    let mut row = begin("Redis: evicting", redis.url()).await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let used = stat(&redis, "memory", "used_memory");
    // What is there already, less half of it.
    redis.cli(&["CONFIG", "SET", "maxmemory", &(used - 30_000).to_string()]);
    eventually("records are evicted under load", async || {
        stat(&redis, "stats", "evicted_keys") > 200
    })
    .await;
    row.rounds().await;
    row.crowd_is_served().await;
    row.rounds().await;
    let evicted = stat(&redis, "stats", "evicted_keys");
    row.remark = format!("; {evicted} records evicted");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_changes_its_password() {
    let redis = Redis::builder().user("app on >secret ~* &* +@all").start();
    let mut row = begin("Redis: another password", redis.url_as("app", "secret")).await;
    let before = row.failed_commands();
    redis.cli(&["ACL", "SETUSER", "app", "resetpass", ">other"]);
    // Those that are open would go on.
    redis.cli(&["CLIENT", "KILL", "USER", "app"]);
    row.left_alone(before, UNDER_WAY).await;
    redis.cli(&["ACL", "SETUSER", "app", ">secret"]);
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_shows_a_certificate_of_another_authority() {
    let (redis, other) = (
        Redis::builder().tls().start(),
        Redis::builder().tls().start(),
    );
    let way = Relay::to(tcp(&redis));
    let database = Database::create();
    let mut config = config(&database, format!("rediss://{}", way.address()));
    config.warm.ca_file = Some(redis.ca_file().to_owned());
    let bed = Bed::start(database, config, Clock::system()).await;
    let mut row = Row::begin("Redis: certificate of another authority", bed).await;
    let before = row.failed_commands();
    way.redirect(tcp(&other));
    row.left_alone(before, UNDER_WAY).await;
    way.redirect(tcp(&redis));
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_garbage() {
    let (redis, imposter) = (Redis::start(), Imposter::start(Manner::Garbage).await);
    let way = Relay::to(redis.socket());
    let mut row = begin("Redis: garbage", through(&way)).await;
    let before = row.failed_commands();
    way.redirect(imposter.address);
    row.left_alone(before, UNDER_WAY).await;
    way.redirect(redis.socket());
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_what_nobody_asked_for() {
    answers_pings("Redis: replies of wrong kinds", Manner::WrongKinds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_closes_amid_its_replies() {
    answers_pings("Redis: closes amid its replies", Manner::HalfReplies).await;
}

/// What looks well when it is pinged is tried again and again, and given up each time.
async fn answers_pings(fault: &'static str, manner: Manner) {
    let (redis, imposter) = (Redis::start(), Imposter::start(manner).await);
    let way = Relay::to(redis.socket());
    let mut row = begin(fault, through(&way)).await;
    let (failed, attempts) = (row.failed_commands(), row.attempts());
    way.redirect(imposter.address);
    row.given_up().await;
    row.crowd_is_served().await;
    eventually("both nodes have tried again", async || {
        row.attempts() >= attempts + 8
    })
    .await;
    row.rounds().await;
    row.note_failed(failed);
    let (failed, attempts) = (row.failed_commands() - failed, row.attempts() - attempts);
    assert!(failed <= attempts * UNDER_WAY, "{failed} commands failed");
    row.remark += &format!(" on {attempts} connections");
    way.redirect(redis.socket());
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_holds_records_under_the_keys_of_others() {
    const SWAPPED: usize = 20;
    let redis = Redis::start();
    let mut row = begin("Redis: records of other sessions", redis.url()).await;
    let unreadable = row.bed.here.unreadable();
    let other = row.crowd.pop().expect("there are many");
    for held in row.crowd.split_off(row.crowd.len() - SWAPPED) {
        let [from, to] = [key(&other), key(&held)];
        assert_eq!(redis.cli(&["COPY", &from, &to, "REPLACE"]), "1");
        let answer = row.bed.here.ask(Ask::Me, &held.token).await;
        row.journal
            .note(&row.journal.misses, &held, Ask::Me, &answer);
        let shown = answer.shown().expect("it is valid");
        assert_eq!((shown.id, shown.tier), (held.id, Tier::Cold));
    }
    let unreadable = row.bed.here.unreadable() - unreadable;
    assert_eq!(unreadable, SWAPPED as u64);
    row.remark = format!("; {unreadable} records not believed");
    row.recovers_without_a_storm().await;
    row.end_with_hot_hits().await;
}

async fn begin(fault: &'static str, redis: String) -> Row {
    let database = Database::create();
    let config = config(&database, redis);
    let bed = Bed::start(database, config, Clock::system()).await;
    Row::begin(fault, bed).await
}

fn through(way: &Relay) -> String {
    format!("redis://{}", way.address())
}

fn tcp(redis: &Redis) -> std::net::SocketAddr {
    let url = redis.url();
    let (_, address) = url.split_once("://").expect("a URL");
    address.parse().expect("an address")
}

/// Where the record of a session stands.
fn key(held: &Held) -> String {
    let id = BASE64_URL_SAFE_NO_PAD.encode(held.id.as_uuid().as_bytes());
    format!("session:{id}")
}

/// A number that Redis tells of itself.
fn stat(redis: &Redis, section: &str, name: &str) -> u64 {
    let info = redis.cli(&["INFO", section]);
    let mut lines = info.lines();
    let value = lines.find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    value
        .and_then(|value| value.parse().ok())
        .expect("Redis tells it")
}
