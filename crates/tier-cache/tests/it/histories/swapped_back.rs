//! A database that is swapped for another one, and swapped back: it brings the lineage along under which
//! Redis may hold what was read from the other one meanwhile.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tier_cache::{Login, Refusal, Strictness, TierConfig, Tiers};

use super::files::Backup;
use super::{Known, World, has_polled, is, must_refuse};
use crate::support::{Basket, Cold, Service, eventually};

/// A session that is revoked in the right database, and not in the wrong one, where its row is of a higher
/// version.
const CHANGES: &str = "UPDATE sessions SET label = 'x'; UPDATE sessions SET label = 'y'; UPDATE sessions SET label = 'z'";

fn revoke(known: &Known) -> String {
    let id = known.id;
    format!("UPDATE sessions SET is_active = false WHERE id = '{id}'")
}

/// Reads the wrong database, and has Redis keep it.
async fn is_read(node: &Tiers<Basket>, known: &Known) -> bool {
    let found = node
        .find_strict(known.access.clone(), Strictness::Row)
        .await;
    found.is_ok_and(|session| session.version().get() == 4)
}

/// Each node of before, and one that starts now, with their caches in use.
async fn must_all_refuse(world: &World, config: TierConfig, known: &Known, why: &Refusal) {
    let later = world.service.node_with(config).await;
    for node in [&world.here, &world.there, &later] {
        assert!(node.health().is_trusting());
        let found = node.find(known.access.clone()).await;
        assert!(is(&found, why), "{found:?}");
    }
}

/// The file of a service, and a backup of it that takes its place by mistake.
struct Files {
    database: PathBuf,
    backup: PathBuf,
    /// Where the file itself is meanwhile.
    away: PathBuf,
}

impl Files {
    fn of(service: &Service) -> Self {
        let Backup { database, backup } = Backup::of(service);
        Self {
            away: database.with_extension("away"),
            backup,
            database,
        }
    }

    fn swap(&self) {
        fs::rename(&self.database, &self.away).unwrap();
        fs::rename(&self.backup, &self.database).unwrap();
    }

    fn swap_back(&self) {
        fs::rename(&self.database, &self.backup).unwrap();
        fs::rename(&self.away, &self.database).unwrap();
    }
}

/// A file whose session is revoked, and which is about to be swapped for a backup where it is not.
struct Mistake {
    world: World,
    config: TierConfig,
    files: Files,
    known: Known,
    lineage: String,
}

impl Mistake {
    /// Just after a poll, of feeds that ask so seldom that a test can do something before the next.
    async fn prepared(nodes: usize) -> Self {
        let service = Service::new(Cold::sqlite());
        let mut config = service.config();
        config.fence.poll_interval = Duration::from_secs(1);
        let here = service.node_with(config.clone()).await;
        let there = match nodes {
            1 => here.clone(),
            _ => service.node_with(config.clone()).await,
        };
        let world = World {
            service,
            here,
            there,
        };
        let known = world.login().await;
        let files = Files::of(&world.service);
        let backup = files.backup.display();
        world.sql(&format!(".open '{backup}'\n{CHANGES};"));
        for _ in 0..10 {
            // The marks of the file are above those of the backup.
            world.login().await;
        }
        let revoke = revoke(&known);
        // All of it is in the file itself.
        world.sql(&format!("{revoke}; PRAGMA wal_checkpoint(TRUNCATE)"));
        for node in [&world.there, &world.here] {
            must_refuse(node, &known, &Refusal::Revoked).await;
            has_polled(node).await;
        }
        let lineage = world.sql("SELECT lineage FROM session_history");
        Self {
            world,
            config,
            files,
            known,
            lineage,
        }
    }

    /// Whether no feed has noticed yet that the wrong file, which is at a path now, is another.
    fn is_unnoticed(&self, path: &std::path::Path) -> bool {
        let lineage = "SELECT lineage FROM session_history";
        let path = path.display();
        let lineage = self.world.sql(&format!(".open '{path}'\n{lineage};"));
        lineage == self.lineage
    }

    async fn must_be_over(self) {
        for node in [&self.world.here, &self.world.there] {
            has_polled(node).await;
        }
        must_all_refuse(&self.world, self.config, &self.known, &Refusal::Revoked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_file_is_read_and_noticed_and_then_the_right_one_is_back() {
    loop {
        let mistake = Mistake::prepared(2).await;
        let Mistake { world, files, .. } = &mistake;
        files.swap();
        assert!(is_read(&world.here, &mistake.known).await);
        if !mistake.is_unnoticed(&files.database) {
            continue;
        }
        eventually("the nodes begin a lineage of the wrong file", async || {
            !mistake.is_unnoticed(&files.database)
        })
        .await;
        for node in [&world.here, &world.there] {
            has_polled(node).await;
        }
        files.swap_back();
        return mistake.must_be_over().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_file_is_read_and_the_right_one_is_back_before_any_feed_asks() {
    loop {
        let mistake = Mistake::prepared(1).await;
        let Mistake { world, files, .. } = &mistake;
        files.swap();
        assert!(is_read(&world.here, &mistake.known).await);
        files.swap_back();
        if mistake.is_unnoticed(&files.backup) {
            return mistake.must_be_over().await;
        }
    }
}

/// What was in the log alone is lost, if somebody removes what the nodes set aside; Redis has it still.
#[tokio::test(flavor = "multi_thread")]
async fn the_right_file_is_back_without_its_log() {
    let world = World::on(Cold::sqlite()).await;
    let files = Files::of(&world.service);
    world.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let begun = world.login().await;
    files.swap();
    for node in [&world.here, &world.there] {
        must_refuse(node, &begun, &Refusal::Unknown).await;
    }
    let folder = files.database.parent().unwrap();
    let beside = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let is_log = |file: &PathBuf| file.to_str().unwrap().contains("-wal.of-file-");
    let logs: Vec<PathBuf> = beside.filter(is_log).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    fs::remove_file(&logs[0]).unwrap();
    files.swap_back();
    for node in [&world.here, &world.there] {
        has_polled(node).await;
    }
    let id = begun.id;
    let count = world.sql(&format!("SELECT count(*) FROM sessions WHERE id = '{id}'"));
    assert_eq!(count.trim(), "0", "the login was lost");
    let config = world.service.config();
    must_all_refuse(&world, config, &begun, &Refusal::Unknown).await;
}

/// By the names of schemas; of databases it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_tables_are_read_and_noticed_and_then_the_right_ones_are_back() {
    let service = Service::new(Cold::postgres());
    // A feed that asks when it is told to.
    let mut config = service.quiet();
    config.cold.notify = true;
    let (here, there) = (
        service.node_with(config.clone()).await,
        service.node_with(config.clone()).await,
    );
    let world = World {
        service,
        here,
        there,
    };
    let known = world.login().await;
    let dump = world.database().run("pg_dump", &[]);
    let schema = |from: &str, to: &str| format!("ALTER SCHEMA {from} RENAME TO {to}");
    world.sql(&format!(
        "BEGIN; {}; CREATE SCHEMA public; {dump}; SET search_path TO public; {CHANGES}; {}; {}; COMMIT",
        schema("public", "aside"),
        schema("public", "wrong"),
        schema("aside", "public"),
    ));
    let poll = async || {
        // Until it listens, a node hears nothing.
        eventually("the nodes ask", async || {
            world.sql("NOTIFY session_changes, 'public'");
            tokio::time::sleep(Duration::from_millis(100)).await;
            [&world.here, &world.there]
                .iter()
                .all(|node| node.health().feed_lag_ms.is_some_and(|lag| lag < 100))
        })
        .await;
    };
    world.sql(&revoke(&known));
    for node in [&world.here, &world.there] {
        must_refuse(node, &known, &Refusal::Revoked).await;
    }
    let lineage = || world.sql("SELECT lineage FROM session_history");
    let first = lineage();
    world.sql(&format!(
        "BEGIN; {}; {}; COMMIT",
        schema("public", "right_one"),
        schema("wrong", "public")
    ));
    assert!(is_read(&world.here, &known).await);
    poll().await;
    assert_ne!(lineage(), first);
    world.sql(&format!(
        "BEGIN; {}; {}; COMMIT",
        schema("public", "wrong"),
        schema("right_one", "public")
    ));
    assert_eq!(lineage(), first);
    poll().await;
    must_all_refuse(&world, config, &known, &Refusal::Revoked).await;
}

/// They share the log of the file again that one of them has set aside and put back.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_notices_a_swapped_file_and_the_other_does_not() {
    let service = Service::new(Cold::sqlite());
    let files = Files::of(&service);
    service.cold.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    // Each looks at the file when it is asked.
    let mut config = service.config();
    config.fence.poll_interval = Duration::from_secs(5);
    let here = service.node_with(config.clone()).await;
    let there = service.node_with(config).await;
    for node in [&here, &there] {
        node.login(Login::guest()).await.unwrap();
    }
    files.swap();
    let _ = here.login(Login::guest()).await;
    files.swap_back();
    for node in [&here, &there] {
        has_polled(node).await;
    }
    for node in [&here, &there] {
        let issued = node.login(Login::guest()).await.unwrap();
        for node in [&here, &there] {
            let access = issued.access.clone();
            node.find_strict(access, Strictness::Row).await.unwrap();
        }
        let id = issued.session.id();
        let count = format!("SELECT count(*) FROM sessions WHERE id = '{id}'");
        assert_eq!(service.cold.sql(&count).trim(), "1");
    }
    assert_eq!(service.cold.sql("PRAGMA integrity_check").trim(), "ok");
}
