//! Why a database cannot be used at the start, and what to do about it.

use testbed::Cluster;
use tier_cache::cold::{ColdStore as _, Key, PostgresStore, SessionId, SqliteStore};
use tier_cache::{ColdConfig, StoreError};

use crate::cold::config;
use crate::support::{Cold, Log};

/// Why a service does not start.
async fn refused(config: &ColdConfig) -> StoreError {
    match PostgresStore::open(config) {
        Ok(store) => store.migrate().await.unwrap_err(),
        Err(error) => error,
    }
}

#[track_caller]
fn says(error: &StoreError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

/// The last part of a URL's authority and path replaced.
fn instead(url: &str, from: &str, to: &str) -> String {
    assert!(url.contains(from), "{url}");
    url.replace(from, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_with_a_remedy() {
    let cluster = Cluster::builder().tcp().password("s3cret").start();
    let cold = Cold::Postgres(cluster.database());
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let right = config(&cold);
    assert!(right.url.contains("s3cret"));

    let mut wrong = right.clone();
    wrong.url = instead(&right.url, ":s3cret@", ":s3cretly@");
    let error = refused(&wrong).await;
    says(
        &error,
        &[
            "password authentication failed",
            "check the user and the password in cold.url",
        ],
    );
    assert!(!error.transient && !error.reached && error.is_unavailable());

    wrong.url = instead(&right.url, database.name(), "nobodys");
    let error = refused(&wrong).await;
    says(
        &error,
        &["database \"nobodys\" does not exist", "or create it"],
    );
    assert!(!error.transient);

    // That may pass.
    wrong.url = format!(
        "{}&connect_timeout=1",
        instead(&right.url, "127.0.0.1:", "127.0.0.1:1,127.0.0.1:")
    );
    PostgresStore::open(&wrong)
        .unwrap()
        .migrate()
        .await
        .unwrap();
    wrong.url = "postgres://app:s3cret@127.0.0.1:1/app".into();
    let error = refused(&wrong).await;
    says(&error, &["connect"]);
    assert!(error.transient);
}

/// A name, or an address, of this machine that is not known to be of this machine is as good as another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_be_elsewhere_is_not_spoken_to_in_the_clear() {
    let cluster = Cluster::builder().tcp().password("s3cret").start();
    let cold = Cold::Postgres(cluster.database());
    let mut config = config(&cold);
    let here = config.url.clone();
    let without_mode: String = here.split("?sslmode=").take(1).collect();
    for (url, is_served) in [
        (without_mode.clone(), true),
        (format!("{without_mode}?hostaddr=127.0.0.1"), true),
        (format!("{without_mode}?hostaddr=::ffff:127.0.0.1"), false),
        (
            format!("{without_mode}?hostaddr=::ffff:127.0.0.1&sslmode=prefer"),
            false,
        ),
        (
            format!("{without_mode}?hostaddr=::ffff:127.0.0.1&sslmode=disable"),
            true,
        ),
        (format!("{without_mode}?sslmode=verify-full"), false),
    ] {
        config.url = url;
        match is_served {
            true => PostgresStore::open(&config)
                .unwrap()
                .migrate()
                .await
                .unwrap(),
            false => says(
                &refused(&config).await,
                &[
                    "server does not support TLS",
                    "write sslmode=disable in cold.url",
                ],
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_vouched_for_is_told_with_a_remedy() {
    let cluster = Cluster::builder().tls().start();
    let cold = Cold::Postgres(cluster.database());
    let mut config = config(&cold);
    config.ca_file = None;
    let error = refused(&config).await;
    says(&error, &["invalid peer certificate", "set cold.ca_file"]);
    config.ca_file = Some(cluster.ca_file().to_owned());
    config.url = instead(&config.url, "sslmode=require", "sslmode=verify-full");
    PostgresStore::open(&config)
        .unwrap()
        .migrate()
        .await
        .unwrap();
}

/// It would take some letters only, and fail at the first login with another.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_encoding_is_refused() {
    let cold = Cold::postgres();
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let latin = format!("{}_latin1", database.name());
    cold.sql(&format!(
        "CREATE DATABASE {latin} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    let mut config = config(&cold);
    config.url = instead(&config.url, database.name(), &latin);
    let error = refused(&config).await;
    says(&error, &[&latin, "the encoding LATIN1", "ENCODING 'UTF8'"]);
    cold.sql(&format!("DROP DATABASE {latin} WITH (FORCE)"));
}

/// As in PostgreSQL 15 and newer, where nobody may make tables in the schema `public`.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_starts_where_nothing_is_to_migrate() {
    let cold = Cold::postgres();
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let role = format!("app_{}", database.name());
    cold.sql(&format!(
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN"
    ));
    let owner = config(&cold);
    let mut config = owner.clone();
    config.url = instead(&owner.url, "postgres@", &format!("{role}@"));
    let error = refused(&config).await;
    says(
        &error,
        &[
            "may not make tables in the schema public",
            "GRANT CREATE ON SCHEMA public",
            "sessions migrate --print",
        ],
    );
    PostgresStore::open(&owner)
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let told = tier_cache::cold::existing(&config).await.map(drop);
    says(
        &told.unwrap_err(),
        &[&role, "GRANT SELECT ON __diesel_schema_migrations"],
    );
    cold.sql(&format!(
        "GRANT SELECT ON __diesel_schema_migrations TO {role}"
    ));
    PostgresStore::open(&config)
        .unwrap()
        .migrate()
        .await
        .unwrap();
    cold.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_that_cannot_be_made_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let config = ColdConfig {
        url: format!("sqlite://{}/sessions.db", missing.display()),
        ..ColdConfig::default()
    };
    let error = SqliteStore::open(&config).unwrap().migrate().await;
    let error = error.unwrap_err();
    says(&error, &["there is no folder", "missing: make it"]);
    assert!(!error.transient);
    // As other programs write it: no file of the whole name is made.
    let config = ColdConfig {
        url: format!("sqlite://{}/app.db?mode=rwc", folder.path().display()),
        ..ColdConfig::default()
    };
    SqliteStore::open(&config).unwrap().migrate().await.unwrap();
    assert!(folder.path().join("app.db").is_file());
    let names = std::fs::read_dir(folder.path()).unwrap();
    let mut names = names.map(|file| file.unwrap().file_name());
    assert!(names.all(|name| !name.to_string_lossy().contains('?')));
}

/// Tables that are there already, with keys of another kind.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_application_are_told_of() {
    for cold in [Cold::postgres(), Cold::sqlite()] {
        cold.sql("CREATE TABLE users (id text PRIMARY KEY, mail text)");
        let mut config = config(&cold);
        let migrate = async |config: &ColdConfig| match &cold {
            Cold::Postgres(_) => PostgresStore::open(config).unwrap().migrate().await,
            Cold::Sqlite(_) => SqliteStore::open(config).unwrap().migrate().await,
        };
        let error = migrate(&config).await.unwrap_err();
        says(
            &error,
            &["a table users of another application", "set cold.namespace"],
        );
        config.namespace = Some("shop".parse().unwrap());
        migrate(&config).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lets_nobody_in_is_told_of_by_its_own_key() {
    let cluster = Cluster::builder().tcp().password("s3cret").start();
    let cold = Cold::Postgres(cluster.database());
    let mut config = config(&cold);
    let right = config.url.clone();
    config.replica_url = Some(instead(&right, ":s3cret@", ":wrong@"));
    config.replica_timeout = config.connect_timeout;
    let store = PostgresStore::open(&config).unwrap();
    store.migrate().await.unwrap();
    let log = Log::default();
    let listening = log.listen();
    let rows = store.load_replica(vec![Key::Id(SessionId::random())]).await;
    drop(listening);
    assert!(rows.is_empty());
    let told = log.text();
    assert!(told.contains("the password in cold.replica_url"), "{told}");
}
