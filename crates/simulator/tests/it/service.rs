//! A service of real nodes that plays a trace.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use session_core::{Key, SecretKey, SessionId, TokenKeys, TokenKind};
use simulator::{Counts, Event, Setting, What, Workload};
use testbed::{Database, Redis};
use tier_cache::{Clock, Credential, Login, Session, Tiers};

/// The application's data: so many characters.
type Data = String;

/// Nodes, their servers, and what the sessions in each place are found by.
pub(crate) struct Service {
    nodes: Vec<Tiers<Data>>,
    redis: Redis,
    database: Database,
    keys: TokenKeys,
    clock: Option<Clock>,
    workload: Workload,
    user: i64,
    places: Vec<(SessionId, Credential)>,
    /// Seconds of the trace that take one of ours.
    pace: f64,
    began: Instant,
    now: f64,
    meter: Meter,
}

impl Service {
    /// A database that holds a session in each place, an empty Redis, and nodes that have just
    /// started; by a clock that the events move, or by the system's. Since each node writes down uses
    /// once in a second of ours, that is how long it takes to play as much as the setting says.
    pub(crate) async fn start(
        setting: &Setting,
        clock: Option<Clock>,
        recorder: &DebuggingRecorder,
    ) -> Self {
        let Setting {
            mut config,
            workload,
            touches_every,
            ..
        } = setting.clone();
        let (redis, database) = (Redis::start(), Database::create());
        config.cold.url = database.url();
        config.warm.url = Some(redis.url());
        // The machine may be slow; what is counted here is not.
        config.warm.command_timeout = Duration::from_secs(10);
        config.warm.connect_timeout = Duration::from_secs(10);

        config.cold.statement_timeout = Duration::from_secs(30);
        config.cold.connect_timeout = Duration::from_secs(30);
        config.cold.load_timeout = Duration::from_secs(60);
        config.fence.staleness_bound = Duration::from_secs(24 * 60 * 60);
        config.fence.poll_interval = Duration::from_secs(60 * 60);

        let keys = TokenKeys::new(&SecretKey::random());
        let mut nodes = Vec::new();
        for _ in 0..workload.nodes {
            let mut builder = Tiers::builder(config.clone(), keys.clone());
            if let Some(clock) = &clock {
                builder = builder.clock(clock.clone());
            }
            nodes.push(builder.start().await.expect("the tiers open"));
        }
        let mut service = Self {
            nodes,
            redis,
            database,
            keys,
            clock,
            workload,
            user: 0,
            places: Vec::new(),
            pace: touches_every.as_secs_f64(),
            began: Instant::now(),
            now: 0.0,
            meter: Meter {
                snapshotter: recorder.snapshotter(),
                values: RefCell::default(),
            },
        };
        service.fill_database();
        service.began = Instant::now();
        service
    }

    fn fill_database(&mut self) {
        let (email, name) = (
            "somebody@example.com",
            "u".repeat(self.workload.name as usize - 20),
        );
        let added = self.database.sql(&format!(
            "INSERT INTO users (email, username) VALUES ('{email}', '{name}') RETURNING id"
        ));
        self.user = added.trim().parse().expect("an id");
        let mut rows = Vec::new();
        for place in 0..self.workload.sessions as u32 {
            let id = SessionId::random();
            let [access, refresh] = [TokenKind::Access, TokenKind::Refresh].map(|kind| match self
                .workload
                .is_foreign(place)
            {
                true => self.keys.hash_foreign(kind, &foreign(&format!("{place}"))),
                false => self.keys.hash(&self.keys.mint(kind, id)),
            });
            let credential = match self.workload.is_foreign(place) {
                true => Credential::from(Key::AccessJti(access)),
                false => Credential::from(id),
            };
            rows.push(format!(
                "('{id}', {}, now() + interval '30 days', '{}', '\"{}\"', '\\x{}', '\\x{}')",
                self.user,
                self.agent(),
                self.data(),
                hex(access.as_bytes()),
                hex(refresh.as_bytes())
            ));
            self.places.push((id, credential));
        }
        self.database.sql(&format!(
            "INSERT INTO sessions (id, user_id, expires_at, user_agent, data, access_jti, refresh_token_hash) VALUES {}",
            rows.join(",")
        ));
    }

    fn agent(&self) -> String {
        "a".repeat(self.workload.device as usize)
    }

    /// So long in JSON, with its quotes.
    fn data(&self) -> Data {
        "d".repeat(self.workload.data as usize - 2)
    }

    /// Plays an event; returns when all that it causes is done.
    pub(crate) async fn play(&mut self, event: &Event) {
        let due = self.began + Duration::from_secs_f64(event.at / self.pace);
        tokio::time::sleep_until(due.into()).await;
        if let Some(clock) = &self.clock {
            clock.advance(Duration::from_secs_f64(event.at - self.now));
        }
        self.now = event.at;
        let place = event.place as usize;
        match event.what {
            What::Request { body } => {
                let session = self.find(event).await;
                if body {
                    session.body().await.expect("a body");
                }
            }
            What::Login => self.log_in(event).await,
            What::Revocation => {
                let revoked = self.nodes[event.node as usize]
                    .revoke(self.places[place].0)
                    .await;
                revoked.expect("revoked");
                self.log_in(event).await;
            }
            What::Update => {
                let session = self.find(event).await;
                // Other data of the same length, or there is no change.
                let data = format!("{:0>1$}", event.at, self.workload.data as usize - 2);
                session
                    .update(|stored| *stored = data.clone())
                    .await
                    .expect("updated");
            }
        }
    }

    async fn find(&self, event: &Event) -> Session<Data> {
        let credential = self.places[event.place as usize].1.clone();
        self.nodes[event.node as usize]
            .find(credential)
            .await
            .expect("a session")
    }

    async fn log_in(&mut self, event: &Event) {
        let node = &self.nodes[event.node as usize];
        let device = session_core::Device {
            user_agent: Some(self.agent().into()),
            ..Default::default()
        };
        let login = Login::user(self.user).device(device).data(self.data());
        let login = login.ttl(Duration::from_secs(30 * 24 * 60 * 60));
        self.places[event.place as usize] = if self.workload.is_foreign(event.place) {
            let mut jti = String::new();
            write!(jti, "{} {}", event.place, event.at).expect("a string takes all");
            let session = node
                .adopt(login, Some(foreign(&jti)), Some(foreign(&jti)))
                .await
                .expect("adopted");
            let key = self.keys.hash_foreign(TokenKind::Access, &foreign(&jti));
            (session.id(), Key::AccessJti(key).into())
        } else {
            let issued = node.login(login).await.expect("logged in");
            (issued.session.id(), issued.access.into())
        };
    }

    /// What the nodes have counted so far; what they do not count is zero.
    pub(crate) fn counts(&self) -> Counts {
        self.meter.read();
        let count = |name: &str| self.meter.value(name) as u64;
        let lookups = |tier| count(&format!("session_lookups_total {tier}"));
        let queries = |op| count(&format!("session_db_queries_total {op}"));
        let commands = |command| count(&format!("session_redis_commands_total {command}"));
        Counts {
            hot: lookups("hot"),
            warm: lookups("warm"),
            cold: lookups("cold"),
            load: queries("load") + queries("load_many"),
            touched_rows: count("session_touches_total "),
            create: queries("create"),
            revoke: queries("revoke"),
            update: queries("update"),
            get: commands("GET"),
            set: commands("SET"),
            evalsha: commands("EVALSHA"),
            pushes: count("session_pushes_total sent"),
            ..Counts::default()
        }
    }

    /// Sessions in the hot tier of a node, and their bytes, when a node last looked.
    pub(crate) fn hot(&self) -> (f64, f64) {
        self.meter.read();
        let gauge = |what| self.meter.value(&format!("session_cached_{what} hot"));
        (gauge("entries"), gauge("bytes"))
    }

    /// Floors of a node, when one last looked.
    pub(crate) fn floors(&self) -> f64 {
        self.meter.value("session_floors ")
    }

    /// Records in Redis, and what they take.
    pub(crate) fn warm(&self) -> (f64, f64) {
        /// Redis counts a key and its value, but neither its entry among those that expire, nor the
        /// places of both in their tables.
        const TABLES: f64 = 56.0;
        const ADD_UP: &str = "local sum = 0 \
            for _, key in ipairs(redis.call('KEYS', '*')) do \
                sum = sum + redis.call('MEMORY', 'USAGE', key) \
            end \
            return sum";
        let number = |text: &str| text.trim().parse::<f64>().expect("a number");
        let records = number(&self.redis.cli(&["DBSIZE"]));
        let bytes = number(&self.redis.cli(&["EVAL", ADD_UP, "0"]));
        (records, bytes + TABLES * records)
    }

    /// Waits until every node has written down what was used.
    pub(crate) async fn wait_for_touches(&self) {
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    /// Waits until as many records were written as the simulator says, and all nodes have heard what was
    /// told. If it is wrong the test goes on a little later, and finds that out in the end.
    pub(crate) async fn settle(&self, records: u64) {
        let patience = Instant::now() + Duration::from_millis(50);
        let count = |name| {
            self.meter.read();
            self.meter.value(name) as u64
        };
        let written = || count("session_redis_commands_total EVALSHA");
        while written() < records && Instant::now() < patience {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        let heard = || count("session_pushes_total heard");
        let told = || count("session_pushes_total sent") * self.nodes.len() as u64;
        let patience = Instant::now() + Duration::from_secs(20);
        while heard() < told() {
            assert!(Instant::now() < patience, "{} of {} heard", heard(), told());
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        // What was sent last is on its way.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the nodes have counted so far, by name and label.
struct Meter {
    snapshotter: Snapshotter,
    values: RefCell<BTreeMap<String, f64>>,
}

impl Meter {
    fn read(&self) {
        let mut values = self.values.borrow_mut();
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let key = key.key();
            let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
            let name = format!("{} {}", key.name(), labels.join(","));
            let known = values.entry(name).or_default();
            // A snapshot takes all back to zero.
            match value {
                DebugValue::Counter(count) => *known += count as f64,
                DebugValue::Gauge(value) if value.into_inner() > 0.0 => *known = value.into_inner(),
                DebugValue::Gauge(_) | DebugValue::Histogram(_) => {}
            }
        }
    }

    fn value(&self, name: &str) -> f64 {
        self.values.borrow().get(name).copied().unwrap_or(0.0)
    }
}

fn foreign(id: &str) -> session_core::ForeignToken<'_> {
    session_core::ForeignToken::new("https://idp.example", id).unwrap()
}
