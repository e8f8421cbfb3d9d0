//! Tables are opened as they are, or not at all.

use tier_cache::{StoreError, TierConfig, Tiers, cold};

use crate::support::{Basket, Cold, Service, on_both};

on_both!(
    what_a_service_made_is_opened,
    no_tables_are_told_of_and_none_made,
    older_tables_are_told_of_and_left_as_they_are,
    of_a_namespace_its_own_tables_are_asked_for,
);

async fn refused(config: &TierConfig) -> StoreError {
    let error = cold::existing(&config.cold).await.unwrap_err();
    assert!(!error.transient, "{error}");
    error
}

fn tables(cold: &Cold) -> String {
    cold.sql(match cold {
        Cold::Postgres(_) => {
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        }
        Cold::Sqlite(_) => "SELECT count(*) FROM sqlite_schema",
    })
}

async fn what_a_service_made_is_opened(cold: Cold) {
    let service = Service::without_redis(cold);
    let node = service.node().await;
    let store = cold::existing(&node.config().cold).await.unwrap();
    let operator: Tiers<Basket> = Tiers::builder(service.config(), service.keys())
        .store(store)
        .start()
        .await
        .unwrap();
    assert!(operator.health().is_trusting());
    if let Cold::Sqlite(file) = &service.cold {
        // As a URI, in which a letter may be written by its number.
        let mut config = service.config();
        let path = file.path().to_str().unwrap().replace("sq", "%73q");
        config.cold.url = format!("sqlite://file:{path}?cache=private");
        cold::existing(&config.cold).await.unwrap();
    }
}

async fn no_tables_are_told_of_and_none_made(cold: Cold) {
    let service = Service::without_redis(cold);
    if let Cold::Sqlite(file) = &service.cold {
        let error = refused(&service.config()).await;
        assert!(error.to_string().contains("there is no file"), "{error}");
        assert!(!file.path().exists());
    }
    service.cold.sql("CREATE TABLE others (id integer)");
    let before = tables(&service.cold);
    let error = refused(&service.config()).await;
    assert!(
        error.to_string().contains("no tables of sessions"),
        "{error}"
    );
    assert_eq!(tables(&service.cold), before);
    if let Cold::Sqlite(_) = &service.cold {
        assert_eq!(service.cold.sql("PRAGMA journal_mode").trim(), "delete");
    }
}

async fn older_tables_are_told_of_and_left_as_they_are(cold: Cold) {
    let service = Service::without_redis(cold);
    service.node().await;
    let newest = "SELECT max(version) FROM __diesel_schema_migrations";
    // An application may keep its own migrations there.
    service.cold.sql(&format!(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000001'); \
         DELETE FROM __diesel_schema_migrations WHERE version = ({newest})"
    ));
    let before = service.cold.sql(newest);
    let error = refused(&service.config()).await;
    let text = error.to_string();
    assert!(text.contains("older") && text.contains("2026"), "{error}");
    assert_eq!(service.cold.sql(newest), before);
}

async fn of_a_namespace_its_own_tables_are_asked_for(cold: Cold) {
    let service = Service::without_redis(cold);
    service.node().await;
    let mut config = service.config();
    config.cold.namespace = Some("shop".parse().unwrap());
    refused(&config).await;
    service.node_with(config.clone()).await;
    cold::existing(&config.cold).await.unwrap();
}
