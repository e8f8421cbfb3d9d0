//! Opening the tables that are there, for programs that are to leave the schema alone.

use std::sync::Arc;

use super::store::ColdStore;
use crate::config::ColdConfig;
use crate::error::StoreError;

/// The bundled store that `config.url` names, if its tables are there and no older than this
/// release needs. Nothing is made or changed: no table, and for SQLite no file.
///
/// For operators' programs, which are not to migrate what a service uses:
/// [`Tiers::open`](crate::Tiers::open) would. Hand it to
/// [`TiersBuilder::store`](crate::TiersBuilder::store).
///
/// # Errors
///
/// [`StoreError`] if the database cannot be asked, or says what of its tables is missing.
///
/// # Panics
///
/// Outside a Tokio runtime with time and I/O.
pub async fn existing(config: &ColdConfig) -> Result<Arc<dyn ColdStore>, StoreError> {
    match config.url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = super::PostgresStore::open(config)?;
            complete(postgres::missing(&store).await?)?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = super::SqliteStore::open(config)?;
            complete(sqlite::missing(config).await?)?;
            Ok(Arc::new(store))
        }
        _ => Err(StoreError::permanent(
            OPERATION,
            "cold.url must be postgres://… or sqlite://…, and this build must have the cargo \
             feature of that name",
        )),
    }
}

const OPERATION: &str = "open";

/// What of the migrations a database has not seen.
#[cfg(feature = "diesel")]
enum Missing {
    Nothing,
    /// It has seen none of them.
    All,
    /// The names of these.
    Some(Vec<String>),
}

#[cfg(feature = "diesel")]
fn complete(missing: Missing) -> Result<(), StoreError> {
    let reason = match missing {
        Missing::Nothing => return Ok(()),
        Missing::All => {
            "it holds no tables of sessions: a service makes them when it starts, in the schema or \
             file that cold.namespace names"
                .to_owned()
        }
        Missing::Some(names) => format!(
            "its tables are older than this release: {} missing; a service of this release brings \
             them up to date when it starts",
            names.join(", ") + if names.len() == 1 { " is" } else { " are" }
        ),
    };
    Err(StoreError::permanent(OPERATION, reason))
}

/// Of these migrations those that are not among the applied ones. Others that were applied are an
/// application's own, or of a later release.
#[cfg(feature = "diesel")]
fn missing<DB: diesel::backend::Backend>(
    wanted: diesel_migrations::EmbeddedMigrations,
    applied: &[Applied],
) -> Result<Missing, StoreError> {
    use diesel::migration::{Migration as _, MigrationSource};

    let wanted = MigrationSource::<DB>::migrations(&wanted)
        .map_err(|error| StoreError::permanent(OPERATION, error))?;
    let all = wanted.len();
    let is_missing = |name: &dyn diesel::migration::MigrationName| {
        let version = name.version().to_string();
        !applied.iter().any(|applied| applied.version == version)
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|migration| is_missing(migration.name()))
        .map(|migration| migration.name().to_string())
        .collect();
    Ok(match missing.len() {
        0 => Missing::Nothing,
        some if some < all || !applied.is_empty() => Missing::Some(missing),
        _ => Missing::All,
    })
}

/// A migration that was applied. Asked for here: what Diesel asks makes the table of them.
#[cfg(feature = "diesel")]
#[derive(diesel::QueryableByName)]
struct Applied {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
}

/// Whether there is a table of them.
#[cfg(feature = "diesel")]
#[derive(diesel::QueryableByName)]
struct Present {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    present: bool,
}

#[cfg(feature = "diesel")]
const APPLIED: &str = "SELECT version FROM __diesel_schema_migrations";

#[cfg(feature = "postgres")]
mod postgres {
    use diesel_async::RunQueryDsl as _;
    use futures_util::FutureExt as _;

    use super::super::PostgresStore;
    use super::super::postgres::MIGRATIONS;
    use super::super::sql::Sends;
    use super::{APPLIED, Applied, Missing, OPERATION, Present, StoreError};

    const PRESENT: &str = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS present";

    pub(super) async fn missing(store: &PostgresStore) -> Result<Missing, StoreError> {
        let applied = store.run(OPERATION, Sends::Read, |connection| {
            async move {
                let there = diesel::sql_query(PRESENT)
                    .get_result::<Present>(connection)
                    .await?;
                match there.present {
                    true => diesel::sql_query(APPLIED).load::<Applied>(connection).await,
                    false => Ok(Vec::new()),
                }
            }
            .boxed()
        });
        super::missing::<diesel::pg::Pg>(MIGRATIONS, &applied.await?)
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    use super::super::file::DatabaseFile;
    use super::super::sql::in_task;
    use super::super::sqlite::{MIGRATIONS, file};
    use super::{APPLIED, Applied, Missing, OPERATION, Present, StoreError};
    use crate::config::ColdConfig;

    const PRESENT: &str = "SELECT count(*) > 0 AS present FROM sqlite_schema \
        WHERE type = 'table' AND name = '__diesel_schema_migrations'";

    /// By a connection that sets nothing up: what the store's own do writes to the file.
    pub(super) async fn missing(config: &ColdConfig) -> Result<Missing, StoreError> {
        let path = file(&config.url, config.namespace.as_ref()).unwrap_or_default();
        let busy_timeout = config.statement_timeout.as_millis();
        let permanent = |reason: String| StoreError::permanent(OPERATION, reason);
        let asked = tokio::task::spawn_blocking(move || {
            if !DatabaseFile::new(&path).exists() {
                return Err(permanent(format!("there is no file {path}")));
            }
            let failed = |error: &dyn std::fmt::Display| permanent(format!("{path}: {error}"));
            let mut connection =
                SqliteConnection::establish(&path).map_err(|error| failed(&error))?;
            let applied = connection
                .batch_execute(&format!("PRAGMA busy_timeout = {busy_timeout}"))
                .and_then(|()| {
                    let there =
                        diesel::sql_query(PRESENT).get_result::<Present>(&mut connection)?;
                    match there.present {
                        true => diesel::sql_query(APPLIED).load::<Applied>(&mut connection),
                        false => Ok(Vec::new()),
                    }
                });
            super::missing::<diesel::sqlite::Sqlite>(
                MIGRATIONS,
                &applied.map_err(|error| failed(&error))?,
            )
        });
        in_task(OPERATION, async move {
            match asked.await {
                Ok(missing) => missing,
                Err(ended) => Err(StoreError::transient(OPERATION, ended)),
            }
        })
        .await
    }
}
