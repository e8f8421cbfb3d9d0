//! Who may log in: the table `users`, which the sessions' store brings along, in either database.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use tower_session::tier_cache::cold::{self, ColdStore, PostgresStore, SqliteStore};
use tower_session::tier_cache::{ColdConfig, StoreError};
use tower_session::{SessionId, UserId};

use crate::Failure;
use crate::passwords::Passwords;

/// The users that every demo has, by name; each with [`DEMO_PASSWORD`] until it is changed.
pub(crate) const DEMO_USERS: [&str; 2] = ["ada", "bob"];
/// Known to everyone who can read this.
pub(crate) const DEMO_PASSWORD: &str = "demo";

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        username -> Text,
        password_hash -> Nullable<Text>,
        is_active -> Bool,
    }
}

diesel::table! {
    webapp_secrets (name) {
        name -> Text,
        secret -> Text,
    }
}

/// The accounts, through the pool of the sessions' store.
#[derive(Clone)]
pub(crate) enum Accounts {
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

/// What a login needs of an account.
#[derive(Queryable)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) password_hash: Option<String>,
}

/// Why an account could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountsError {
    #[error("no connection to the database in time")]
    NoConnection,
    #[error("the database did not answer in time")]
    NoAnswer,
    #[error("no connection to the database: {0}")]
    Connect(String),
    #[error("the database refused: {0}")]
    Refused(#[from] diesel::result::Error),
}

/// How long a connection, and then an answer, may take. The pool itself would wait for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a query on whichever database it is: the same words, with another type of connection.
macro_rules! ask {
    ($accounts:expr, $connection:ident => $query:expr) => {
        match $accounts {
            Accounts::Postgres(store) => {
                let pool = store.pool().clone();
                in_task(async move {
                    let $connection = &mut connected(pool.get()).await?;
                    Ok($query.await?)
                })
                .await
            }
            Accounts::Sqlite(store) => {
                let pool = store.pool().clone();
                in_task(async move {
                    let $connection = &mut connected(pool.get()).await?;
                    Ok($query.await?)
                })
                .await
            }
        }
    };
}

impl Accounts {
    /// Opens the database, and brings its tables to the newest version; with `cold.migrate = false` it
    /// refuses a database whose tables are not, and makes none.
    pub(crate) async fn open(config: &ColdConfig) -> Result<Self, StoreError> {
        if !config.migrate {
            cold::existing(config).await?;
        }
        if config.url.starts_with("sqlite:") {
            let store = SqliteStore::open(config)?;
            // Of tables that are there it changes nothing, and counts this node among those that run.
            store.migrate().await?;
            Ok(Self::Sqlite(store))
        } else {
            let store = PostgresStore::open(config)?;
            if config.migrate {
                store.migrate().await?;
            }
            Ok(Self::Postgres(store))
        }
    }

    /// The same database as the tiers' cold store.
    pub(crate) fn store(&self) -> Arc<dyn ColdStore> {
        match self {
            Self::Postgres(store) => Arc::new(store.clone()),
            Self::Sqlite(store) => Arc::new(store.clone()),
        }
    }

    /// The account of an active user; `None` if there is none of this name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Account>, AccountsError> {
        // PostgreSQL's text cannot hold it, so no name does.
        if name.contains('\0') {
            return Ok(None);
        }
        let query = users::table
            .filter(users::username.eq(name.to_owned()))
            .filter(users::is_active.eq(true))
            .select((users::id, users::password_hash));
        ask!(self, connection => async { query.first::<Account>(connection).await.optional() })
    }

    /// The hash of an active user's password, if there is one.
    pub(crate) async fn password_hash(&self, id: UserId) -> Result<Option<String>, AccountsError> {
        let UserId::Int(id) = id else {
            return Ok(None);
        };
        let query = users::table
            .filter(users::id.eq(id))
            .filter(users::is_active.eq(true))
            .select(users::password_hash);
        let found = ask!(self, connection => async {
            query.first::<Option<String>>(connection).await.optional()
        })?;
        Ok(found.flatten())
    }

    /// Gives an active user another password, unless the hash is not `known` any more, and ends all
    /// sessions of the user but one, in one transaction. Returns which it ended; `None` if nothing was
    /// changed.
    ///
    /// The sessions are changed by plain SQL, which all nodes obey as they obey the tiers.
    pub(crate) async fn change_password(
        &self,
        id: UserId,
        known: String,
        hash: String,
        but: SessionId,
    ) -> Result<Option<Vec<SessionId>>, AccountsError> {
        #[derive(QueryableByName)]
        struct Ended {
            #[diesel(sql_type = Text)]
            id: String,
        }
        let UserId::Int(id) = id else {
            return Ok(None);
        };
        let end = match self {
            Self::Postgres(_) => {
                "UPDATE sessions SET is_active = false, revoked_at = now() \
                 WHERE user_id = $1 AND is_active AND revoked_at IS NULL AND id <> $2::uuid \
                 RETURNING id::text AS id"
            }
            Self::Sqlite(_) => {
                "UPDATE sessions SET is_active = false, \
                 revoked_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) \
                 WHERE user_id = ?1 AND is_active AND revoked_at IS NULL AND id <> ?2 \
                 RETURNING id"
            }
        };
        // The user before the sessions: logins lock the same rows in this order.
        let user = users::table
            .filter(users::id.eq(id))
            .filter(users::password_hash.eq(known))
            .filter(users::is_active.eq(true));
        let change = diesel::update(user).set(users::password_hash.eq(Some(hash)));
        let end = diesel::sql_query(end)
            .bind::<BigInt, _>(id)
            .bind::<Text, _>(but.to_string());
        let ended = ask!(self, connection => connection.transaction(async |connection| {
            if change.execute(connection).await? == 0 {
                return Ok(None);
            }
            end.load::<Ended>(connection).await.map(Some)
        }))?;
        let ids = |ended: Vec<Ended>| ended.into_iter().filter_map(|row| row.id.parse().ok());
        Ok(ended.map(|ended| ids(ended).collect()))
    }

    /// Adds the demo users that are missing. Several instances may do so at once.
    pub(crate) async fn add_demo_users(&self, passwords: &Passwords) -> Result<(), Failure> {
        for name in DEMO_USERS {
            let query = users::table
                .filter(users::username.eq(name))
                .select(users::id);
            let known = ask!(self, connection => async {
                query.first::<i64>(connection).await.optional()
            })?;
            if known.is_some() {
                continue;
            }
            let hash = passwords.hash(DEMO_PASSWORD.into()).await?;
            let insert = diesel::insert_into(users::table)
                .values((
                    users::email.eq(format!("{name}@example.com")),
                    users::username.eq(name),
                    users::password_hash.eq(hash),
                ))
                .on_conflict_do_nothing();
            ask!(self, connection => insert.execute(connection))?;
        }
        Ok(())
    }

    /// Keeps this secret in the database, unless one is kept there; returns the one that is.
    pub(crate) async fn keep_secret(&self, secret: String) -> Result<String, AccountsError> {
        const NAME: &str = "session key";
        /// Two instances that make the table at the same moment would fail on its name, so they
        /// take turns ("secrets" in ASCII); all of it is one transaction.
        const TABLE: &str = "SELECT pg_advisory_xact_lock(x'73656372657473'::bigint); \
             CREATE TABLE IF NOT EXISTS webapp_secrets (name text PRIMARY KEY, secret text NOT NULL);";
        let insert = diesel::insert_into(webapp_secrets::table)
            .values((
                webapp_secrets::name.eq(NAME),
                webapp_secrets::secret.eq(secret),
            ))
            .on_conflict_do_nothing();
        let kept = webapp_secrets::table
            .find(NAME)
            .select(webapp_secrets::secret);
        ask!(self, connection => async {
            connection.batch_execute(TABLE).await?;
            insert.execute(connection).await?;
            kept.first(connection).await
        })
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres(_) => "Accounts::Postgres",
            Self::Sqlite(_) => "Accounts::Sqlite",
        })
    }
}

async fn connected<T, E: fmt::Display>(
    connection: impl Future<Output = Result<T, E>>,
) -> Result<T, AccountsError> {
    match tokio::time::timeout(PATIENCE, connection).await {
        Ok(connection) => connection.map_err(|error| AccountsError::Connect(error.to_string())),
        Err(_) => Err(AccountsError::NoConnection),
    }
}

/// Drives a query to its end even if nobody waits for it any more: a connection that is left in
/// the middle of one must not go back to the pool.
async fn in_task<T: Send + 'static>(
    query: impl Future<Output = Result<T, AccountsError>> + Send + 'static,
) -> Result<T, AccountsError> {
    match tokio::time::timeout(2 * PATIENCE, tokio::spawn(query)).await {
        Ok(Ok(answer)) => answer,
        _ => Err(AccountsError::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use tower_session::{Login, Strictness, TierConfig, Tiers, TokenKeys};

    use super::*;

    #[tokio::test]
    async fn of_two_changes_of_one_password_the_later_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = ColdConfig {
            url: format!("sqlite://{}/users.db", folder.path().display()),
            ..ColdConfig::default()
        };
        let accounts = Accounts::open(&config).await.unwrap();
        let passwords = Passwords::new().unwrap();
        accounts.add_demo_users(&passwords).await.unwrap();
        let ada = accounts.find("ada").await.unwrap().unwrap();
        let (id, known) = (ada.id.into(), ada.password_hash.unwrap());
        let replace = |hash: &str| {
            accounts.change_password(id, known.clone(), hash.into(), SessionId::random())
        };
        assert!(replace("first").await.unwrap().is_some());
        assert!(replace("second").await.unwrap().is_none());
        let kept = accounts.password_hash(id).await.unwrap();
        assert_eq!(kept.as_deref(), Some("first"));
        let bob = accounts.find("bob").await.unwrap().unwrap();
        assert_ne!(bob.password_hash.as_deref(), Some("first"));
    }

    #[tokio::test]
    async fn a_change_ends_the_other_sessions_in_its_own_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = TierConfig::default();
        config.cold.url = format!("sqlite://{}/users.db", folder.path().display());
        let accounts = Accounts::open(&config.cold).await.unwrap();
        let passwords = Passwords::new().unwrap();
        accounts.add_demo_users(&passwords).await.unwrap();
        let tiers = Tiers::<()>::builder(config, TokenKeys::random()).store(accounts.store());
        let tiers = tiers.start().await.unwrap();
        let (ada, bob) = (
            accounts.find("ada").await.unwrap().unwrap(),
            accounts.find("bob").await.unwrap().unwrap(),
        );
        let login = async |user: i64| {
            let issued = tiers.login(Login::user(user)).await.unwrap();
            issued.session.id()
        };
        let (own, phone, laptop) = (
            login(ada.id).await,
            login(ada.id).await,
            login(ada.id).await,
        );
        let bobs = login(bob.id).await;
        let live = async |id| tiers.find_strict(id, Strictness::Row).await.is_ok();
        let (id, known) = (ada.id.into(), ada.password_hash.unwrap());
        let none = accounts.change_password(id, "another".into(), "new".into(), own);
        assert_eq!(none.await.unwrap(), None);
        assert!(live(phone).await, "nothing was changed");

        let ended = accounts.change_password(id, known, "new".into(), own).await;
        let mut ended = ended.unwrap().unwrap();
        ended.sort();
        let mut expected = vec![phone, laptop];
        expected.sort();
        assert_eq!(ended, expected);
        assert!(!live(phone).await && !live(laptop).await);
        assert!(live(own).await && live(bobs).await);
    }
}
