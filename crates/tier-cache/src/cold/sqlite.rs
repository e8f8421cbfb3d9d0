//! The store in SQLite, which is bundled: what it is made of, and how one connects to it.

use std::path::Path;
use std::time::Duration;

use backon::{BlockingRetryable as _, ExponentialBuilder};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::result::Error::DatabaseError;
use diesel_async::pooled_connection::deadpool::{Hook, HookError, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use futures_util::FutureExt as _;

use super::file::DatabaseFile;
use super::sql::{Connections, Deadlines, Usable, in_task};
use crate::config::{ColdConfig, Namespace};
use crate::error::StoreError;
use crate::metrics::Meter;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// SQLite, spoken from another thread.
pub(super) type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection>;

/// Sessions in a SQLite file, for one machine: all processes open the same file.
#[derive(Clone)]
pub struct SqliteStore {
    pub(super) main: Connections<Pool<AsyncSqliteConnection>>,
    /// The feed's own connection, as in PostgreSQL.
    pub(super) feed: Connections<Pool<AsyncSqliteConnection>>,
    pub(super) file: DatabaseFile,
    pub(super) deadlines: Deadlines,
    pub(super) meter: Meter,
}

impl SqliteStore {
    /// A store in the file that `config.url` names, or with `config.namespace` in one beside it:
    /// `sessions.shop.db`. The file is made when it is first used.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL does not begin with `sqlite://` or names no file. A database in
    /// memory is refused, since each connection would have its own.
    pub fn open(config: &ColdConfig) -> Result<Self, StoreError> {
        let deadlines = Deadlines {
            connect: config.connect_timeout,
            statement: config.statement_timeout,
        };
        let path = file(&config.url, config.namespace.as_ref())
            .map_err(|reason| StoreError::permanent("open", format_args!("cold.url: {reason}")))?;
        let database = DatabaseFile::new(&path);
        let pool = |size| {
            let mut manager = ManagerConfig::default();
            manager.recycling_method = RecyclingMethod::Fast;
            let file = database.clone();
            manager.custom_setup = Box::new(move |path| {
                let (path, file) = (path.to_owned(), file.clone());
                async move {
                    let opening = file.opening();
                    let established = tokio::task::spawn_blocking({
                        let file = file.clone();
                        move || {
                            file.open(|| establish(&path, deadlines))
                                .map(SyncConnectionWrapper::new)
                        }
                    });
                    let established = established.await.unwrap_or_else(|ended| {
                        Err(ConnectionError::BadConnection(ended.to_string()))
                    });
                    established.inspect(|_| opening.done())
                }
                .boxed()
            });
            let manager = AsyncDieselConnectionManager::new_with_config(path.as_str(), manager);
            let usable = Usable::default();
            let (file, still) = (database.clone(), usable.clone());
            let is_current = Hook::sync_fn(move |_, metrics| {
                match file.is_of(metrics.created) && still.is(metrics.created) {
                    true => Ok(()),
                    false => Err(HookError::message(
                        "the file was replaced, or one like it failed",
                    )),
                }
            });
            let file = database.clone();
            let is_made = Hook::sync_fn(move |_, _| {
                file.is_made();
                Ok(())
            });
            let pool = Pool::builder(manager)
                .max_size(size)
                .post_create(is_made)
                .pre_recycle(is_current)
                .build()
                .map_err(|error| StoreError::permanent("open", error))?;
            Ok::<_, StoreError>(Connections { pool, usable })
        };
        Ok(Self {
            main: pool(config.pool_size)?,
            feed: pool(1)?,
            file: database,
            deadlines,
            meter: Meter::of(config.namespace.as_ref()),
        })
    }

    /// The pool, for an application that keeps tables of its own beside the sessions.
    pub fn pool(&self) -> &Pool<SyncConnectionWrapper<SqliteConnection>> {
        &self.main.pool
    }

    /// Makes the [state folder](crate::sqlite_in_state_folder) if the file is to be there, brings the
    /// tables to the newest version, and begins a new lineage if no other node runs: while none
    /// did, the file may have been overwritten by a backup. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be opened or a migration fails, which then changes
    /// nothing.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let (pool, file) = (self.main.pool.clone(), self.file.clone());
        let (deadlines, store) = (self.deadlines, self.clone());
        in_task("migrate", async move {
            let prepared = {
                let file = file.clone();
                tokio::task::spawn_blocking(move || file.prepare())
            };
            prepared
                .await
                .map_err(|ended| StoreError::transient("migrate", ended))??;
            store.begin_run().await?;
            let mut connection = deadlines.connected("migrate", pool.get()).await?;
            let migrated = connection.spawn_blocking(move |connection| {
                connection.immediate_transaction(|connection| {
                    refuse_others_tables(connection)?;
                    let done = connection
                        .run_pending_migrations(MIGRATIONS)
                        .map_err(diesel::result::Error::QueryBuilderError)?;
                    match done.is_empty() {
                        true => Ok(()),
                        // The schema has another version.
                        false => file.begin_lineage(connection),
                    }
                })
            });
            migrated
                .await
                .map_err(|error| StoreError::permanent("migrate", error))
        })
        .await
    }

    /// Begins a new lineage if no other node runs, and counts this one among those that run.
    pub(super) async fn begin_run(&self) -> Result<(), StoreError> {
        let (file, patience) = (self.file.clone(), self.deadlines.connect);
        let begun = tokio::task::spawn_blocking(move || file.begin_run(patience));
        begun
            .await
            .map_err(|ended| StoreError::transient("open", ended))?
    }
}

/// A table of another application that has the name of one of ours is not to be taken for it.
fn refuse_others_tables(connection: &mut SqliteConnection) -> QueryResult<()> {
    const TAKEN: &str = "SELECT name AS text FROM sqlite_schema WHERE type = 'table' AND name IN ('users', 'sessions') \
        AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'session_history') ORDER BY name DESC LIMIT 1";
    let taken = diesel::sql_query(TAKEN).get_result::<Taken>(connection);
    match taken.optional()? {
        None => Ok(()),
        Some(Taken { text }) => Err(diesel::result::Error::QueryBuilderError(
            format!(
                "the file has a table {text} of another application, and tables of sessions need that name: set \
                 cold.namespace, which gives them a file of their own"
            )
            .into(),
        )),
    }
}

#[derive(diesel::QueryableByName)]
struct Taken {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

/// Opens the file; makes it if there is none.
fn establish(path: &str, deadlines: Deadlines) -> ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path)?;
    let pragma = |connection: &mut SqliteConnection, text: &str| {
        let set = connection.batch_execute(&format!("PRAGMA {text};"));
        set.map_err(ConnectionError::CouldntSetupConfiguration)
    };
    let patience = deadlines.statement.as_millis();
    pragma(&mut connection, &format!("busy_timeout = {patience}"))?;
    pragma(&mut connection, "foreign_keys = ON")?;
    // Of those who do this to a new file at the same time SQLite has some fail, and at once, since
    // each holds what another one would wait for.
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(50))
        .without_max_times()
        .with_total_delay(Some(deadlines.connect))
        .with_jitter();
    let turn_to_wal = || pragma(&mut connection, "journal_mode = WAL");
    turn_to_wal.retry(pauses).when(is_locked).call()?;
    Ok(connection)
}

/// Whether another connection has what this one needs.
fn is_locked(error: &ConnectionError) -> bool {
    let ConnectionError::CouldntSetupConfiguration(DatabaseError(_, information)) = error else {
        return false;
    };
    information.message() == "database is locked"
}

/// The file that a URL names, or that of a namespace beside it: in SQLite, what another database calls
/// a schema is a file. Else why it names none.
pub(super) fn file(url: &str, namespace: Option<&Namespace>) -> Result<String, String> {
    const WRITE: &str =
        "write the path of a file, like sqlite://sessions.db or sqlite:///var/lib/app/sessions.db";
    let path = url.strip_prefix("sqlite://").unwrap_or_default();
    if path.is_empty() || path.ends_with('/') || path.ends_with("..") {
        return Err(format!("it names no file: {WRITE}"));
    }
    if path.contains(":memory:") || path.contains("mode=memory") {
        return Err(format!(
            "a database in memory would be another one for each connection: {WRITE}"
        ));
    }
    if path.contains("mode=ro") || path.contains("immutable=1") {
        return Err("sessions are written: leave mode=ro and immutable=1 out".to_owned());
    }
    if path.starts_with("file:") {
        // A URI, which SQLite reads itself.
        return match namespace {
            None => Ok(path.into()),
            Some(_) => Err(format!(
                "with cold.namespace it cannot be a file: URI: {WRITE}"
            )),
        };
    }
    // As others write it who mean what is done here anyway.
    let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
    if let Some((path, parameters)) = path.split_once('?') {
        return Err(format!(
            "it has parameters, {parameters}, which only a file: URI may have: write \
             sqlite://file:{path}?{parameters}, or leave them out"
        ));
    }
    let Some(namespace) = namespace else {
        return Ok(path.into());
    };
    let plain = Path::new(path);
    let stem = plain.file_name().and(plain.file_stem());
    let mut name = stem
        .ok_or_else(|| format!("it names no file: {WRITE}"))?
        .to_owned();
    name.push(".");
    name.push(namespace.as_str());
    name.push(".");
    // Never none: `plain` and the namespace `db` shall not be `plain.db`.
    name.push(plain.extension().unwrap_or("sqlite".as_ref()));
    Ok(plain.with_file_name(name).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn many_may_open_a_new_file_at_once() {
        const MANY: usize = 8;
        let deadlines = Deadlines {
            connect: Duration::from_secs(60),
            statement: Duration::from_secs(60),
        };
        for _ in 0..30 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sessions.db");
            let start = Barrier::new(MANY);
            let open = || {
                start.wait();
                establish(path.to_str().unwrap(), deadlines).map(drop)
            };
            thread::scope(|scope| {
                let opened: Vec<_> = (0..MANY).map(|_| scope.spawn(open)).collect();
                for opened in opened {
                    opened.join().unwrap().unwrap();
                }
            });
        }
    }

    #[test]
    fn a_namespace_is_a_file_beside_the_one_that_is_named() {
        let shop: Namespace = "shop".parse().unwrap();
        let named = |url| file(url, Some(&shop)).ok();
        for (url, expected) in [
            ("sqlite://sessions.db", "sessions.shop.db"),
            (
                "sqlite:///var/lib/app/sessions.db",
                "/var/lib/app/sessions.shop.db",
            ),
            ("sqlite://über.v1.db", "über.v1.shop.db"),
            ("sqlite://plain", "plain.shop.sqlite"),
            ("sqlite://./.hidden", "./.hidden.shop.sqlite"),
        ] {
            assert_eq!(named(url).as_deref(), Some(expected), "{url}");
            let plain = url.strip_prefix("sqlite://");
            assert_eq!(file(url, None).ok().as_deref(), plain);
        }
        for url in [
            "sqlite://",
            "sqlite://..",
            "sqlite://folder/",
            "sqlite://:memory:",
            "sqlite://file:a.db?mode=memory",
            "sqlite://file:a.db",
            "postgres://a",
        ] {
            assert_eq!(named(url), None, "{url}");
        }
        assert!(file("sqlite://file:a.db", None).is_ok());
        assert_eq!(file("sqlite://a.db?mode=rwc", None).unwrap(), "a.db");
        for (url, reason) in [
            ("sqlite://", "it names no file: write the path"),
            (
                "sqlite://:memory:",
                "a database in memory would be another one",
            ),
            (
                "sqlite://file:a.db?mode=memory",
                "a database in memory would be another one",
            ),
            (
                "sqlite://file:a.db?mode=ro",
                "leave mode=ro and immutable=1 out",
            ),
            (
                "sqlite://a.db?cache=shared",
                "write sqlite://file:a.db?cache=shared",
            ),
        ] {
            let told = file(url, None).unwrap_err();
            assert!(told.contains(reason), "{url}: {told}");
        }
    }
}
