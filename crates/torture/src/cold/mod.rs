//! The database of a run.
//!
//! | file | says |
//! |---|---|
//! | `mod.rs` | what both kinds can do |
//! | `postgres.rs` | a PostgreSQL of its own, with a copy that takes reads |
//! | `sqlite.rs` | a SQLite file |

mod postgres;
mod sqlite;

use std::collections::HashMap;

use testbed::Error;

use crate::history::Row;
use crate::{Plan, Store};

pub(crate) use postgres::{Postgres, signal};
pub(crate) use sqlite::Sqlite;

pub(crate) enum Cold {
    Postgres(Box<Postgres>),
    Sqlite(Sqlite),
}

/// A session, as the database has it.
pub(crate) struct Found {
    pub(crate) row: Row,
    pub(crate) count: u64,
    /// The hash of its access token, in hexadecimal.
    pub(crate) access: String,
}

impl Cold {
    pub(crate) fn start(plan: &Plan) -> Self {
        match plan.store {
            Store::Postgres => Self::Postgres(Box::new(Postgres::start(plan))),
            Store::Sqlite => Self::Sqlite(Sqlite::create()),
        }
    }

    /// What nodes are told of it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Postgres(postgres) => postgres.settings(),
            Self::Sqlite(sqlite) => vec![("SESSION_COLD__URL", sqlite.file.url())],
        }
    }

    /// Runs statements; an error if the database is down.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, Error> {
        match self {
            Self::Postgres(postgres) => postgres.database.try_sql(sql),
            Self::Sqlite(sqlite) => sqlite.try_sql(sql),
        }
    }

    /// All sessions that it has, by their ids, read in one snapshot.
    pub(crate) fn sessions(&self) -> Result<HashMap<String, Found>, Error> {
        let hex = match self {
            Self::Postgres(_) => "encode(access_jti, 'hex')",
            Self::Sqlite(_) => "lower(hex(access_jti))",
        };
        let lines = self.try_sql(&format!(
            "SELECT id, version, CASE WHEN is_active AND revoked_at IS NULL THEN 1 ELSE 0 END, \
                coalesce(data ->> 'tag', '0'), coalesce(data ->> 'count', '0'), coalesce({hex}, '') \
             FROM sessions"
        ))?;
        let found = lines
            .lines()
            .map(|line| found(line).unwrap_or_else(|| panic!("no session can be read in: {line}")));
        Ok(found.collect())
    }

    /// Connections of the nodes, which are these processes.
    pub(crate) fn connections(&self, nodes: &[u32]) -> u64 {
        match self {
            Self::Postgres(postgres) => postgres.connections(),
            Self::Sqlite(sqlite) => sqlite.connections(nodes),
        }
    }

    /// It runs again.
    pub(crate) fn heal(&self) {
        if let Self::Postgres(postgres) = self {
            postgres.heal();
        }
    }
}

fn found(line: &str) -> Option<(String, Found)> {
    let mut fields = line.split('|');
    let number = |field: Option<&str>| field.and_then(|field| field.parse::<u64>().ok());
    let id = fields.next()?.to_owned();
    let row = Row {
        version: i64::try_from(number(fields.next())?).ok()?,
        active: number(fields.next())? == 1,
        tag: number(fields.next())?,
    };
    let found = Found {
        row,
        count: number(fields.next())?,
        access: fields.next()?.to_owned(),
    };
    Some((id, found))
}
