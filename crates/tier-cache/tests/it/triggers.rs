//! The database numbers changes, whoever makes them.

use session_core::SessionId;
use tier_cache::Login;

use crate::support::{Basket, Cold, Service, on_both};

on_both!(
    plain_sql_that_matters_raises_the_version,
    what_does_not_matter_leaves_the_version,
    a_change_of_the_user_touches_that_users_sessions_alone,
    the_id_of_a_session_never_changes,
    a_version_cannot_be_set_back_by_hand,
    a_deleted_session_leaves_a_trace,
    the_id_of_a_deleted_session_is_not_used_again,
    a_row_that_is_written_back_whole_hides_no_change,
);

/// The message with which SQL fails.
fn refused(cold: &Cold, sql: &str) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cold.sql(sql))).is_err()
}

async fn session(service: &Service, user: i64) -> SessionId {
    let node = service.quiet_node().await;
    let login = Login::user(user).data(Basket::of("tea"));
    node.login(login).await.unwrap().session.id()
}

async fn plain_sql_that_matters_raises_the_version(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let bob = cold.add_user("bob");
    let id = session(&service, ada).await;
    let later = cold.seconds_from_now(60);
    let changes = [
        "is_active = false".to_owned(),
        format!("revoked_at = {later}"),
        format!("expires_at = {later}"),
        "access_jti = NULL".to_owned(),
        "refresh_token_hash = NULL".to_owned(),
        "label = 'phone'".to_owned(),
        "ip = '203.0.113.7'".to_owned(),
        "user_agent = 'x'".to_owned(),
        "data = '{\"count\": 2}'".to_owned(),
        format!("user_id = {bob}"),
    ];
    for change in changes {
        let (version, mark) = (cold.version(id), mark_of(cold, id));
        cold.sql(&format!("UPDATE sessions SET {change} WHERE id = '{id}'"));
        assert_eq!(cold.version(id), version + 1, "{change}");
        assert!(mark_of(cold, id) > mark, "{change}");
        // The same again changes nothing.
        let version = cold.version(id);
        if !change.contains(&later) {
            cold.sql(&format!("UPDATE sessions SET {change} WHERE id = '{id}'"));
            assert_eq!(cold.version(id), version, "{change}, again");
        }
    }
}

fn mark_of(cold: &Cold, id: SessionId) -> i64 {
    let mark = cold.sql(&format!(
        "SELECT changed_at_mark FROM sessions WHERE id = '{id}'"
    ));
    mark.trim().parse().unwrap()
}

async fn what_does_not_matter_leaves_the_version(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    let (version, mark) = (cold.version(id), mark_of(cold, id));
    let later = cold.seconds_from_now(60);
    cold.sql(&format!("UPDATE sessions SET last_seen_at = {later}"));
    cold.sql("UPDATE users SET password_hash = 'x'");
    assert_eq!((cold.version(id), mark_of(cold, id)), (version, mark));
}

async fn a_change_of_the_user_touches_that_users_sessions_alone(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let bob = cold.add_user("bob");
    let (hers, his) = (session(&service, ada).await, session(&service, bob).await);
    for change in [
        "email = 'a@b.c'",
        "username = 'countess'",
        "is_active = false",
    ] {
        let (version, other) = (cold.version(hers), cold.version(his));
        cold.sql(&format!("UPDATE users SET {change} WHERE id = {ada}"));
        assert_eq!(cold.version(hers), version + 1, "{change}");
        assert_eq!(cold.version(his), other, "{change}");
    }
}

async fn the_id_of_a_session_never_changes(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let ada = service.cold.add_user("ada");
    let id = session(&service, ada).await;
    let other = SessionId::random();
    let change = format!("UPDATE sessions SET id = '{other}' WHERE id = '{id}'");
    let refused =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.cold.sql(&change)));
    assert!(refused.is_err());
    assert_eq!(service.cold.version(id), 1);
}

async fn a_version_cannot_be_set_back_by_hand(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    cold.sql(&format!(
        "UPDATE sessions SET label = 'a' WHERE id = '{id}'"
    ));
    cold.sql(&format!(
        "UPDATE sessions SET version = 1, label = 'b' WHERE id = '{id}'"
    ));
    assert_eq!(cold.version(id), 3);
}

async fn a_deleted_session_leaves_a_trace(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let (ada, bob) = (cold.add_user("ada"), cold.add_user("bob"));
    let one = session(&service, ada).await;
    let others = [session(&service, bob).await, session(&service, bob).await];
    let traced = |id: SessionId| {
        let count = format!("SELECT count(*) FROM session_tombstones WHERE id = '{id}'");
        cold.sql(&count).trim() == "1"
    };
    cold.sql(&format!("DELETE FROM sessions WHERE id = '{one}'"));
    assert!(traced(one) && !traced(others[0]));
    // By way of the user too.
    cold.sql(&format!("DELETE FROM users WHERE id = {bob}"));
    assert!(others.into_iter().all(traced));
}

/// As an object mapper does, with the numbers that it read before someone else's change.
async fn a_row_that_is_written_back_whole_hides_no_change(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    let read = mark_of(cold, id);
    cold.sql(&format!(
        "UPDATE sessions SET label = 'a' WHERE id = '{id}'"
    ));
    for (set, version) in [
        ("is_active = false, version = 1", 3),
        ("is_active = true, version = 3", 4),
        // The mark alone, too.
        ("version = 4", 5),
    ] {
        let mark = mark_of(cold, id);
        cold.sql(&format!(
            "UPDATE sessions SET {set}, changed_at_mark = {read} WHERE id = '{id}'"
        ));
        let numbered = mark_of(cold, id);
        if set == "version = 4" && cold.version(id) == 4 {
            assert_eq!(numbered, mark, "nothing changed");
        } else {
            assert_eq!(cold.version(id), version, "{set}");
            assert!(numbered > mark, "{set}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_numbers_a_user_that_is_replaced() {
    let service = Service::without_redis(Cold::sqlite());
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    for replace in [
        format!("({ada}, 'new@example.com', 'ada', 1)"),
        // Which also ends the session.
        format!("({ada}, 'new@example.com', 'ada', 0)"),
        // The row of that name goes, and with it the user of the session.
        format!("({}, 'other@example.com', 'ada', 1)", ada + 1),
    ] {
        let (version, mark) = (cold.version(id), mark_of(cold, id));
        cold.sql(&format!(
            "INSERT OR REPLACE INTO users (id, email, username, is_active) VALUES {replace}"
        ));
        assert!(cold.version(id) > version, "{replace}");
        assert!(mark_of(cold, id) > mark, "{replace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_numbers_a_user_that_an_update_replaces_or_renames() {
    let service = Service::without_redis(Cold::sqlite());
    service.quiet_node().await;
    let cold = &service.cold;
    let (ada, bob) = (cold.add_user("ada"), cold.add_user("bob"));
    let (hers, his) = (session(&service, ada).await, session(&service, bob).await);
    // She goes, and he is called by her name.
    cold.sql("UPDATE OR REPLACE users SET username = 'ada' WHERE username = 'bob'");
    assert_eq!((cold.version(hers), cold.version(his)), (2, 2));
    cold.sql("UPDATE users SET id = 4711");
    assert_eq!((cold.version(hers), cold.version(his)), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_replaces_no_session_behind_its_triggers() {
    let service = Service::without_redis(Cold::sqlite());
    service.quiet_node().await;
    let cold = &service.cold;
    let (ada, bob) = (cold.add_user("ada"), cold.add_user("bob"));
    let (hers, his) = (session(&service, ada).await, session(&service, bob).await);
    let new = SessionId::random();
    for key in ["access_jti", "refresh_token_hash"] {
        let taken = format!("(SELECT {key} FROM sessions WHERE id = '{hers}')");
        let replace = format!(
            "INSERT OR REPLACE INTO sessions (id, expires_at, {key}) VALUES ('{new}', 0, {taken})"
        );
        assert!(refused(cold, &replace), "{key}");
        let replace = format!("UPDATE OR REPLACE sessions SET {key} = {taken} WHERE id = '{his}'");
        assert!(refused(cold, &replace), "{key}");
    }
    assert_eq!((cold.version(hers), cold.version(his)), (1, 1));
}

/// The feed could not read it, and a revocation by it would find nothing.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_takes_no_id_that_is_not_written_as_we_write_it() {
    let service = Service::without_redis(Cold::sqlite());
    let node = service.quiet_node().await;
    let id = SessionId::random();
    for id in [
        format!("'{}'", "x".repeat(36)),
        format!(
            "'{}'",
            id.to_string()
                .to_uppercase()
                .replace(|c: char| c.is_ascii_digit(), "A")
        ),
        format!("'{{{}'", &id.to_string()[1..]),
        format!("x'{}'", "61".repeat(36)),
    ] {
        let insert = format!("INSERT INTO sessions (id, expires_at) VALUES ({id}, 0)");
        assert!(refused(&service.cold, &insert), "{id}");
    }
    let insert = format!("INSERT INTO sessions (id, expires_at) VALUES ('{id}', 0)");
    service.cold.sql(&insert);
    assert!(node.health().is_trusting());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_numbers_changes_whatever_role_makes_them() {
    let service = Service::without_redis(Cold::postgres());
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    // As replication and some bulk loaders do.
    let replica = "SET session_replication_role = replica;";
    cold.sql(&format!(
        "{replica} UPDATE sessions SET label = 'a' WHERE id = '{id}'"
    ));
    assert_eq!(cold.version(id), 2);
    cold.sql(&format!(
        "{replica} UPDATE users SET is_active = false WHERE id = {ada}"
    ));
    assert_eq!(cold.version(id), 3);
    cold.sql(&format!("{replica} DELETE FROM sessions WHERE id = '{id}'"));
    let traces = cold.sql("SELECT count(*) FROM session_tombstones");
    assert_eq!(traces.trim(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_numbers_what_a_later_trigger_changes() {
    let service = Service::without_redis(Cold::postgres());
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    cold.sql(
        "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.is_active := false; RETURN NEW; END $$; \
         CREATE TRIGGER zzz_theirs BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION theirs()",
    );
    let mark = mark_of(cold, id);
    cold.sql("UPDATE sessions SET last_seen_at = now()");
    assert_eq!(cold.version(id), 2);
    assert!(mark_of(cold, id) > mark);
}

async fn the_id_of_a_deleted_session_is_not_used_again(cold: Cold) {
    let service = Service::without_redis(cold);
    service.quiet_node().await;
    let cold = &service.cold;
    let ada = cold.add_user("ada");
    let id = session(&service, ada).await;
    cold.sql(&format!("DELETE FROM sessions WHERE id = '{id}'"));
    let later = cold.seconds_from_now(60);
    let again = format!("INSERT INTO sessions (id, expires_at) VALUES ('{id}', {later})");
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cold.sql(&again)));
    let message = *refused
        .unwrap_err()
        .downcast::<String>()
        .expect("a message");
    assert!(
        message.contains("insert the session under a new one"),
        "{message}"
    );
    let other = SessionId::random();
    cold.sql(&again.replace(&id.to_string(), &other.to_string()));
}
