//! Two applications in one database, each in a schema of its own: a restore of one is no business of the other.

use testbed::Database;
use tier_cache::{Login, Refusal, Tier, TierConfig, Tiers};

use super::{Kept, Known, Lost, must_refuse, must_serve};
use crate::support::{Basket, Cold, Service};

/// Two nodes of the application that is restored, and one of another.
struct Schemas {
    service: Service,
    config: TierConfig,
    here: Tiers<Basket>,
    there: Tiers<Basket>,
    other: Tiers<Basket>,
    /// Of the other application.
    known: Known,
    lineage: String,
}

impl Schemas {
    async fn new() -> Self {
        let service = Service::new(Cold::postgres());
        let within = |namespace: &str| {
            let mut config = service.config();
            config.cold.namespace = Some(namespace.parse().unwrap());
            config
        };
        let config = within("shop");
        let here = service.node_with(config.clone()).await;
        let there = service.node_with(config.clone()).await;
        let other = service.node_with(within("blog")).await;
        let known = Known::of(other.login(Login::guest()).await.unwrap());
        must_serve(&other, &known).await;
        let lineage = service.cold.sql(LINEAGE);
        Self {
            service,
            config,
            here,
            there,
            other,
            known,
            lineage,
        }
    }

    fn database(&self) -> &Database {
        match &self.service.cold {
            Cold::Postgres(database) => database,
            Cold::Sqlite(_) => unreachable!(),
        }
    }

    async fn login(&self) -> Known {
        let known = Known::of(self.here.login(Login::guest()).await.unwrap());
        self.there.find(known.access.clone()).await.unwrap();
        known
    }

    /// Restores the schema `shop` as it was before some logins and changes.
    async fn restored(&self, restore: impl AsyncFnOnce(&Database, &str)) {
        let (valid, revoked) = (self.login().await, self.login().await);
        let file = tempfile::NamedTempFile::new().unwrap();
        let dump = file.path().to_str().unwrap();
        self.database().run(
            "pg_dump",
            &["--format=custom", "--schema=shop", "--file", dump],
        );
        let begun = self.login().await;
        let mut session = self.here.find(revoked.access.clone()).await.unwrap();
        for _ in 0..9 {
            let change = |basket: &mut Basket| basket.count += 1;
            session = self.here.update(&session, change).await.unwrap();
        }
        self.there.find(revoked.access.clone()).await.unwrap();
        let kept = Kept { valid, revoked };
        let lost = Lost { kept, begun };

        restore(self.database(), dump).await;
        let revoke = format!("SET search_path TO shop; {}", lost.revoke());
        self.service.cold.sql(&revoke);
        let later = self.service.node_with(self.config.clone()).await;
        lost.believed_by(&[&self.here, &self.there, &later]).await;
    }

    /// The other application has nothing to read anew.
    async fn other_is_undisturbed(&self) {
        assert_eq!(self.service.cold.sql(LINEAGE), self.lineage);
        let found = self.other.find(self.known.access.clone()).await.unwrap();
        assert_eq!(found.tier(), Tier::Hot);
        let id = self.known.id;
        self.service.cold.sql(&format!(
            "UPDATE blog.sessions SET is_active = false WHERE id = '{id}'"
        ));
        must_refuse(&self.other, &self.known, &Refusal::Revoked).await;
    }
}

const LINEAGE: &str = "SELECT lineage FROM blog.session_history";

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_is_restored_over_its_tables() {
    let schemas = Schemas::new().await;
    schemas
        .restored(async |database, dump| {
            database.run("pg_restore", &["--clean", "--if-exists", dump]);
        })
        .await;
    schemas.other_is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_is_dropped_and_restored() {
    let schemas = Schemas::new().await;
    schemas
        .restored(async |database, dump| {
            database.sql("DROP SCHEMA shop CASCADE");
            database.run("pg_restore", &[dump]);
        })
        .await;
    schemas.other_is_undisturbed().await;
}
