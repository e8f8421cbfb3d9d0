//! Several applications on one database and one Redis, even under one secret: by their namespaces
//! they know nothing of each other.

use session_core::TokenKind;
use tier_cache::cold::{PostgresStore, Scope};
use tier_cache::{Error, Login, Refusal, Strictness, TierConfig, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both, username};

on_both!(
    no_token_of_one_application_opens_another,
    each_has_its_own_users_and_ends_its_own_sessions,
    in_redis_each_keeps_to_its_keys,
    one_without_a_namespace_is_another_too,
    plain_sql_ends_a_session_of_the_application_that_it_names,
);

fn within(config: TierConfig, namespace: &str) -> TierConfig {
    let mut config = config;
    config.cold.namespace = Some(namespace.parse().unwrap());
    config
}

async fn node(service: &Service, namespace: &str) -> Tiers<Basket> {
    service.node_with(within(service.config(), namespace)).await
}

/// Runs SQL that names tables as `namespace.table`.
fn sql(cold: &Cold, namespace: &str, sql: &str) -> String {
    match cold {
        Cold::Postgres(database) => database.sql(sql),
        Cold::Sqlite(file) => {
            let path = file
                .path()
                .with_file_name(format!("test.{namespace}.sqlite"));
            assert!(
                path.exists(),
                "{} is made beside the file named",
                path.display()
            );
            file.sql(&format!(
                "ATTACH '{}' AS {namespace}; {sql}",
                path.display()
            ))
        }
    }
}

fn add_user(cold: &Cold, namespace: &str, name: &str) -> i64 {
    let insert = format!(
        "INSERT INTO {namespace}.users (email, username) VALUES ('{name}@example.com', '{name}') RETURNING id"
    );
    sql(cold, namespace, &insert).trim().parse().expect("an id")
}

async fn no_token_of_one_application_opens_another(cold: Cold) {
    let service = Service::new(cold);
    let shop = node(&service, "shop").await;
    let blog = node(&service, "blog").await;
    let issued = shop
        .login(Login::guest().data(Basket::of("tea")))
        .await
        .unwrap();

    shop.find(issued.access.clone()).await.unwrap();
    // It costs a hash, as any forged token does.
    assert!(matches!(
        blog.find(issued.access.clone()).await,
        Err(Refusal::Forged)
    ));
    let refused = blog.refresh(&issued.refresh).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::Forged))));
    assert!(matches!(
        blog.find(issued.session.id()).await,
        Err(Refusal::Unknown)
    ));
    assert!(matches!(
        blog.find_strict(issued.session.id(), Strictness::Row).await,
        Err(Refusal::Unknown)
    ));
    // Nor would its record in Redis be believed, nor a foreign key lead to it.
    assert_ne!(
        shop.keys().seal(&[b"place"], b"content"),
        blog.keys().seal(&[b"place"], b"content")
    );
    assert_ne!(
        shop.keys()
            .hash_foreign(TokenKind::Access, &crate::support::foreign("jti")),
        blog.keys()
            .hash_foreign(TokenKind::Access, &crate::support::foreign("jti"))
    );
    // Another node of the same application is the same application.
    let found = node(&service, "shop").await.find(issued.access).await;
    let found = found.unwrap();
    assert_eq!(
        found.body().await.unwrap().data().unwrap(),
        &Basket::of("tea")
    );
}

async fn each_has_its_own_users_and_ends_its_own_sessions(cold: Cold) {
    let service = Service::new(cold);
    let shop = node(&service, "shop").await;
    let blog = node(&service, "blog").await;
    let ada = add_user(&service.cold, "shop", "ada");
    let bob = add_user(&service.cold, "blog", "bob");
    assert_eq!(ada, bob, "the first of each");

    let at_shop = shop.login(Login::user(ada)).await.unwrap();
    let at_blog = blog.login(Login::user(bob)).await.unwrap();
    assert_eq!(username(&at_shop.session), "ada");
    assert_eq!(username(&at_blog.session), "bob");
    assert_eq!(shop.list(ada.into()).await.unwrap().len(), 1);

    let receipt = shop.revoke_all(Scope::everyone()).await.unwrap();
    assert_eq!(receipt.revoked(), 1);
    assert!(matches!(
        shop.find(at_shop.access).await,
        Err(Refusal::Revoked)
    ));
    let found = blog.find_strict(at_blog.access, Strictness::Row).await;
    assert_eq!(username(&found.unwrap()), "bob");
}

async fn in_redis_each_keeps_to_its_keys(cold: Cold) {
    let service = Service::new(cold);
    let shop = node(&service, "shop").await;
    let blog = node(&service, "blog").await;
    shop.login(Login::guest()).await.unwrap();
    blog.login(Login::guest()).await.unwrap();
    eventually("both records are there", async || {
        let keys = service.redis().cli(&["KEYS", "*"]);
        let of = |prefix| keys.lines().filter(|key| key.starts_with(prefix)).count();
        assert_eq!(
            of("session:shop:") + of("session:blog:"),
            keys.lines().count(),
            "{keys}"
        );
        of("session:shop:") == 1 && of("session:blog:") == 1
    })
    .await;
    let channels = service.redis().cli(&["PUBSUB", "CHANNELS"]);
    let mut channels: Vec<_> = channels.lines().collect();
    channels.sort_unstable();
    assert_eq!(channels, ["session:blog:changes", "session:shop:changes"]);
}

async fn one_without_a_namespace_is_another_too(cold: Cold) {
    let service = Service::new(cold);
    let alone = service.node().await;
    let shop = node(&service, "shop").await;
    let issued = alone.login(Login::guest()).await.unwrap();
    assert!(matches!(
        shop.find(issued.access.clone()).await,
        Err(Refusal::Forged)
    ));
    shop.revoke_all(Scope::everyone()).await.unwrap();
    alone
        .find_strict(issued.access, Strictness::Row)
        .await
        .unwrap();
}

async fn plain_sql_ends_a_session_of_the_application_that_it_names(cold: Cold) {
    let service = Service::new(cold);
    let (shop, blog) = (node(&service, "shop").await, node(&service, "blog").await);
    let at_shop = shop.login(Login::guest()).await.unwrap();
    let at_blog = blog.login(Login::guest()).await.unwrap();
    sql(
        &service.cold,
        "shop",
        &format!(
            "UPDATE shop.sessions SET is_active = false WHERE id = '{}'",
            at_shop.session.id()
        ),
    );
    eventually("it is refused", async || {
        shop.find(at_shop.access.clone()).await.is_err()
    })
    .await;
    blog.find_strict(at_blog.access, Strictness::Row)
        .await
        .unwrap();
}

/// Each tells its own nodes, in the one channel that there is.
#[test]
fn a_change_wakes_the_application_that_it_is_of_and_is_counted_there() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut all = std::collections::BTreeMap::new();
    let told = |namespace: &str| format!("session_notifications_total {namespace}");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let service = Service::without_redis(Cold::postgres());
            let shop = node(&service, "shop").await;
            let blog = node(&service, "blog").await;
            let logins = [&shop, &shop, &shop, &blog].map(async |node| {
                let issued = node.login(Login::guest()).await.unwrap();
                (node.clone(), issued.session.id())
            });
            // The last is the blog's: by then it would have heard of the others.
            for (n, login) in logins.into_iter().enumerate() {
                let (node, id) = login.await;
                let of = if n < 3 { "shop" } else { "blog" };
                let heard = all.get(&told(of)).copied().unwrap_or(0.0);
                eventually("it is told of", async || {
                    node.update(&node.find(id).await.unwrap(), |basket| basket.count += 1)
                        .await
                        .unwrap();
                    crate::metrics::counted(&snapshotter, &mut all);
                    all.get(&told(of)).is_some_and(|&count| count > heard)
                })
                .await;
                if of == "shop" {
                    assert_eq!(all[&told("blog")], 0.0, "{all:?}");
                }
            }
            assert!(all["session_lookups_total hot,shop"] > 0.0, "{all:?}");
            shop.shutdown(std::time::Duration::from_secs(10)).await;
            blog.shutdown(std::time::Duration::from_secs(10)).await;
        });
    });
}

/// Where nobody may make schemas, somebody else makes it beforehand.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_there_need_not_be_made() {
    let cold = Cold::postgres();
    let Cold::Postgres(database) = &cold else {
        unreachable!()
    };
    let (name, role) = (database.name(), format!("app_{}", database.name()));
    cold.sql(&format!("CREATE ROLE {role} LOGIN"));
    let mut config = TierConfig::default().cold;
    config.url = database.url().replace("postgres@", &format!("{role}@"));
    config.connect_timeout = std::time::Duration::from_secs(30);
    config.statement_timeout = std::time::Duration::from_secs(30);
    config.namespace = Some("shop".parse().unwrap());
    let store = PostgresStore::open(&config).unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("permission denied for database {name}")),
        "{error}"
    );
    cold.sql("CREATE SCHEMA shop");
    let error = store.migrate().await.unwrap_err();
    assert!(error.to_string().contains("GRANT USAGE"), "{error}");
    cold.sql(&format!("ALTER SCHEMA shop OWNER TO {role}"));
    store.migrate().await.unwrap();
    let tables =
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'shop' AND tablename = 'sessions'";
    assert_eq!(cold.sql(tables).trim(), "1");
    assert_eq!(
        cold.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .trim(),
        "0"
    );
    cold.sql(&format!("DROP SCHEMA shop CASCADE; DROP ROLE {role}"));
}

#[test]
fn a_name_that_cannot_be_one_is_refused_in_words() {
    let longest = "a".repeat(41);
    for name in [
        "Shop",
        "1st",
        "a-b",
        "public",
        "pg_shop",
        "\\\"; DROP",
        &longest,
    ] {
        let error = TierConfig::from_toml(&format!("[cold]\nnamespace = \"{name}\""))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cold.namespace") && error.contains("lower-case"),
            "{error}"
        );
    }
    let error = TierConfig::from_toml("[cold]\nurl = 'sqlite://file:a.db'\nnamespace = 'a'");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("name a path"), "{error}");
    // The environment has no other word for "none".
    let config = TierConfig::from_toml("[cold]\nnamespace = ''").unwrap();
    assert_eq!(config.cold.namespace, None);
}
