//! Refresh tokens: traded once each, whoever asks, and however many ask at once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use session_core::Token;
use tier_cache::{Clock, Error, Event, Issued, Login, Reason, Refusal, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(
    a_refresh_replaces_both_tokens_everywhere,
    a_hundred_refreshes_at_once_are_one_rotation_and_one_answer,
    rfc_9700_4_14_2_a_token_that_is_used_twice_ends_the_session,
    a_token_of_two_refreshes_ago_ends_the_session_too,
    a_session_is_not_refreshed_past_its_longest_life,
    a_session_of_a_shorter_life_stays_one_whatever_becomes_of_it,
    what_is_not_a_refresh_token_ends_nothing,
    nodes_whose_clocks_disagree_take_no_retry_for_reuse,
    a_session_that_is_not_admitted_keeps_its_refresh_token,
    a_token_newer_than_a_restored_backup_raises_no_alarm_until_the_first_refresh,
    reuse_is_told_for_sessions_that_were_refreshed_in_this_lineage,
);

fn refused(error: &Error) -> &Refusal {
    match error {
        Error::Refused(refusal) => refusal,
        other => panic!("not refused: {other}"),
    }
}

async fn on_a_clock(service: &Service) -> (Clock, Tiers<Basket>) {
    let clock = Clock::manual();
    let node = Tiers::builder(service.quiet(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();
    (clock, node)
}

async fn a_refresh_replaces_both_tokens_everywhere(cold: Cold) {
    let service = Service::new(cold);
    let (here, there) = (service.node().await, service.node().await);
    let old = here.login(Login::guest()).await.unwrap();
    there.find(old.access.clone()).await.unwrap();

    let new = here.refresh(&old.refresh).await.unwrap();
    assert_eq!(new.session.id(), old.session.id());
    // The new one is known at once on a node whose caches know only the old one.
    there.find(new.access.clone()).await.unwrap();
    for node in [&here, &there] {
        let refused = node.find(old.access.clone()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Replaced), "{refused}");
    }
    let newer = there.refresh(&new.refresh).await.unwrap();
    here.find(newer.access.clone()).await.unwrap();
    let refused = here.find(new.access).await.unwrap_err();
    assert!(matches!(refused, Refusal::Replaced), "{refused}");
}

async fn a_hundred_refreshes_at_once_are_one_rotation_and_one_answer(cold: Cold) {
    let service = Service::new(cold);
    let mut config = service.config();
    // As long as a slow machine may take for all of them.
    config.session.refresh_grace = Duration::from_secs(600);
    let nodes = [
        service.node_with(config.clone()).await,
        service.node_with(config).await,
    ];
    let issued = nodes[0].login(Login::guest()).await.unwrap();
    let mut refreshes = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (node, token) = (nodes[n % 2].clone(), issued.refresh.clone());
        refreshes.spawn(async move { node.refresh(&token).await });
    }
    let text = |token: &Token| token.expose().to_string();
    let mut answers = HashSet::new();
    for refreshed in refreshes.join_all().await {
        let refreshed = refreshed.unwrap();
        nodes[1].find(refreshed.access.clone()).await.unwrap();
        answers.insert((text(&refreshed.access), text(&refreshed.refresh)));
    }
    assert_eq!(answers.len(), 1, "all get the same pair");
    assert_eq!(service.cold.version(issued.session.id()), 2, "one rotation");
}

async fn rfc_9700_4_14_2_a_token_that_is_used_twice_ends_the_session(cold: Cold) {
    let service = Service::new(cold);
    let (_, node) = on_a_clock(&service).await;
    let ada = service.cold.add_user("ada");
    let stolen = node.login(Login::user(ada)).await.unwrap();
    let id = stolen.session.id();
    let traded = node.refresh(&stolen.refresh).await.unwrap();
    let mut events = node.events();

    // Within the grace it is an answer that was lost.
    let again = node.refresh(&stolen.refresh).await.unwrap();
    assert_eq!(again.access.expose(), traded.access.expose());
    // By the database's clock, which is the one that nodes share.
    let before = service.cold.seconds_from_now(-11);
    let later = format!("UPDATE sessions SET refreshed_at = {before}");
    service.cold.sql(&later);
    let error = node.refresh(&stolen.refresh).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Reused), "{error}");

    // Whichever of the two is the thief: neither has a session now.
    for token in [stolen.access, traded.access] {
        assert!(node.find(token).await.is_err());
    }
    let error = node.refresh(&traded.refresh).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Revoked), "{error}");
    let active = "SELECT count(*) FROM sessions WHERE is_active";
    assert_eq!(service.cold.sql(active).trim(), "0");

    let told = events.next().await.unwrap();
    assert!(
        matches!(told, Event::RefreshReplayed { session, user: Some(_) } if session == id),
        "{told:?}"
    );
    let told = events.next().await.unwrap();
    assert!(
        matches!(told, Event::ReuseDetected { session, user: Some(_) } if session == id),
        "{told:?}"
    );
    let told = events.next().await.unwrap();
    let reason = Reason::Reuse;
    assert!(
        matches!(told, Event::Revoked { session, reason: why, .. } if session == id && why == reason),
        "{told:?}"
    );
}

async fn a_token_of_two_refreshes_ago_ends_the_session_too(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let first = node.login(Login::guest()).await.unwrap();
    let second = node.refresh(&first.refresh).await.unwrap();
    let third = node.refresh(&second.refresh).await.unwrap();
    // Within the grace: but the client has had its answer, and used it.
    let error = node.refresh(&first.refresh).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Reused), "{error}");
    assert!(node.find(third.access).await.is_err());
}

async fn a_session_is_not_refreshed_past_its_longest_life(cold: Cold) {
    let service = Service::without_redis(cold);
    let (clock, node) = on_a_clock(&service).await;
    let begun = clock.now().wall;
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let mut issued = node.login(Login::guest()).await.unwrap();
    assert_eq!(issued.session.expires_at(), begun + hours(12));
    while clock.now().wall.since(begun) < hours(30 * 24 - 11) {
        clock.advance(hours(11));
        issued = node.refresh(&issued.refresh).await.unwrap();
    }
    assert_eq!(issued.session.expires_at(), begun + hours(30 * 24));
    clock.advance(hours(11));
    let error = node.refresh(&issued.refresh).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Expired), "{error}");
}

async fn a_session_of_a_shorter_life_stays_one_whatever_becomes_of_it(cold: Cold) {
    let service = Service::without_redis(cold);
    let (clock, node) = on_a_clock(&service).await;
    let hour = Duration::from_secs(60 * 60);
    let ends = |issued: &Issued<Basket>| issued.session.expires_at().since(clock.now().wall);
    let issued = node.login(Login::guest().ttl(2 * hour)).await.unwrap();
    assert_eq!(ends(&issued), 2 * hour);
    clock.advance(hour);
    let issued = node.refresh(&issued.refresh).await.unwrap();
    assert_eq!(ends(&issued), 2 * hour);
    clock.advance(hour);
    let issued = node.rotate(&issued.session).await.unwrap();
    assert_eq!(ends(&issued), hour);
    let issued = node.refresh(&issued.refresh).await.unwrap();
    assert_eq!(ends(&issued), 2 * hour);
    clock.advance(hour);
    let issued = node.reauthenticate(&issued.session, 1).await.unwrap();
    assert_eq!(ends(&issued), 2 * hour);
    // Who logs in is no guest any more.
    let ada = service.cold.add_user("ada");
    let login = Login::user(ada);
    let issued = node.upgrade(&issued.session, login).await.unwrap();
    assert_eq!(ends(&issued), 12 * hour);
    // No time at all is no reason to fail.
    node.login(Login::guest().ttl(Duration::ZERO))
        .await
        .unwrap_err();
}

async fn what_is_not_a_refresh_token_ends_nothing(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.quiet_node().await;
    let issued = node.login(Login::guest()).await.unwrap();
    let error = node.refresh(&issued.access).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Malformed), "{error}");
    let forged = session_core::TokenKeys::random()
        .mint(session_core::TokenKind::Refresh, issued.session.id());
    let error = node.refresh(&forged).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Forged), "{error}");
    node.find(issued.access).await.unwrap();
}

/// By less than the hour that is allowed for elsewhere. The client asks twice at once.
async fn nodes_whose_clocks_disagree_take_no_retry_for_reuse(cold: Cold) {
    let service = Service::without_redis(cold);
    let here = service.node().await;
    let (clock, there) = on_a_clock(&service).await;
    clock.advance(here.config().session.refresh_grace + Duration::from_secs(2));
    let issued = here.login(Login::guest()).await.unwrap();
    let new = here.refresh(&issued.refresh).await.unwrap();
    let again = there.refresh(&issued.refresh).await;
    assert!(again.is_ok(), "{:?}", again.err());
    here.find(new.access).await.unwrap();
}

async fn a_session_that_is_not_admitted_keeps_its_refresh_token(cold: Cold) {
    let service = Service::without_redis(cold);
    let mut config = service.quiet();
    config.session.refresh_grace = Duration::from_secs(600);
    let node = service.node_with(config).await;
    let login = Login::guest().data(Basket::of("tea"));
    let issued = node.login(login).await.unwrap();
    let mut asked = 0;
    let mut ask = async |token: &Token, answer: bool| {
        let refreshed = node.refresh_if(token, |session| {
            let body = session.body_if_here().expect("it is here");
            assert_eq!(body.data().unwrap(), &Basket::of("tea"));
            asked += 1;
            answer
        });
        refreshed.await
    };
    // Nothing happens, however often.
    for _ in 0..2 {
        assert!(ask(&issued.refresh, false).await.unwrap().is_none());
        node.find(issued.access.clone()).await.unwrap();
    }
    let traded = ask(&issued.refresh, true).await.unwrap().unwrap();
    // Within the grace it is asked too.
    assert!(ask(&issued.refresh, false).await.unwrap().is_none());
    let again = ask(&issued.refresh, true).await.unwrap().unwrap();
    assert_eq!(again.access.expose(), traded.access.expose());
    // Theft is noticed whoever shows the token, and nobody need be asked.
    ask(&traded.refresh, true).await.unwrap().unwrap();
    let error = ask(&issued.refresh, false).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Reused), "{error}");
    assert_eq!(asked, 6);
}

/// Puts the rows of sessions back as they were, as an operator does who restores a backup of them.
struct Backup {
    file: tempfile::NamedTempFile,
}

impl Backup {
    fn of(cold: &Cold) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        match cold {
            Cold::Postgres(database) => {
                database.run("pg_dump", &["--format=custom", "--file", path]);
            }
            Cold::Sqlite(sqlite) => {
                std::fs::remove_file(path).unwrap();
                sqlite.sql(&format!("VACUUM INTO '{path}'"));
            }
        }
        Self { file }
    }

    fn restore(&self, cold: &Cold) {
        let path = self.file.path().to_str().unwrap();
        match cold {
            Cold::Postgres(database) => {
                database.run(
                    "pg_restore",
                    &["--clean", "--if-exists", "--single-transaction", path],
                );
            }
            Cold::Sqlite(sqlite) => {
                sqlite.sql(&format!(".restore {path}"));
            }
        }
    }
}

async fn a_token_newer_than_a_restored_backup_raises_no_alarm_until_the_first_refresh(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let first = node.login(Login::guest()).await.unwrap();
    let second = node.refresh(&first.refresh).await.unwrap();
    let backup = Backup::of(&service.cold);
    let lost = node.refresh(&second.refresh).await.unwrap();
    let mut events = node.events();
    backup.restore(&service.cold);
    let id = first.session.id();

    // At once, and when the new lineage has begun; there, and on a node that starts now.
    let later = service.node().await;
    for node in [&node, &later, &node] {
        for token in [&lost.refresh, &lost.refresh] {
            let error = node.refresh(token).await.unwrap_err();
            assert!(matches!(refused(&error), Refusal::Unknown), "{error}");
        }
        eventually("the node trusts its caches", async || {
            node.health().is_trusting()
        })
        .await;
    }
    // The session itself goes on for whoever has what the backup has.
    later.find(second.access.clone()).await.unwrap();
    let mut third = later.refresh(&second.refresh).await.unwrap();
    // From a refresh in the new lineage on it is theft, whoever it is. The node may begin that lineage only
    // now, if it notices the restore late.
    eventually("the reuse is noticed", async || {
        let error = node.refresh(&lost.refresh).await.unwrap_err();
        match refused(&error) {
            Refusal::Unknown => {
                third = later.refresh(&third.refresh).await.unwrap();
                false
            }
            Refusal::Reused => true,
            other => panic!("{other}"),
        }
    })
    .await;
    assert!(later.refresh(&third.refresh).await.is_err());
    let reuse = loop {
        match events.next().await.unwrap() {
            Event::ReuseDetected { session, .. } => break session,
            _ => continue,
        }
    };
    assert_eq!(reuse, id);
}

async fn reuse_is_told_for_sessions_that_were_refreshed_in_this_lineage(cold: Cold) {
    let service = Service::new(cold);
    let node = service.node().await;
    let first = node.login(Login::guest()).await.unwrap();
    let second = node.refresh(&first.refresh).await.unwrap();
    // A restart, or `sessions invalidate-caches`.
    let lineage = match &service.cold {
        Cold::Postgres(_) => "SELECT sessions_begin_lineage()",
        Cold::Sqlite(_) => "UPDATE session_history SET lineage = random()",
    };
    service.cold.sql(lineage);
    // The row itself says that this one was traded in.
    let error = node.refresh(&first.refresh).await;
    match error {
        // Within the grace it is answered again.
        Ok(again) => assert_eq!(*again.refresh.expose(), *second.refresh.expose()),
        Err(error) => assert!(matches!(refused(&error), Refusal::Reused), "{error}"),
    }
    let third = node.refresh(&second.refresh).await.unwrap();
    // Two refreshes ago, the last one in this lineage.
    let error = node.refresh(&first.refresh).await.unwrap_err();
    assert!(matches!(refused(&error), Refusal::Reused), "{error}");
    assert!(node.find(third.access).await.is_err());
}
