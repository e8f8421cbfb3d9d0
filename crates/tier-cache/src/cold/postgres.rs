//! The store in PostgreSQL: what it is made of, and how one connects to it.

use std::sync::Arc;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::pooled_connection::deadpool::{Hook, HookError, Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use futures_util::FutureExt as _;
use tokio_postgres::config::TargetSessionAttrs;

use super::existing;
use super::listen::Listener;
use super::replica::Replica;
use super::sql::{Connections, Deadlines, Usable};
use super::target::{not_connected, target, tls};
use crate::config::{ColdConfig, Namespace};
use crate::error::StoreError;
use crate::metrics::Meter;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Sessions in PostgreSQL 13 or newer, spoken in Rust.
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) main: Connections<Pool<AsyncPgConnection>>,
    /// The feed's own connection. In one queue with the loads it would come too late just when there
    /// are many, the node would go blind, and all its hits would be loads too.
    pub(super) feed: Connections<Pool<AsyncPgConnection>>,
    pub(super) deadlines: Deadlines,
    pub(super) meter: Meter,
    /// Where the database tells of changes by itself.
    pub(super) listener: Listener,
    /// A copy that takes cold reads, if there is one.
    pub(super) replica: Option<Arc<Replica>>,
    /// The schema that the tables are in, if not the connection's own.
    pub(super) namespace: Option<Namespace>,
}

impl PostgresStore {
    /// A store at `config.url`, in the schema that `config.namespace` names; connects when it is
    /// first used.
    ///
    /// The server must speak TLS and show a certificate that the system's authorities, or
    /// `config.ca_file`, vouch for. A server on this machine is spoken to in the clear, unless the URL has
    /// `sslmode=require`. Any server is, if the URL has `sslmode=disable`. Hosts and `hostaddr` are all
    /// looked at, and the strictest rule holds for all.
    ///
    /// The connection sets what the statements rest on, such as the isolation level and the search path
    /// (`"$user",public`, or the namespace), so that settings of the role or the database change nothing.
    /// `options` in the URL do.
    ///
    /// The URL may name several hosts; the first that takes writes is used, never a standby. Those
    /// that `config.replica_url` names may be standbys; the first that can be reached is used.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL does not parse or `ca_file` cannot be read.
    pub fn open(config: &ColdConfig) -> Result<Self, StoreError> {
        let deadlines = Deadlines {
            connect: config.connect_timeout,
            statement: config.statement_timeout,
        };
        // Of several hosts the one that takes writes: what a standby tells may be any time old, and
        // to trust the caches on its word would break the bound.
        let mut primary = target("cold.url", &config.url, config)?;
        primary.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let target_of_replica = match &config.replica_url {
            Some(url) => Some(Arc::new(target("cold.replica_url", url, config)?)),
            None => None,
        };
        let primary = Arc::new(primary);
        let tls = tls(config)?;
        let meter = Meter::of(config.namespace.as_ref());
        let pool = |key: &'static str, target: &Arc<tokio_postgres::Config>, size| {
            let mut manager = ManagerConfig::default();
            // Asking the server first would cost each use a statement; a dead connection is
            // noticed by the task that reads from it.
            manager.recycling_method = RecyclingMethod::Fast;
            let (target, tls) = (Arc::clone(target), tls.clone());
            manager.custom_setup = Box::new(move |_| {
                let (target, tls) = (Arc::clone(&target), tls.clone());
                async move {
                    let connected = target.connect(tls).await;
                    let (client, connection) =
                        connected.map_err(|error| not_connected(key, &error))?;
                    AsyncPgConnection::try_from_client_and_connection(client, connection).await
                }
                .boxed()
            });
            let manager = AsyncDieselConnectionManager::new_with_config("", manager);
            let usable = Usable::default();
            let still = usable.clone();
            let is_usable = Hook::sync_fn(move |_, metrics| match still.is(metrics.created) {
                true => Ok(()),
                false => Err(HookError::message("one like it failed")),
            });
            let pool = Pool::builder(manager)
                .max_size(size)
                .pre_recycle(is_usable)
                .build()
                .map_err(|error| StoreError::permanent("open", error))?;
            Ok::<_, StoreError>(Connections { pool, usable })
        };
        let replica = match &target_of_replica {
            Some(target) => Some(Arc::new(Replica::new(
                pool("cold.replica_url", target, config.pool_size)?,
                config.replica_timeout,
                &meter,
            ))),
            None => None,
        };
        Ok(Self {
            main: pool("cold.url", &primary, config.pool_size)?,
            feed: pool("cold.url", &primary, 1)?,
            deadlines,
            listener: Listener {
                target: primary,
                tls,
                deadlines,
                meter: meter.clone(),
                namespace: config.namespace.clone(),
            },
            namespace: config.namespace.clone(),
            meter,
            replica,
        })
    }

    /// The pool, for an application that keeps tables of its own beside the sessions.
    pub fn pool(&self) -> &Pool<AsyncPgConnection> {
        &self.main.pool
    }

    /// Brings the tables to the newest version. Several nodes may do so at once. Where nothing is to be
    /// done, nothing is executed that needs more rights than a service has.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database cannot be reached or a migration fails, which then changes
    /// nothing.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        /// Names the lock that nodes take in turn: "sessions" in ASCII.
        const LOCK: i64 = i64::from_be_bytes(*b"sessions");
        if existing::postgres::missing(self).await?.names.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace.clone();
        let connection = self.main.pool.get();
        let connection = self.deadlines.connected("migrate", connection).await?;
        // Migrations speak a blocking dialect, so they get a thread; and the connection for good.
        let migrated = tokio::task::spawn_blocking(move || {
            let mut connection = AsyncConnectionWrapper::<_>::from(Object::take(connection));
            connection.transaction(|connection| {
                connection.batch_execute(&format!(
                    "SET LOCAL statement_timeout = 0; \
                     SET LOCAL lock_timeout = 0; \
                     SET LOCAL idle_in_transaction_session_timeout = 0; \
                     SELECT pg_advisory_xact_lock({LOCK});"
                ))?;
                match namespace {
                    Some(namespace) => connection.batch_execute(&create_schema(&namespace))?,
                    None => connection.batch_execute(REFUSE_OTHER_SCHEMA)?,
                }
                connection.batch_execute(REFUSE_UNFIT_DATABASE)?;
                connection
                    .run_pending_migrations(MIGRATIONS)
                    .map(drop)
                    .map_err(diesel::result::Error::QueryBuilderError)
            })
        });
        let migrated = migrated
            .await
            .map_err(|ended| StoreError::transient("migrate", ended))?;
        migrated.map_err(|error| {
            let other_role = "`sessions migrate --print` prints the SQL, for another role to run";
            StoreError::permanent("migrate", format_args!("{error}; {other_role}"))
        })
    }
}

/// Makes the schema where it is missing, for which one needs a permission.
fn create_schema(namespace: &Namespace) -> String {
    format!(
        "DO $$ BEGIN \
             IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{namespace}') THEN \
                 CREATE SCHEMA \"{namespace}\"; \
             END IF; \
             IF NOT has_schema_privilege('{namespace}', 'USAGE') THEN \
                 RAISE EXCEPTION 'cold.namespace: the role % may not use the schema {namespace}: \
                     GRANT USAGE, CREATE ON SCHEMA \"{namespace}\" TO it', current_user; \
             END IF; \
         END $$"
    )
}

/// Tables that a setting of the role or the database leads to, which is not used, are not to be made anew
/// elsewhere: all would be logged out.
const REFUSE_OTHER_SCHEMA: &str = "DO $$ DECLARE elsewhere text; BEGIN \
    SELECT nspname INTO elsewhere FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
        WHERE relname = 'session_history' AND to_regclass('session_history') IS NULL AND EXISTS (\
            SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting \
            WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
                AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)) \
                AND setting LIKE 'search_path=%' AND setting ~ ('\\m' || nspname || '\\M')) \
        LIMIT 1; \
    IF FOUND THEN \
        RAISE EXCEPTION 'cold.url: the tables of sessions are in the schema %, to which only the setting search_path \
            of the role or the database leads, which is not used: write ?options=-c%%20search_path%%3D% into the URL', \
            elsewhere, elsewhere; \
    END IF; \
END $$";

const REFUSE_UNFIT_DATABASE: &str = "DO $$ DECLARE taken text; BEGIN \
    IF current_setting('server_encoding') <> 'UTF8' THEN \
        RAISE EXCEPTION 'the database % has the encoding %, which lacks letters that people use: name one in cold.url that \
            was created with ENCODING ''UTF8'' TEMPLATE template0', current_database(), current_setting('server_encoding'); \
    END IF; \
    IF to_regclass('session_history') IS NULL THEN \
        SELECT relname INTO taken FROM pg_class WHERE relnamespace = to_regnamespace(current_schema()) \
            AND relname IN ('users', 'sessions') ORDER BY relname DESC LIMIT 1; \
        IF FOUND THEN \
            RAISE EXCEPTION 'the schema % has a table % of another application, and tables of sessions need that name: set \
                cold.namespace, which gives them a schema of their own', current_schema(), taken; \
        END IF; \
    END IF; \
    IF current_schema() IS NULL THEN \
        RAISE EXCEPTION 'no schema of the search path % exists: CREATE SCHEMA, or name another by \
            ?options=-c%%20search_path%%3D... in cold.url', current_setting('search_path'); \
    END IF; \
    IF NOT has_schema_privilege(current_schema(), 'CREATE') THEN \
        RAISE EXCEPTION 'the role % may not make tables in the schema %: GRANT CREATE ON SCHEMA % TO it, or have another \
            role migrate', current_user, current_schema(), current_schema(); \
    END IF; \
END $$";
