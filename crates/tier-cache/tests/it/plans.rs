//! What PostgreSQL makes of the statements: their costs by the planner's estimate, on a server with its
//! default settings. A statement above `jit_above_cost` is compiled at each execution, which takes a
//! hundred times as long as to run it.

use std::collections::BTreeMap;
use std::time::Duration;

use session_core::{Key, KeyHash, Mark, Version};
use testbed::{Cluster, Database};
use tier_cache::cold::{
    Change, ColdStore, Limit, NewSession, PostgresStore, Retention, Scope, WhenFull,
};

use crate::cold::{LATER, config, millis, new};
use crate::support::Cold;

/// The default of `jit_above_cost`.
const COMPILED: f64 = 100_000.0;
/// On tables that hold next to nothing.
const CHEAP: f64 = 1_000.0;
const SESSIONS: i64 = 1_000_000;
const USERS: i64 = 10_000;

/// A part of the text of the one statement that has to read all of a large table: `stats`, for operators.
const WHOLE_TABLE: &str = "AS standing";

/// A server that logs the plan of each statement, also of those in functions and triggers.
struct Explained {
    cluster: Cluster,
    cold: Cold,
    store: PostgresStore,
}

impl Explained {
    async fn start() -> Self {
        let cluster = Cluster::builder()
            .config("session_preload_libraries", "auto_explain")
            .config("auto_explain.log_min_duration", "0")
            .config("auto_explain.log_nested_statements", "on")
            .config("auto_explain.log_format", "json")
            .start();
        let cold = Cold::Postgres(cluster.database());
        let store = PostgresStore::open(&config(&cold)).unwrap();
        store.migrate().await.unwrap();
        // Each state lasts as long as it is looked at.
        for table in [
            "sessions",
            "users",
            "session_users",
            "session_tombstones",
            "session_history",
        ] {
            cold.sql(&format!(
                "ALTER TABLE {table} SET (autovacuum_enabled = off)"
            ));
        }
        Self {
            cluster,
            cold,
            store,
        }
    }

    fn database(&self) -> &Database {
        match &self.cold {
            Cold::Postgres(database) => database,
            Cold::Sqlite(_) => unreachable!(),
        }
    }

    /// A hundred sessions for each user; quickly, round the triggers.
    fn fill(&self) {
        self.database().sql(&format!(
            "SET auto_explain.log_min_duration = -1; INSERT INTO users (id, email, username) SELECT 1000000 + n, n || '@example.com', 'user' || n FROM generate_series(1, {USERS}) n; \
             INSERT INTO session_users (user_id) SELECT id FROM users; \
             ALTER TABLE sessions DISABLE TRIGGER ALL; \
             INSERT INTO sessions (id, user_id, expires_at, access_jti, refresh_token_hash, version, changed_at_mark) \
                SELECT gen_random_uuid(), 1000001 + n % {USERS}, now() + n * interval '1 second', decode(md5('a' || n), 'hex'), \
                    decode(md5('r' || n), 'hex'), 1 + n % 3, n % 700 FROM generate_series(1, {SESSIONS}) n; \
             INSERT INTO session_tombstones (id, mark) SELECT gen_random_uuid(), n % 700 FROM generate_series(1, 10000) n; \
             ALTER TABLE sessions ENABLE TRIGGER ALL; SELECT sessions_begin_lineage()"
        ));
    }

    /// Does all that a store does, several times, so that prepared statements get plans for any
    /// parameters too. Returns the highest cost of each statement.
    async fn costs(&self) -> BTreeMap<String, f64> {
        let before = self.cluster.log().len();
        for _ in 0..7 {
            self.use_all().await;
        }
        self.store.recent(millis(0), 1000).await.unwrap();
        self.store.stats(millis(0)).await.unwrap();
        let log = self.cluster.log();
        let mut costs = BTreeMap::new();
        for plan in plans(&log[before..]) {
            let query = plan["Query Text"].as_str().unwrap();
            let cost = plan["Plan"]["Total Cost"].as_f64().unwrap();
            let highest = costs.entry(in_one_line(query)).or_insert(0.0);
            *highest = cost.max(*highest);
        }
        costs
    }

    async fn use_all(&self) {
        let store = &self.store;
        let user = self.database().sql(
            "INSERT INTO users (email, username) VALUES (gen_random_uuid()::text, gen_random_uuid()::text) RETURNING id",
        );
        let user: i64 = user.trim().parse().unwrap();
        let of_user = |session: NewSession| NewSession {
            user: Some(user.into()),
            ..session
        };
        let (first, second, third) = (new(0, LATER), new(0, LATER), new(0, LATER));
        let (first_id, second_id) = (first.id, second.id);
        let keep = |when_full| Some(Limit { most: 2, when_full });
        store.create(of_user(first), None).await.unwrap();
        store
            .create(of_user(second), keep(WhenFull::RevokeOldest))
            .await
            .unwrap();
        let replacing = NewSession {
            replaces: Some((second_id, Version::FIRST)),
            ..of_user(third)
        };
        store
            .create(replacing, keep(WhenFull::Refuse))
            .await
            .unwrap();
        let guest = new(0, LATER);
        let guest_id = guest.id;
        store.create(guest, None).await.unwrap();

        let (access, refresh) = (KeyHash::from_bytes([1; 16]), KeyHash::from_bytes([2; 16]));
        for key in [
            Key::Id(first_id),
            Key::AccessJti(access),
            Key::Refresh(refresh),
        ] {
            store.load(key).await.unwrap();
        }
        let ids = [first_id, second_id, guest_id].map(Key::Id);
        let mixed = [
            Key::Id(first_id),
            Key::AccessJti(access),
            Key::Refresh(refresh),
        ];
        let accesses = [
            Key::AccessJti(access),
            Key::AccessJti(KeyHash::from_bytes([3; 16])),
        ];
        for keys in [&ids[..], &accesses[..], &mixed[..]] {
            store.load_many(keys.to_vec()).await.unwrap();
        }
        store.version(first_id).await.unwrap();
        let change = Change {
            label: Some("phone".into()),
            data: Some("{}".into()),
            ..Change::default()
        };
        assert!(
            store
                .update(first_id, Version::FIRST, change)
                .await
                .unwrap()
        );
        let seen = [first_id, guest_id].map(|id| (id, millis(LATER)));
        store
            .touch(seen.to_vec(), Duration::from_secs(60))
            .await
            .unwrap();
        store
            .list(user.into(), millis(0), None, 1000)
            .await
            .unwrap();
        let since = store.changes(Mark::ZERO, 100_000).await.unwrap();
        store.changes(since.up_to, 100_000).await.unwrap();
        store.renew_lineage(since.lineage).await.unwrap();
        self.cold.sql(&format!(
            "UPDATE users SET username = username || 'x' WHERE id = {user}"
        ));
        store.revoke(first_id, millis(0)).await.unwrap();
        store
            .revoke_all(Scope::user(user).only(second_id), millis(0), 1000)
            .await
            .unwrap();
        store
            .revoke_all(Scope::user(user), millis(0), 1000)
            .await
            .unwrap();
        let keep = Retention {
            tombstones: Duration::from_secs(60),
            expired: Duration::from_secs(60),
        };
        store.prune(millis(0), keep, 1000).await.unwrap();
        self.cold.sql(&format!(
            "DELETE FROM sessions WHERE id = '{guest_id}'; DELETE FROM users WHERE id = {user}"
        ));
    }
}

/// The plans in a log: JSON, indented by a tab, after a line that ends with `plan:`.
fn plans(log: &str) -> Vec<serde_json::Value> {
    let mut plans = Vec::new();
    let mut lines = log.lines();
    while let Some(line) = lines.next() {
        if line.ends_with("plan:") {
            let json: Vec<&str> = lines
                .by_ref()
                .map_while(|line| line.strip_prefix('\t'))
                .collect();
            plans.push(serde_json::from_str(&json.join("\n")).unwrap());
        }
    }
    plans
}

fn in_one_line(query: &str) -> String {
    query.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_is_estimated_so_dear_that_it_is_compiled() {
    let filled_later = Explained::start().await;
    let empty = filled_later.costs().await;
    filled_later.fill();
    let never_analysed = filled_later.costs().await;
    filled_later.cold.sql("ANALYZE");
    let analysed = filled_later.costs().await;
    let analysed_first = Explained::start().await;
    analysed_first.cold.sql("ANALYZE");
    analysed_first.fill();
    let analysed_when_empty = analysed_first.costs().await;
    let mut dear = Vec::new();
    for (state, costs, most) in [
        ("empty", &empty, CHEAP),
        ("filled, never analysed", &never_analysed, COMPILED),
        ("filled, analysed", &analysed, COMPILED),
        (
            "filled, analysed when empty",
            &analysed_when_empty,
            COMPILED,
        ),
    ] {
        assert!(costs.len() > 30, "{state}: {} statements", costs.len());
        for (query, cost) in costs {
            println!("{cost:12.2} {state}: {}", &query[..query.len().min(150)]);
            if *cost > most && !query.contains(WHOLE_TABLE) {
                dear.push(format!("{state}: {cost} for {query}"));
            }
        }
    }
    assert!(dear.is_empty(), "{}", dear.join("\n"));
}
