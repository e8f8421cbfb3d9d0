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
    opened(config, false).await
}

/// The same for a node that serves sessions by it, which in SQLite makes a file beside the database.
pub(crate) async fn to_serve(config: &ColdConfig) -> Result<Arc<dyn ColdStore>, StoreError> {
    opened(config, true).await
}

#[cfg_attr(
    not(feature = "sqlite"),
    expect(unused_variables, reason = "only SQLite knows who serves")
)]
async fn opened(config: &ColdConfig, serves: bool) -> Result<Arc<dyn ColdStore>, StoreError> {
    match config.url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = super::PostgresStore::open(config)?;
            postgres::missing(&store).await?.refuse()?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = super::SqliteStore::open(config)?;
            sqlite::missing(config).await?.refuse()?;
            if serves {
                store.begin_run().await?;
            }
            Ok(Arc::new(store))
        }
        _ => Err(unknown()),
    }
}

/// For a URL of no database that is known here.
pub(super) fn unknown() -> StoreError {
    StoreError::permanent(
        OPERATION,
        "cold.url must be postgres://… or sqlite://…, and this build must have the cargo feature of that name",
    )
}

const OPERATION: &str = "open";

/// What of the migrations a database has not seen.
#[cfg(feature = "diesel")]
pub(super) struct Missing {
    /// The names of those.
    pub(super) names: Vec<String>,
    /// Whether it has seen none at all, nor others'.
    is_empty: bool,
}

#[cfg(feature = "diesel")]
impl Missing {
    /// Of these migrations those that are not among the applied ones. Others that were applied are an
    /// application's own, or of a later release.
    fn of<DB: diesel::backend::Backend>(
        wanted: diesel_migrations::EmbeddedMigrations,
        applied: &[Applied],
    ) -> Result<Self, StoreError> {
        use diesel::migration::{Migration as _, MigrationSource};

        let wanted = MigrationSource::<DB>::migrations(&wanted)
            .map_err(|error| StoreError::permanent(OPERATION, error))?;
        let is_missing = |name: &dyn diesel::migration::MigrationName| {
            let version = name.version().to_string();
            !applied.iter().any(|applied| applied.version == version)
        };
        let names = wanted.iter().map(|migration| migration.name());
        let names = names.filter(|name| is_missing(*name));
        Ok(Self {
            names: names.map(ToString::to_string).collect(),
            is_empty: applied.is_empty(),
        })
    }

    fn refuse(self) -> Result<(), StoreError> {
        let reason = match &self.names[..] {
            [] => return Ok(()),
            _ if self.is_empty => "it holds no tables of sessions, in the schema or file that cold.url and \
                cold.namespace name: `sessions migrate` makes them, or a service with cold.migrate = true when it \
                starts"
                .to_owned(),
            names => format!(
                "its tables are older than this release: {} missing; `sessions migrate` brings them up to date, or a \
                 service of this release with cold.migrate = true when it starts",
                names.join(", ") + if names.len() == 1 { " is" } else { " are" }
            ),
        };
        Err(StoreError::permanent(OPERATION, reason))
    }
}

/// A migration that was applied. Asked for here: what Diesel asks makes the table of them.
#[cfg(feature = "diesel")]
#[derive(diesel::QueryableByName)]
struct Applied {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
}

#[cfg(feature = "diesel")]
const APPLIED: &str = "SELECT version FROM __diesel_schema_migrations";

#[cfg(feature = "postgres")]
pub(super) mod postgres {
    use diesel_async::RunQueryDsl as _;
    use futures_util::FutureExt as _;

    use super::super::PostgresStore;
    use super::super::postgres::MIGRATIONS;
    use super::super::sql::Sends;
    use super::{APPLIED, Applied, Missing, OPERATION, StoreError};

    const PRESENT: &str = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS present, \
        coalesce(has_table_privilege(to_regclass('__diesel_schema_migrations'), 'SELECT'), true) AS readable, \
        current_user::text AS role, current_schema()::text AS schema";

    /// Whether there is a table of them, in the schema that the connection uses.
    #[derive(diesel::QueryableByName)]
    struct Present {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        present: bool,
        #[diesel(sql_type = diesel::sql_types::Bool)]
        readable: bool,
        #[diesel(sql_type = diesel::sql_types::Text)]
        role: String,
        #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
        schema: Option<String>,
    }

    pub(in crate::cold) async fn missing(store: &PostgresStore) -> Result<Missing, StoreError> {
        let applied = store.run(OPERATION, Sends::Read, |connection| {
            async move {
                let there = diesel::sql_query(PRESENT)
                    .get_result::<Present>(connection)
                    .await?;
                let applied = match there.present && there.readable {
                    true => {
                        let query = diesel::sql_query(APPLIED);
                        query.load::<Applied>(connection).await?
                    }
                    false => Vec::new(),
                };
                Ok((there, applied))
            }
            .boxed()
        });
        let (
            Present {
                readable,
                role,
                schema,
                ..
            },
            applied,
        ) = applied.await?;
        if !readable {
            let reason = format!(
                "the role {role} may not read the table __diesel_schema_migrations: GRANT SELECT ON \
                 __diesel_schema_migrations TO {role}, and what docs/configuration.md lists beside it"
            );
            return Err(StoreError::permanent(OPERATION, reason));
        }
        if let Some((wanted, used)) = store.namespace.as_ref().zip(schema)
            && used != wanted.as_str()
        {
            let reason = format!(
                "cold.namespace: the connection uses the schema {used}, not {wanted}: a pooler before the server must \
                 pass on the startup parameter options"
            );
            return Err(StoreError::permanent(OPERATION, reason));
        }
        Missing::of::<diesel::pg::Pg>(MIGRATIONS, &applied)
    }
}

#[cfg(feature = "sqlite")]
pub(super) mod sqlite {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    use super::super::file::DatabaseFile;
    use super::super::sql::in_task;
    use super::super::sqlite::{MIGRATIONS, file};
    use super::{APPLIED, Applied, Missing, OPERATION, StoreError};
    use crate::config::ColdConfig;

    const PRESENT: &str = "SELECT count(*) > 0 AS present FROM sqlite_schema \
        WHERE type = 'table' AND name = '__diesel_schema_migrations'";

    /// Whether there is a table of them.
    #[derive(diesel::QueryableByName)]
    struct Present {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        present: bool,
    }

    /// By a connection that sets nothing up: what the store's own do writes to the file.
    pub(in crate::cold) async fn missing(config: &ColdConfig) -> Result<Missing, StoreError> {
        let path = file(&config.url, config.namespace.as_ref()).unwrap_or_default();
        let busy_timeout = config.statement_timeout.as_millis();
        let permanent = |reason: String| StoreError::permanent(OPERATION, reason);
        let asked = tokio::task::spawn_blocking(move || {
            if !DatabaseFile::new(&path).exists() {
                return Err(permanent(format!(
                    "there is no file {path}: `sessions migrate` makes it, or a service with cold.migrate = true when it starts"
                )));
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
            Missing::of::<diesel::sqlite::Sqlite>(
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
