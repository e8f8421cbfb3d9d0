//! No duration and no instant that a caller can pass panics or wraps. Which functions take one, and
//! where each is tried, stands in `tower-session/tests/it/times.rs`.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use session_core::{Key, Timestamp};
use tier_cache::cold::{Change, NewSession, Retention, Scope};
use tier_cache::{Clock, Login, Moment, OnBlind, Promotion, TierConfig};

use crate::cold::open;
use crate::support::{Cold, Service, on_both};

on_both!(
    a_login_takes_any_duration,
    a_store_takes_any_instant_and_any_duration,
);

/// Any duration, the extremes often.
fn durations() -> impl Strategy<Value = Duration> {
    let extremes = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(1),
        Duration::from_nanos(999_999_999),
        Duration::from_secs(1),
        Duration::from_secs(i32::MAX as u64),
        Duration::from_secs(u32::MAX as u64 + 1),
        Duration::from_millis(i64::MAX as u64),
        Duration::from_millis(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
        Duration::MAX - Duration::from_nanos(1),
        Duration::MAX - Duration::from_secs(62),
        Duration::MAX,
    ];
    prop_oneof![
        prop::sample::select(extremes.to_vec()),
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        (0..63_u32, any::<u64>()).prop_map(|(bits, any)| Duration::from_millis(any >> bits)),
    ]
}

/// Any instant, the extremes often.
fn instants() -> impl Strategy<Value = Timestamp> {
    let extremes = [
        i64::MIN,
        i64::MIN + 1,
        // The ends of what PostgreSQL can say, and of the years that RFC 3339 can.
        -210_866_803_200_001,
        -210_866_803_200_000,
        -1,
        0,
        253_402_300_799_999,
        253_402_300_800_000,
        9_224_318_015_999_999,
        9_224_318_016_000_000,
        i64::MAX / 1000,
        i64::MAX - 1,
        i64::MAX,
    ];
    prop_oneof![
        prop::sample::select(extremes.to_vec()),
        any::<i64>(),
        (0..63_u32, any::<i64>()).prop_map(|(bits, any)| any >> bits),
    ]
    .prop_map(Timestamp::from_unix_millis)
}

/// So many values, other ones each time.
fn some<T: std::fmt::Debug>(count: usize, of: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::default();
    let values = std::iter::repeat_with(|| of.new_tree(&mut runner).unwrap().current());
    values.take(count).collect()
}

async fn a_login_takes_any_duration(cold: Cold) {
    let service = Service::without_redis(cold);
    let tiers = service.node().await;
    let user = service.cold.add_user("ada");
    let longest = tiers.config().session.max_ttl;
    for (ttl, idle) in some(40, (durations(), durations())) {
        let login = Login::user(user).ttl(ttl).idle_ttl(idle);
        let issued = match tiers.login(login.clone()).await {
            Ok(issued) => issued,
            // Over before it began.
            Err(tier_cache::Error::Refused(_)) if ttl < Duration::from_secs(2) => continue,
            Err(error) => panic!("{ttl:?}, {idle:?}: {error}"),
        };
        let now = tiers.now().wall;
        let expires_at = issued.session.expires_at();
        assert!(
            expires_at <= now + ttl.min(longest),
            "{ttl:?}: {expires_at}"
        );
        assert!(
            expires_at + Duration::from_secs(60) >= now + ttl.min(longest),
            "{ttl:?}: {expires_at}"
        );
        if ttl < Duration::from_secs(60) {
            continue;
        }
        // Hot, and anew from the database.
        let fresh = service.node().await;
        for tiers in [&tiers, &fresh] {
            let found = tiers.find(issued.access.clone()).await;
            assert!(found.is_ok(), "{ttl:?}, {idle:?}: {found:?}");
        }
        let refreshed = tiers.refresh(&issued.refresh).await.unwrap();
        let again = tiers.reauthenticate(&refreshed.session, 2).await.unwrap();
        assert!(
            again.session.expires_at() >= refreshed.session.expires_at(),
            "{ttl:?}"
        );
        let rotated = tiers.rotate(&again.session).await.unwrap();
        let guest = tiers.upgrade(&rotated.session, login).await.unwrap();
        assert!(
            tiers.find(guest.access.clone()).await.is_ok(),
            "{ttl:?}, {idle:?}"
        );
    }
    assert!(tiers.shutdown(Duration::MAX).await);
}

async fn a_store_takes_any_instant_and_any_duration(cold: Cold) {
    let store = open(&cold).await.unwrap();
    let values = (instants(), instants(), instants(), durations(), durations());
    for (begun, ends, now, one, other) in some(60, values) {
        let shown = format!("{begun:?} {ends:?} {now:?} {one:?} {other:?}");
        let new = NewSession {
            ttl: Some(one),
            idle_ttl: Some(other),
            authenticated_at: now,
            last_seen_at: ends,
            ..NewSession::new(session_core::SessionId::random(), begun, ends)
        };
        let id = new.id;
        store.create(new, None).await.expect(&shown);
        let row = store.load(Key::Id(id)).await.expect(&shown).expect(&shown);
        // What a database cannot say is the end of what it can, never the other end.
        for (read, given) in [(row.body.created_at, begun), (row.head.expires_at, ends)] {
            let (read, given) = (read.unix_millis(), given.unix_millis());
            let same = read == given || (read == i64::MAX && given > 9_000_000_000_000_000);
            let early = read <= i64::MIN + 1 && given < -210_000_000_000_000;
            assert!(same || early, "{read} {given}");
        }
        let _ = row.head.standing(now);
        let change = Change {
            expires_at: Some(now),
            last_seen_at: Some(begun),
            ..Change::default()
        };
        assert!(
            store
                .update(id, row.head.version, change)
                .await
                .expect(&shown)
        );
        store.touch(vec![(id, now)], one).await.expect(&shown);
        store.recent(now, 3).await.expect(&shown);
        store.stats(now).await.expect(&shown);
        store.list(7.into(), now, None, 3).await.expect(&shown);
        let keep = Retention {
            tombstones: one,
            expired: other,
        };
        store.prune(now, keep, 10).await.expect(&shown);
        store.revoke(id, ends).await.expect(&shown);
        let scope = Scope::everyone().begun_before(now);
        store.revoke_all(scope, begun, 10).await.expect(&shown);
    }
}

proptest! {
    #[test]
    fn moments_and_clocks_stop_at_their_ends(nanos: i64, other: i64, by in durations()) {
        let (moment, other) = (Moment::from_nanos(nanos), Moment::from_nanos(other));
        prop_assert!(moment + by >= moment && moment - by <= moment);
        prop_assert!(moment.since(other).is_zero() || moment > other);
        let clock = Clock::manual();
        let before = clock.now();
        for _ in 0..3 {
            clock.advance(by);
        }
        let after = clock.now();
        prop_assert!(after.moment >= before.moment && after.wall >= before.wall);
        prop_assert_eq!(after.moment, before.moment + by + by + by);
    }

    #[test]
    fn a_configuration_takes_any_duration(all in prop::collection::vec(durations(), 20)) {
        let mut config = TierConfig::default();
        let mut all = all.into_iter();
        let mut next = || all.next().unwrap();
        config.session.ttl = next();
        config.session.max_ttl = next();
        config.session.idle_ttl = Some(next());
        config.session.touch_interval = next();
        config.session.refresh_grace = next();
        config.session.promotion = Promotion::Uses { count: 3, window: next() };
        config.hot.ttl = next();
        config.warm.ttl = next();
        config.warm.lease = next();
        config.warm.connect_timeout = next();
        config.warm.command_timeout = next();
        config.cold.replica_timeout = next();
        config.cold.load_timeout = next();
        config.cold.connect_timeout = next();
        config.cold.statement_timeout = next();
        config.cold.prune_interval = next();
        config.cold.expired_retention = next();
        config.cold.tombstone_retention = next();
        config.fence.staleness_bound = next();
        config.fence.poll_interval = next();
        config.fence.on_blind = OnBlind::ServeFor(config.hot.ttl);
        let _ = config.validate().map_err(|error| error.to_string());
        let written = toml::to_string(&config).unwrap();
        let _ = TierConfig::from_toml(&written).map_err(|error| error.to_string());
    }

    #[test]
    fn a_valid_configuration_takes_any_duration_for_one_key(value in durations(), which in 0..6) {
        let mut config = TierConfig::default();
        match which {
            0 => config.session.idle_ttl = Some(value),
            1 => config.fence.on_blind = OnBlind::ServeFor(value),
            2 => config.session.promotion = Promotion::Uses { count: 3, window: value },
            3 => config.warm.lease = value,
            4 => config.session.touch_interval = value,
            _ => config.fence.staleness_bound = value,
        }
        let _ = config.validate().map_err(|error| error.to_string());
    }

    #[test]
    fn a_configuration_takes_any_text_for_a_duration(number: u64, fraction: u64, unit in "ns|us|ms|s|m|h|d|w|M|y|days|years|x| ") {
        for text in [format!("{number}{unit}"), format!("{number}y {number}{unit}"), format!("{number}.{fraction}{unit}")] {
            let _ = TierConfig::from_toml(&format!("[hot]\nttl = '{text}'"));
        }
    }
}

#[test]
fn an_instant_of_the_system_is_an_instant() {
    for far in [
        Duration::from_secs(1),
        Duration::from_secs(1 << 40),
        Duration::from_secs(i64::MAX as u64),
    ] {
        let after = SystemTime::UNIX_EPOCH.checked_add(far).map(Timestamp::from);
        let before = SystemTime::UNIX_EPOCH.checked_sub(far).map(Timestamp::from);
        assert!(after.is_none_or(|after| after.unix_millis() > 0), "{far:?}");
        assert!(
            before.is_none_or(|before| before.unix_millis() < 0),
            "{far:?}"
        );
    }
}
