//! The same on SQLite, whose statements run on a blocking thread.

use std::sync::Arc;

use bytesize::ByteSize;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{SqliteConnection, sql_query};
use diesel_async::RunQueryDsl;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use session_core::{SessionId, TokenKeys};
use tokio::runtime::Runtime;
use tower_session::tier_cache::cold::SqliteStore;
use tower_session::{Login, TierConfig, Tiers};

use crate::Failure;
use crate::chapter::Effort;
use crate::crowd::{Asker, Crowds};
use crate::report::Section;
use crate::sessions::Basket;

const TASKS: [usize; 3] = [1, 16, 256];

type Connection = SyncConnectionWrapper<SqliteConnection>;

pub(super) fn measure(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sessions.db");
    let mut config = TierConfig::default();
    config.cold.url = format!("sqlite://{}", path.display());
    config.hot.capacity = ByteSize::b(0);
    config.session.touch_interval = std::time::Duration::from_secs(60 * 60);
    let size = config.cold.pool_size;
    let (tiers, ids) = runtime.block_on(filled(config, effort.of(10_000, 1_000)))?;
    let manager = AsyncDieselConnectionManager::new(path.display().to_string());
    let pool: Pool<Connection> = Pool::builder(manager).max_size(size).build()?;

    let with = Arc::clone(&ids);
    let by_hand = Asker::new("a plain `SELECT` by hand", move || {
        plain(
            pool.clone(),
            with[fastrand::usize(..with.len())].to_string(),
        )
    });
    let askers = [by_hand, super::ours("**ours**", tiers, ids)];
    let crowds = Crowds::measure(runtime, &askers, &TASKS, effort);
    Ok(Section::default().table("cold-sqlite", crowds.table(&[])))
}

/// Tiers over a file with so many sessions of one user.
async fn filled(
    config: TierConfig,
    sessions: usize,
) -> Result<(Tiers<Basket>, Arc<[SessionId]>), Failure> {
    let store = SqliteStore::open(&config.cold)?;
    let tiers = Tiers::open(config, TokenKeys::random()).await?;
    sql_query("INSERT INTO users (id, email, username) VALUES (1, 'ada@example.com', 'ada')")
        .execute(&mut store.pool().get().await?)
        .await?;
    let mut ids = Vec::new();
    for _ in 0..sessions {
        let login = Login::user(1).data(Basket { items: 1 });
        ids.push(tiers.login(login).await?.session.id());
    }
    Ok((tiers, ids.into()))
}

/// What authentication needs, and the application's data.
#[derive(QueryableByName)]
struct Plain {
    #[diesel(sql_type = Nullable<Text>)]
    email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    username: Option<String>,
    #[diesel(sql_type = Bool)]
    is_active: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    revoked_at: Option<i64>,
    #[diesel(sql_type = BigInt)]
    expires_at: i64,
    #[diesel(sql_type = Text)]
    data: String,
}

async fn plain(pool: Pool<Connection>, id: String) {
    let mut connection = pool.get().await.expect("a connection");
    let query = sql_query(
        "SELECT u.email, u.username, s.is_active, s.revoked_at, s.expires_at, s.data \
         FROM sessions s LEFT JOIN users u ON u.id = s.user_id WHERE s.id = ?",
    );
    let row: Plain = query
        .bind::<Text, _>(id)
        .get_result(&mut connection)
        .await
        .expect("its row");
    let basket: Result<Basket, _> = serde_json::from_str(&row.data);
    assert!(row.is_active && row.revoked_at.is_none() && row.expires_at > 0);
    assert!(row.email.is_some() && row.username.is_some());
    assert_eq!(basket.map_or(0, |basket| basket.items), 1);
}
