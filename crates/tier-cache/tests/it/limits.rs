//! How many sessions a user may have, and how long one may go unused.

use std::time::Duration;

use tier_cache::{Clock, Error, Login, Refusal, TierConfig, Tiers, WhenFull};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    v7_1_2_fifty_logins_at_once_leave_as_many_sessions_as_allowed,
    v7_1_2_where_more_are_refused_fifty_logins_at_once_make_as_many_as_allowed,
    the_session_that_makes_room_is_the_one_not_used_for_longest,
    a_rotation_needs_no_room,
    a_rotation_needs_no_room_where_the_limit_was_lowered,
    sessions_that_ended_for_not_being_used_take_no_room,
    v7_3_1_an_unused_session_ends_and_one_that_is_used_on_another_node_does_not,
    v7_3_2_a_session_ends_however_much_it_is_used,
    a_hundred_thousand_uses_of_a_hundred_sessions_are_a_hundred_row_writes,
    what_was_not_noted_yet_is_noted_at_the_end,
    a_session_that_was_just_refreshed_is_not_idle,
);

async fn live(service: &Service) -> u32 {
    let live = "SELECT count(*) FROM sessions WHERE is_active AND revoked_at IS NULL";
    service.cold.sql(live).trim().parse().unwrap()
}

fn limited(service: &Service, when_full: WhenFull) -> TierConfig {
    let mut config = service.config();
    config.session.max_per_user = Some(3);
    config.session.when_full = when_full;
    config
}

/// Fifty logins of one user at once, on two nodes.
async fn fifty_logins(service: &Service, when_full: WhenFull) -> Vec<Result<(), Error>> {
    let config = limited(service, when_full);
    let nodes = [
        service.node_with(config.clone()).await,
        service.node_with(config).await,
    ];
    let ada = service.cold.add_user("ada");
    let mut logins = tokio::task::JoinSet::new();
    for n in 0..50 {
        let node = nodes[n % 2].clone();
        logins.spawn(async move { node.login(Login::user(ada)).await.map(drop) });
    }
    logins.join_all().await
}

async fn v7_1_2_fifty_logins_at_once_leave_as_many_sessions_as_allowed(cold: Cold) {
    let service = Service::new(cold);
    for login in fifty_logins(&service, WhenFull::RevokeOldest).await {
        // One that others pushed out before it was handed over says so.
        assert!(
            matches!(login, Ok(()) | Err(Error::Refused(Refusal::Revoked))),
            "{login:?}"
        );
    }
    assert_eq!(live(&service).await, 3);
}

async fn v7_1_2_where_more_are_refused_fifty_logins_at_once_make_as_many_as_allowed(cold: Cold) {
    let service = Service::new(cold);
    let logins = fifty_logins(&service, WhenFull::Refuse).await;
    assert_eq!(logins.iter().filter(|login| login.is_ok()).count(), 3);
    for error in logins.into_iter().filter_map(Result::err) {
        assert!(
            matches!(error, Error::TooManySessions { allowed: 3 }),
            "{error}"
        );
    }
    assert_eq!(live(&service).await, 3);
}

async fn the_session_that_makes_room_is_the_one_not_used_for_longest(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service
        .node_with(limited(&service, WhenFull::RevokeOldest))
        .await;
    let ada = service.cold.add_user("ada");
    let mut issued = Vec::new();
    for minutes in [10, 30, 20] {
        let session = node.login(Login::user(ada)).await.unwrap();
        let past = service.cold.seconds_from_now(-60 * minutes);
        let id = session.session.id();
        service.cold.sql(&format!(
            "UPDATE sessions SET last_seen_at = {past} WHERE id = '{id}'"
        ));
        issued.push(session.access);
    }
    node.login(Login::user(ada)).await.unwrap();
    assert!(matches!(
        node.find(issued[1].clone()).await,
        Err(Refusal::Revoked)
    ));
    for kept in [&issued[0], &issued[2]] {
        node.find(kept.clone()).await.unwrap();
    }
}

async fn a_rotation_needs_no_room(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node_with(limited(&service, WhenFull::Refuse)).await;
    let ada = service.cold.add_user("ada");
    let mut issued = node.login(Login::user(ada)).await.unwrap();
    for _ in 0..2 {
        node.login(Login::user(ada)).await.unwrap();
    }
    for _ in 0..3 {
        issued = node.rotate(&issued.session).await.unwrap();
    }
    assert_eq!(live(&service).await, 3);
    // A guest who logs in is one more, and stays a guest where that is too many.
    let guest = node.login(Login::guest()).await.unwrap();
    let error = node.upgrade(&guest.session, Login::user(ada)).await;
    assert!(matches!(error, Err(Error::TooManySessions { .. })));
    node.find(guest.access).await.unwrap();
}

const MINUTE: Duration = Duration::from_secs(60);

async fn on_one_clock(service: &Service, clock: &Clock) -> Tiers<Basket> {
    let mut config = service.quiet();
    config.session.idle_ttl = Some(10 * MINUTE);
    Tiers::builder(config, service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap()
}

async fn v7_3_1_an_unused_session_ends_and_one_that_is_used_on_another_node_does_not(cold: Cold) {
    let service = Service::new(cold);
    let clock = Clock::manual();
    let here = on_one_clock(&service, &clock).await;
    let there = on_one_clock(&service, &clock).await;
    let issued = here.login(Login::guest()).await.unwrap();
    let seen = || service.cold.sql("SELECT last_seen_at FROM sessions");
    there.find(issued.access.clone()).await.unwrap();
    for _ in 0..3 {
        clock.advance(9 * MINUTE);
        let before = seen();
        here.find(issued.access.clone()).await.unwrap();
        eventually("its use is noted", async || seen() != before).await;
    }
    // There nobody has used it for 27 minutes; it asks before it says no.
    let found = there.find(issued.access.clone()).await.unwrap();
    assert!(clock.now().wall.since(found.last_seen_at()) < MINUTE);

    clock.advance(12 * MINUTE);
    for node in [&here, &there] {
        let refused = node.find(issued.access.clone()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Idle), "{refused}");
        let again = node.try_hot(&issued.access.clone().into());
        assert!(matches!(again, Some(Err(Refusal::Idle))), "{again:?}");
    }
    assert!(here.refresh(&issued.refresh).await.is_err());
    assert!(
        here.update(&issued.session, |basket| basket.count = 1)
            .await
            .is_err()
    );
}

async fn v7_3_2_a_session_ends_however_much_it_is_used(cold: Cold) {
    let service = Service::new(cold);
    let clock = Clock::manual();
    let node = on_one_clock(&service, &clock).await;
    let issued = node.login(Login::guest().ttl(20 * MINUTE)).await.unwrap();
    for _ in 0..4 {
        clock.advance(MINUTE * 9 / 2);
        node.find(issued.access.clone()).await.unwrap();
    }
    clock.advance(2 * MINUTE);
    let refused = node.find(issued.access).await.unwrap_err();
    assert!(matches!(refused, Refusal::Expired), "{refused}");
}

/// Counts row writes of `last_seen_at`, whatever makes them.
fn count_touches(cold: &Cold) {
    cold.sql("CREATE TABLE touches (id text)");
    match cold {
        Cold::Postgres(_) => cold.sql(
            "CREATE FUNCTION count_touch() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO touches VALUES (NEW.id::text); RETURN NULL; END $$; \
             CREATE TRIGGER count_touch AFTER UPDATE OF last_seen_at ON sessions \
             FOR EACH ROW EXECUTE FUNCTION count_touch()",
        ),
        Cold::Sqlite(_) => cold.sql(
            "CREATE TRIGGER count_touch AFTER UPDATE OF last_seen_at ON sessions \
             BEGIN INSERT INTO touches VALUES (NEW.id); END",
        ),
    };
}

fn touches(cold: &Cold) -> u32 {
    cold.sql("SELECT count(*) FROM touches")
        .trim()
        .parse()
        .unwrap()
}

async fn a_hundred_thousand_uses_of_a_hundred_sessions_are_a_hundred_row_writes(cold: Cold) {
    let service = Service::new(cold);
    let clock = Clock::manual();
    let nodes = [
        on_one_clock(&service, &clock).await,
        on_one_clock(&service, &clock).await,
    ];
    let mut tokens = Vec::new();
    for _ in 0..100 {
        tokens.push(nodes[0].login(Login::guest()).await.unwrap().access);
    }
    count_touches(&service.cold);
    clock.advance(2 * MINUTE);
    for round in 0..500 {
        // Within one interval, as time goes on.
        clock.advance(Duration::from_millis(100));
        for token in &tokens {
            for node in &nodes {
                assert!(node.find(token.clone()).await.is_ok(), "round {round}");
            }
        }
    }
    for node in nodes {
        assert!(node.shutdown(Duration::from_secs(60)).await);
    }
    assert_eq!(touches(&service.cold), 100);
}

async fn what_was_not_noted_yet_is_noted_at_the_end(cold: Cold) {
    let service = Service::without_redis(cold);
    let clock = Clock::manual();
    let node = on_one_clock(&service, &clock).await;
    let issued = node.login(Login::guest()).await.unwrap();
    count_touches(&service.cold);
    clock.advance(2 * MINUTE);
    node.find(issued.access).await.unwrap();
    assert!(node.shutdown(Duration::from_secs(60)).await);
    assert_eq!(touches(&service.cold), 1);
}

/// As before a deploy with another limit; one session takes the place of another all the same.
async fn a_rotation_needs_no_room_where_the_limit_was_lowered(cold: Cold) {
    let service = Service::without_redis(cold);
    let before = service.node().await;
    let ada = service.cold.add_user("ada");
    let mut issued = before.login(Login::user(ada)).await.unwrap();
    for _ in 0..4 {
        issued = before.login(Login::user(ada)).await.unwrap();
    }
    let node = service.node_with(limited(&service, WhenFull::Refuse)).await;
    let session = node.find(issued.access).await.unwrap();
    let again = node.reauthenticate(&session, 2).await;
    assert!(again.is_ok(), "{:?}", again.err());
}

/// They are in no list of devices, so their user could end none of them.
async fn sessions_that_ended_for_not_being_used_take_no_room(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut config = limited(&service, WhenFull::Refuse);
    config.session.touch_interval = Duration::from_secs(1);
    config.session.idle_ttl = Some(Duration::from_secs(60));
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(config, service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    let ada = service.cold.add_user("ada");
    for _ in 0..3 {
        node.login(Login::user(ada)).await.unwrap();
    }
    clock.advance(Duration::from_secs(10 * 60));
    assert_eq!(node.list(ada.into()).await.unwrap(), []);
    node.login(Login::user(ada)).await.unwrap();
}

async fn a_session_that_was_just_refreshed_is_not_idle(cold: Cold) {
    let service = Service::without_redis(cold);
    let clock = Clock::manual();
    let node = on_one_clock(&service, &clock).await;
    let issued = node.login(Login::guest()).await.unwrap();
    clock.advance(9 * MINUTE);
    let issued = node.refresh(&issued.refresh).await.unwrap();
    clock.advance(9 * MINUTE);
    node.find(issued.access).await.unwrap();
}
