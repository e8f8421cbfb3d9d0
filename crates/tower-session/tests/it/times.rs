//! No duration and no instant that a caller can pass panics or wraps: the list of all public
//! functions that take one, and the trials of those of `session-core` and `tower-session`. Those of
//! `tier-cache` are tried in its own `times.rs`, the arguments of `sessions` in its `usage.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tower_session::{Head, SessionCookie, SessionId, SessionLayer, Timestamp, TokenKeys};

use crate::support::{Bed, Seen, bearer, inner, seen};

/// Each is tried by a test of its crate. A function that is new here needs one.
const TAKES_A_TIME: [&str; 18] = [
    "session-core/src/record.rs: new",
    "session-core/src/record.rs: standing",
    "session-core/src/record.rs: standing_if_seen",
    "session-core/src/time.rs: impl Add<Duration> for Timestamp",
    "session-core/src/time.rs: impl From<SystemTime> for Timestamp",
    "session-core/src/time.rs: impl Sub<Duration> for Timestamp",
    "session-core/src/time.rs: since",
    "tier-cache/src/clock.rs: advance",
    "tier-cache/src/clock.rs: impl Add<Duration> for Moment",
    "tier-cache/src/clock.rs: impl Sub<Duration> for Moment",
    "tier-cache/src/clock.rs: since",
    "tier-cache/src/cold/store.rs: begun_before",
    "tier-cache/src/cold/store.rs: new",
    "tier-cache/src/tiers/login.rs: idle_ttl",
    "tier-cache/src/tiers/login.rs: ttl",
    "tier-cache/src/tiers/mod.rs: shutdown",
    "tower-session/src/cookie.rs: set",
    "tower-session/src/layer.rs: authenticated_within",
];

#[test]
fn every_public_function_that_takes_a_time_is_listed() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for name in ["session-core", "tier-cache", "tower-session"] {
        search(crates, &crates.join(name).join("src"), &mut found);
    }
    let listed = TAKES_A_TIME.map(str::to_owned).into();
    assert_eq!(found, listed);
}

fn search(crates: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    const TYPES: [&str; 4] = ["Duration", "Timestamp", "SystemTime", "Moment"];
    let takes = |parameters: &str| TYPES.iter().any(|name| parameters.contains(name));
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.strip_prefix(crates).unwrap().display().to_string();
        if path.is_dir() {
            search(crates, &path, found);
            continue;
        }
        if !file.ends_with(".rs") || file.contains("test") || file.contains("races") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let is_a_time = file.ends_with("/time.rs") || file.ends_with("/clock.rs");
        for head in ["pub fn ", "pub const fn ", "pub async fn "] {
            for rest in text.split(&format!("\n    {head}")).skip(1) {
                let signature = rest.split(['{', ';']).next().unwrap();
                let parameters = signature.split("->").next().unwrap();
                let name = parameters.split(['(', '<']).next().unwrap();
                if takes(parameters) || is_a_time && parameters.contains(": Self") {
                    found.insert(format!("{file}: {name}"));
                }
            }
        }
        for line in text.lines().filter(|line| line.starts_with("impl")) {
            let line = line.replace("std::ops::", "");
            let line = line.trim_end_matches(['{', ' ']);
            let operator = ["Add<", "Sub<", "From<"]
                .iter()
                .any(|name| line.contains(name));
            if operator && takes(line.split(" for ").next().unwrap()) {
                found.insert(format!("{file}: {line}"));
            }
        }
    }
}

fn durations() -> impl Strategy<Value = Duration> {
    let extremes = vec![Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    prop_oneof![
        prop::sample::select(extremes),
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0..63_u32, any::<u64>()).prop_map(|(bits, any)| Duration::from_millis(any >> bits)),
    ]
}

fn instants() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX]),
        any::<i64>(),
        (0..63_u32, any::<i64>()).prop_map(|(bits, any)| any >> bits),
    ]
    .prop_map(Timestamp::from_unix_millis)
}

proptest! {
    #[test]
    fn sums_of_instants_stop_at_their_ends(one in instants(), other in instants(), by in durations()) {
        prop_assert!(one + by >= one && one - by <= one);
        prop_assert!(one.since(other).is_zero() || one > other);
        // Within the range they are exact.
        if let Some(sum) = i64::try_from(by.as_millis()).ok().and_then(|by| one.unix_millis().checked_add(by)) {
            prop_assert_eq!((one + by).unix_millis(), sum);
        }
        // Each can be shown, and written as JSON.
        let shown = one.to_string();
        let debug = format!("{one:?}");
        prop_assert!(shown.ends_with('Z') && debug == shown);
    }

    #[test]
    fn instants_of_the_system_are_taken_as_they_are(seconds: i64) {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        };
        if let Some(time) = time {
            let instant = Timestamp::from(time).unix_millis();
            prop_assert_eq!(instant.signum(), seconds.signum(), "{}", seconds);
        }
    }

    #[test]
    fn a_head_stands_somehow_at_any_instant(
        (created, expires, seen, now) in (instants(), instants(), instants(), instants()),
        idle in durations(),
    ) {
        let mut head = Head::new(SessionId::random(), created, expires);
        head.idle_ttl = Some(idle);
        let _ = head.standing(now);
        let stood = head.standing_if_seen(seen, now);
        prop_assert_eq!(stood == session_core::Standing::Expired, now >= expires);
    }

    #[test]
    fn a_cookie_takes_any_end(expires in instants(), now in instants()) {
        let token = TokenKeys::random().mint(session_core::TokenKind::Access, SessionId::random());
        let cookie = SessionCookie::new().set(&token, expires, now);
        let cookie = cookie.to_str().unwrap();
        let age = cookie.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap();
        let age: u64 = age.parse().unwrap();
        prop_assert!(age <= 400 * 24 * 60 * 60);
        prop_assert_eq!(age > 0, expires.since(now) >= Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_be_demanded_within_any_duration() {
    let bed = Bed::new().await;
    let user = bed.user().await;
    for within in [
        Duration::ZERO,
        Duration::from_millis(u64::MAX),
        Duration::MAX,
    ] {
        let layer = SessionLayer::new(bed.tiers.clone()).authenticated_within(within);
        let mut service = tower::Layer::layer(&layer, tower::service_fn(inner));
        let seen = seen(&mut service, bearer(&user.access)).await;
        let passes = matches!(seen, Seen::Session(..));
        assert_eq!(passes, within > Duration::ZERO, "{within:?}: {seen:?}");
    }
}
