//! Finding a pooler before PostgreSQL that shares its connections between transactions.

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::postgres::PostgresStore;

impl PostgresStore {
    /// Whether two connections, open at the same time, are ever served by the same process of the server,
    /// or one of them by two: then something between shares the server's connections. `false` if that
    /// cannot be found out.
    pub(super) async fn is_behind_a_pooler(&self) -> bool {
        let deadlines = self.deadlines;
        let most = deadlines.connect.saturating_add(deadlines.statement);
        let found = timeout(most, self.found_shared()).await;
        found.ok().flatten().unwrap_or(false)
    }

    /// On connections of its own, which end with this, and without prepared statements, which some
    /// poolers confuse.
    async fn found_shared(&self) -> Option<bool> {
        const ROUNDS: usize = 3;
        let listener = &self.listener;
        let connect = async || listener.target.connect(listener.tls.clone()).await.ok();
        let ((one, first), (other, second)) = (connect().await?, connect().await?);
        let asking = async {
            let mut before = None;
            for _ in 0..ROUNDS {
                let processes = (serving(&one).await?, serving(&other).await?);
                if processes.0 == processes.1
                    || *before.get_or_insert(processes.clone()) != processes
                {
                    return Some(true);
                }
            }
            Some(false)
        };
        tokio::select! {
            found = asking => found,
            _ = first => None,
            _ = second => None,
        }
    }
}

/// The process of the server that serves this connection just now.
async fn serving(client: &Client) -> Option<String> {
    let rows = client.simple_query("SELECT pg_backend_pid()").await.ok()?;
    rows.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}
