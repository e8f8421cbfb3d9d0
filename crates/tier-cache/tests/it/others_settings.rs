//! What a role or a database is set to for other programs changes nothing here.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use testbed::Database;
use tier_cache::cold::PostgresStore;
use tier_cache::{Login, Refusal, Scope, TierConfig, Tiers};

use crate::support::{Basket, Cold, Service, eventually};

/// As far from the defaults as they go.
const SETTINGS: [(&str, &str); 21] = [
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_deferrable", "on"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "'1ms'"),
    ("lock_timeout", "'1ms'"),
    ("idle_in_transaction_session_timeout", "'1ms'"),
    ("row_security", "off"),
    ("DateStyle", "'German, DMY'"),
    ("IntervalStyle", "'sql_standard'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("bytea_output", "'escape'"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "off"),
    ("extra_float_digits", "-15"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("quote_all_identifiers", "on"),
    ("client_min_messages", "'debug5'"),
    ("check_function_bodies", "off"),
    ("plan_cache_mode", "'force_custom_plan'"),
    ("xmlbinary", "'hex'"),
];

/// A service whose nodes are a role of their own, and that role's name.
fn service() -> (Service, String) {
    let cold = Cold::postgres();
    let role = format!("app_{}", database(&cold).name());
    cold.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}"
    ));
    (Service::new(cold), role)
}

fn database(cold: &Cold) -> &Database {
    match cold {
        Cold::Postgres(database) => database,
        Cold::Sqlite(_) => unreachable!("SQLite has no such settings"),
    }
}

fn config(service: &Service, role: &str) -> TierConfig {
    let mut config = service.config();
    config.cold.url = config.cold.url.replace("postgres@", &format!("{role}@"));
    config
}

fn set(cold: &Cold, role: &str) {
    for (name, value) in SETTINGS {
        let database = database(cold).name();
        cold.sql(&format!(
            "ALTER ROLE {role} IN DATABASE {database} SET {name} = {value}"
        ));
    }
}

fn drop_role(cold: &Cold, role: &str) {
    cold.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// One user's story, and many who change one session at once.
async fn all_goes_well(service: &Service, role: &str) {
    let config = config(service, role);
    let here = service.node_with(config.clone()).await;
    let there = service.node_with(config).await;
    let user = service.cold.add_user("ada");
    let issued = here
        .login(Login::user(user).data(Basket::of("tea")))
        .await
        .unwrap();
    // At once, on both nodes: as browsers do that save twice.
    let changes = (0..20).map(|n| {
        let node = [&here, &there][n % 2];
        node.update(&issued.session, |basket: &mut Basket| basket.count += 1)
    });
    for changed in join_all(changes).await {
        changed.unwrap();
    }
    let session = there.find(issued.access.clone()).await.unwrap();
    let body = there
        .find_strict(issued.access.clone(), tier_cache::Strictness::Row)
        .await
        .unwrap();
    let body = body.body().await.unwrap();
    assert_eq!(body.data().unwrap().count, 21);
    assert_eq!(session.id(), issued.session.id());

    let refreshed = join_all((0..8).map(|n| [&here, &there][n % 2].refresh(&issued.refresh))).await;
    let refreshed: BTreeSet<String> = refreshed
        .into_iter()
        .map(|issued| issued.unwrap().access.expose().to_string())
        .collect();
    assert_eq!(refreshed.len(), 1);

    let logins = join_all((0..10).map(|n| [&here, &there][n % 2].login(Login::user(user)))).await;
    let logins: Vec<_> = logins.into_iter().map(Result::unwrap).collect();
    assert_eq!(here.list(user.into()).await.unwrap().len(), 11);
    let revoked = &logins[0];
    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{}'",
        revoked.session.id()
    ));
    eventually("plain SQL is obeyed", async || {
        matches!(
            there.find(revoked.access.clone()).await,
            Err(Refusal::Revoked)
        )
    })
    .await;
    let receipt = here.revoke_all(Scope::user(user)).await.unwrap();
    assert_eq!(receipt.revoked(), 10);
    eventually("a revocation is obeyed", async || {
        there.find(logins[1].access.clone()).await.is_err()
    })
    .await;
    assert!(here.health().is_ready() && here.health().is_trusting());
    for node in [here, there] {
        assert!(node.shutdown(std::time::Duration::from_secs(60)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_set_otherwise_migrates_and_uses_a_database() {
    let (service, role) = service();
    set(&service.cold, &role);
    all_goes_well(&service, &role).await;
    let schema = "SELECT schemaname FROM pg_tables WHERE tablename = 'sessions'";
    assert_eq!(service.cold.sql(schema).trim(), "public");
    drop_role(&service.cold, &role);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_set_otherwise_after_it_migrated() {
    let (service, role) = service();
    let store = PostgresStore::open(&config(&service, &role).cold).unwrap();
    store.migrate().await.unwrap();
    set(&service.cold, &role);
    all_goes_well(&service, &role).await;
    drop_role(&service.cold, &role);
}

/// Tables in a schema that only a setting of the role leads to are not made anew elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_only_a_setting_leads_to_are_asked_for() {
    let service = Service::without_redis(Cold::postgres());
    let mut config = service.config();
    config.cold.url += "&options=-c%20search_path%3Dshop";
    service.cold.sql("CREATE SCHEMA shop");
    let node = service.node_with(config.clone()).await;
    let issued = node.login(Login::guest()).await.unwrap();
    service.cold.sql(&format!(
        "ALTER DATABASE {} SET search_path = shop",
        database(&service.cold).name()
    ));
    let refused = Tiers::<Basket>::open(service.config(), service.keys())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("write ?options=-c%20search_path%3Dshop into the URL"),
        "{refused}"
    );
    let node = service.node_with(config).await;
    node.find(issued.access).await.unwrap();
}

/// Where a pooler drops what the connection asks for, what was undone is done again.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_could_not_be_serialized_are_repeated() {
    let service = Arc::new(Service::without_redis(Cold::postgres()));
    let mut config = service.config();
    config.cold.url += "&options=-c%20default_transaction_isolation%3Dserializable";
    let node = service.node_with(config).await;
    let user = service.cold.add_user("ada");
    let issued = node.login(Login::user(user)).await.unwrap();
    let changes = (0..20).map(|_| node.update(&issued.session, |basket| basket.count += 1));
    for changed in join_all(changes).await {
        changed.unwrap();
    }
    for login in join_all((0..20).map(|_| node.login(Login::user(user)))).await {
        login.unwrap();
    }
}
