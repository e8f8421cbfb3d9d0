//! What is predicted: rates, and bytes.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

/// What a workload costs, by a configuration. Rates are of the whole service, per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prediction {
    /// How many nodes share it.
    pub nodes: u32,
    /// Lookups, by the tier that answers.
    pub lookups: Lookups,
    /// Statements.
    pub sql: Sql,
    /// Commands, and what Redis tells its listeners.
    pub redis: Redis,
    /// What is held.
    pub held: Held,
}

/// Lookups per second, by the tier that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lookups {
    /// No I/O.
    pub hot: f64,
    /// One `GET`.
    pub warm: f64,
    /// A row of a statement.
    pub cold: f64,
}

impl Lookups {
    /// All of them.
    pub fn all(&self) -> f64 {
        self.hot + self.warm + self.cold
    }
}

/// Statements per second, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sql {
    /// Statements that load sessions, alone or together.
    pub load: f64,
    /// Rows that they load: as many as there would be statements without batches.
    pub loaded_rows: f64,
    /// Polls of the feed.
    pub poll: f64,
    /// Statements that note when sessions were last seen.
    pub touch: f64,
    /// Rows that they write.
    pub touched_rows: f64,
    /// Sessions begun, revoked and changed.
    pub write: f64,
    /// What was written, read back.
    pub read_back: f64,
    /// Heartbeats of the connections that hear notifications, and prunings.
    pub upkeep: f64,
}

impl Sql {
    /// All statements.
    pub fn all(&self) -> f64 {
        self.load + self.poll + self.touch + self.write + self.read_back + self.upkeep
    }
}

/// Commands per second, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Redis {
    /// Lookups.
    pub get: f64,
    /// Leases.
    pub set: f64,
    /// Records that are kept.
    pub evalsha: f64,
    /// `PING`, `DBSIZE` and `INFO`.
    pub upkeep: f64,
    /// Messages to listeners, one to each node for each write.
    pub messages: f64,
}

impl Redis {
    /// All commands.
    pub fn all(&self) -> f64 {
        self.get + self.set + self.evalsha + self.upkeep
    }
}

/// What is held, where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    /// Sessions in the hot tier of a node.
    pub hot_entries: f64,
    /// Their bytes, as the tier weighs them.
    pub hot_bytes: f64,
    /// Floors of a node.
    pub floors: f64,
    /// Their bytes.
    pub floor_bytes: f64,
    /// Records in Redis.
    pub warm_records: f64,
    /// Their bytes.
    pub warm_bytes: f64,
    /// Sessions in the database, those that are over among them.
    pub rows: f64,
    /// Their bytes.
    pub row_bytes: f64,
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = f64::from(self.nodes);
        let all = self.lookups.all();
        let rate = |f: &mut fmt::Formatter<'_>, what: &str, rate: f64| {
            writeln!(
                f,
                "  {what:<34} {:>14} {:>12}",
                Rate(rate),
                Rate(rate / nodes)
            )
        };
        writeln!(
            f,
            "{:<36} {:>14} {:>12}",
            "per second", "in all", "per node"
        )?;
        writeln!(f, "lookups")?;
        for (tier, hits) in [
            ("hot", self.lookups.hot),
            ("warm", self.lookups.warm),
            ("cold", self.lookups.cold),
        ] {
            let percent = format!("{tier:<6} {:>9.4} %", 100.0 * hits / all);
            rate(f, &percent, hits)?;
        }
        writeln!(f, "statements")?;
        let sql = &self.sql;
        for (what, count) in [
            ("loads", sql.load),
            ("polls of the feed", sql.poll),
            ("touches", sql.touch),
            ("writes", sql.write),
            ("what was written, read back", sql.read_back),
            ("heartbeats and prunings", sql.upkeep),
            ("all", sql.all()),
        ] {
            rate(f, what, count)?;
        }
        rate(f, "rows loaded", sql.loaded_rows)?;
        rate(f, "rows touched", sql.touched_rows)?;
        writeln!(f, "Redis")?;
        let redis = &self.redis;
        for (what, count) in [
            ("GET", redis.get),
            ("SET (leases)", redis.set),
            ("EVALSHA (records)", redis.evalsha),
            ("PING, DBSIZE, INFO", redis.upkeep),
            ("all commands", redis.all()),
            ("messages to listeners", redis.messages),
        ] {
            rate(f, what, count)?;
        }
        let held = &self.held;
        writeln!(f, "held")?;
        for (what, count, bytes) in [
            ("hot sessions, on a node", held.hot_entries, held.hot_bytes),
            ("floors, on a node", held.floors, held.floor_bytes),
            ("records in Redis", held.warm_records, held.warm_bytes),
            ("rows in the database", held.rows, held.row_bytes),
        ] {
            let bytes = ByteSize::b(bytes as u64);
            writeln!(
                f,
                "  {what:<34} {:>14} {:>12}",
                Rate(count),
                bytes.to_string()
            )?;
        }
        Ok(())
    }
}

/// A number in three or more figures, with a comma between thousands.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            small if small < 100.0 => format!("{small:.2}"),
            large => {
                let digits = format!("{large:.0}");
                let mut text = String::new();
                for (at, digit) in digits.chars().enumerate() {
                    if at > 0 && (digits.len() - at) % 3 == 0 {
                        text.push(',');
                    }
                    text.push(digit);
                }
                text
            }
        };
        f.pad_integral(true, "", &text)
    }
}
