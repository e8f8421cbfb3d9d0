//! Bringing the tables to the newest version apart from a service, or by somebody else's hands.

use super::existing::unknown;
use crate::config::ColdConfig;
use crate::error::StoreError;

/// One step of the schema.
struct Migration {
    /// As in `migrations/`, and as Diesel notes that it was applied.
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($folder:literal: $($name:literal)*) => {
        &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../../migrations/", $folder, "/", $name, "/up.sql")),
        }),*]
    };
}

#[cfg(feature = "postgres")]
const POSTGRES: &[Migration] = migrations!("postgres":
    "2026-11-24-000000_tiered_sessions"
    "2026-11-30-000000_histories"
    "2026-11-30-000001_accounts"
    "2026-11-30-000002_lineage_begun"
);

#[cfg(feature = "sqlite")]
const SQLITE: &[Migration] = migrations!("sqlite":
    "2026-11-24-000000_tiered_sessions"
    "2026-11-30-000000_histories"
    "2026-11-30-000001_accounts"
    "2026-11-30-000002_lineage_begun"
);

/// Brings the tables that `config.url` and `config.namespace` name to the newest version, as a service does
/// that starts with `cold.migrate = true`. Several processes may do so at once, and nodes of the present
/// release and the one before may run.
///
/// Returns the names of the migrations that were missing.
///
/// If the future is dropped, it goes on.
///
/// # Errors
///
/// [`StoreError`] if the database cannot be reached or a migration fails, which then changes nothing.
///
/// # Panics
///
/// Outside a Tokio runtime with time and I/O.
pub async fn migrate(config: &ColdConfig) -> Result<Vec<String>, StoreError> {
    match scheme(config) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = super::PostgresStore::open(config)?;
            let missing = super::existing::postgres::missing(&store).await?;
            store.migrate().await?;
            Ok(missing.names)
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = super::SqliteStore::open(config)?;
            let missing = match store.file.exists() {
                true => super::existing::sqlite::missing(config).await?.names,
                false => SQLITE.iter().map(|step| step.name.to_owned()).collect(),
            };
            store.migrate().await?;
            Ok(missing)
        }
        _ => Err(unknown()),
    }
}

/// The SQL of the migrations that the database lacks, for those who run migrations in their own way: for
/// `psql` or `sqlite3`, in one transaction, which also notes that they were applied. Empty if it lacks none.
/// Nothing is changed.
///
/// # Errors
///
/// [`StoreError`] if the database cannot be asked.
///
/// # Panics
///
/// Outside a Tokio runtime with time and I/O.
pub async fn pending_migrations(config: &ColdConfig) -> Result<String, StoreError> {
    let missing = match scheme(config) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = super::PostgresStore::open(config)?;
            super::existing::postgres::missing(&store).await?
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            if !super::SqliteStore::open(config)?.file.exists() {
                return all_migrations(config);
            }
            super::existing::sqlite::missing(config).await?
        }
        _ => return Err(unknown()),
    };
    let steps = of(config)?.iter();
    Ok(script(
        config,
        steps.filter(|step| missing.names.iter().any(|name| name == step.name)),
    ))
}

/// The SQL of all migrations, as [`pending_migrations`] has it, for a database that has no tables of
/// sessions yet. No database is asked.
///
/// # Errors
///
/// [`StoreError`] if `config.url` is of no database that is known here.
pub fn all_migrations(config: &ColdConfig) -> Result<String, StoreError> {
    Ok(script(config, of(config)?))
}

fn of(config: &ColdConfig) -> Result<&'static [Migration], StoreError> {
    match scheme(config) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(POSTGRES),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(SQLITE),
        _ => Err(unknown()),
    }
}

fn scheme(config: &ColdConfig) -> &str {
    config.url.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn script<'a>(config: &ColdConfig, steps: impl IntoIterator<Item = &'a Migration>) -> String {
    let mut steps = steps.into_iter().peekable();
    if steps.peek().is_none() {
        return String::new();
    }
    let mut script = "BEGIN;\n".to_owned();
    if let Some(namespace) = &config.namespace
        && scheme(config) != "sqlite"
    {
        script += &format!(
            "CREATE SCHEMA IF NOT EXISTS \"{namespace}\";\nSET LOCAL search_path = \"{namespace}\";\n"
        );
    }
    script += "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (\
        version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);\n";
    for step in steps {
        let version: String = step.name.split('_').take(1).collect();
        let version = version.replace('-', "");
        script += &format!(
            "\n-- {}\n\n{}\nINSERT INTO __diesel_schema_migrations (version) VALUES ('{version}');\n",
            step.name,
            step.sql.trim_end()
        );
    }
    script + "COMMIT;\n"
}

#[cfg(test)]
mod tests {
    use diesel::migration::{Migration as _, MigrationSource};

    use super::*;

    #[test]
    fn every_migration_is_printed() {
        fn names<DB: diesel::backend::Backend>(
            embedded: diesel_migrations::EmbeddedMigrations,
        ) -> Vec<String> {
            let embedded = MigrationSource::<DB>::migrations(&embedded).unwrap();
            embedded
                .iter()
                .map(|step| step.name().to_string())
                .collect()
        }
        let listed = |steps: &[Migration]| steps.iter().map(|step| step.name).collect::<Vec<_>>();
        #[cfg(feature = "postgres")]
        assert_eq!(
            names::<diesel::pg::Pg>(super::super::postgres::MIGRATIONS),
            listed(POSTGRES)
        );
        #[cfg(feature = "sqlite")]
        assert_eq!(
            names::<diesel::sqlite::Sqlite>(super::super::sqlite::MIGRATIONS),
            listed(SQLITE)
        );
    }

    /// A server whose clients write another encoding reads them all the same.
    #[test]
    fn the_sql_is_ascii() {
        let all: [&[Migration]; 2] = [POSTGRES, SQLITE];
        for step in all.into_iter().flatten() {
            assert!(step.sql.is_ascii(), "{}", step.name);
        }
    }
}
