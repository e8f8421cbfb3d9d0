//! SQLite files that are replaced by others of the same name, under running nodes and while none runs.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use session_core::SessionId;
use tier_cache::{Login, Refusal, Tiers};
use tokio_util::sync::CancellationToken;

use super::{World, must_refuse, must_serve};
use crate::support::{Basket, Cold, Service, eventually};

/// A backup beside the database, and how it takes its place.
pub(super) struct Backup {
    pub(super) database: PathBuf,
    pub(super) backup: PathBuf,
}

impl Backup {
    pub(super) fn of(service: &Service) -> Self {
        let Cold::Sqlite(file) = &service.cold else {
            unreachable!()
        };
        let database = file.path().to_owned();
        let backup = database.with_extension("backup");
        file.sql(&format!("VACUUM INTO '{}'", backup.display()));
        Self { database, backup }
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(end);
        path.into()
    }

    /// The file that is the write-ahead log.
    fn log(&self) -> Option<u64> {
        let metadata = fs::metadata(self.beside("-wal")).ok()?;
        Some(metadata.ino())
    }

    /// `mv backup database`, as with most programs that write a file anew.
    fn move_there(&self) {
        fs::rename(&self.backup, &self.database).unwrap();
    }

    /// `rm database; cp backup database`.
    fn remove_and_copy(&self) {
        fs::remove_file(&self.database).unwrap();
        fs::copy(&self.backup, &self.database).unwrap();
    }

    /// As one should: nothing of the old one stays.
    fn remove_all_and_copy(&self) {
        for end in ["-wal", "-shm"] {
            fs::remove_file(self.beside(end)).unwrap();
        }
        self.remove_and_copy();
    }

    /// `cp backup database`, in place.
    fn overwrite(&self) {
        fs::copy(&self.backup, &self.database).unwrap();
    }
}

async fn swapped(swap: fn(&Backup)) {
    let world = World::on(Cold::sqlite()).await;
    let kept = world.kept().await;
    let backup = Backup::of(&world.service);
    let lost = world.lose(kept).await;
    let log = backup.log();
    assert!(log.is_some());
    swap(&backup);
    // Another program would mix the old write-ahead log with the new file as well.
    eventually("the nodes set the old log aside", async || {
        backup.log() != log
    })
    .await;
    world.sql(&lost.revoke());
    world.goes_on(lost).await;
    assert_eq!(world.sql("PRAGMA integrity_check").trim(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_moved_into_the_place_of_the_file() {
    swapped(Backup::move_there).await;
}

/// No node has another's memory to lean on.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_moved_into_the_place_of_the_file_of_three_nodes_without_redis() {
    let world = World::with(Service::without_redis(Cold::sqlite())).await;
    let third = world.service.node().await;
    let kept = world.kept().await;
    let backup = Backup::of(&world.service);
    let lost = world.lose(kept).await;
    for known in [&lost.begun, &lost.kept.revoked] {
        must_serve(&third, known).await;
    }
    let log = backup.log();
    backup.move_there();
    eventually("the nodes set the old log aside", async || {
        backup.log() != log
    })
    .await;
    world.sql(&lost.revoke());
    lost.believed_by(&[&world.here, &world.there, &third]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_removed_and_a_backup_copied_to_its_place() {
    swapped(Backup::remove_and_copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_database_is_removed_and_a_backup_copied_to_its_place() {
    swapped(Backup::remove_all_and_copy).await;
}

/// The most usual way to put a backup back: inode and time of birth are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_copied_over_the_file_while_no_node_runs() {
    let world = World::on(Cold::sqlite()).await;
    let kept = world.kept().await;
    let backup = Backup::of(&world.service);
    let lost = world.lose(kept).await;
    let service = stopped(world).await;
    backup.overwrite();
    service.cold.sql(&lost.revoke());
    let (here, there) = (service.node().await, service.node().await);
    lost.believed_by(&[&here, &there]).await;
}

/// Somebody's shell has the file open meanwhile, as SQLite's locks tell. It is no node.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_copied_over_the_file_while_only_another_program_has_it_open() {
    let world = World::on(Cold::sqlite()).await;
    let kept = world.kept().await;
    world.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let backup = Backup::of(&world.service);
    // In WAL mode, unlike what VACUUM INTO makes.
    fs::copy(&backup.database, &backup.backup).unwrap();
    let lost = world.lose(kept).await;
    let service = stopped(world).await;
    backup.overwrite();
    let mut shell = Command::new("sqlite3")
        .arg(&backup.database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asked = shell.stdin.take().unwrap();
    writeln!(asked, "{};\nSELECT 'open';", lost.revoke()).unwrap();
    let mut said = String::new();
    BufReader::new(shell.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert_eq!(said.trim(), "open");
    assert!(backup.log().is_some());
    let (here, there) = (service.node().await, service.node().await);
    lost.believed_by(&[&here, &there]).await;
    drop(asked);
    shell.wait().unwrap();
}

/// What stood in its write-ahead log alone is there again, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_moved_away_comes_back_with_its_last_commits() {
    let world = World::on(Cold::sqlite()).await;
    let backup = Backup::of(&world.service);
    let log = backup.log();
    let issued = world.login().await;
    let away = backup.database.with_extension("away");
    fs::rename(&backup.database, &away).unwrap();
    backup.move_there();
    must_refuse(&world.here, &issued, &Refusal::Unknown).await;
    must_refuse(&world.there, &issued, &Refusal::Unknown).await;
    assert_ne!(backup.log(), log);
    fs::rename(&away, &backup.database).unwrap();
    for node in [&world.here, &world.there] {
        must_serve(node, &issued).await;
    }
    assert_eq!(backup.log(), log);
    assert_eq!(world.sql("SELECT count(*) FROM sessions").trim(), "1");
    assert_eq!(world.sql("PRAGMA integrity_check").trim(), "ok");
}

/// The old write-ahead log, of nodes that were killed, still lies beside the new file.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_belongs_to_another_file_is_refused_at_the_start() {
    let world = World::on(Cold::sqlite()).await;
    let kept = world.kept().await;
    let backup = Backup::of(&world.service);
    let lost = world.lose(kept).await;
    let log = fs::read(backup.beside("-wal")).unwrap();
    assert!(!log.is_empty());
    let service = stopped(world).await;
    fs::write(backup.beside("-wal"), &log).unwrap();
    // For a later tick of the clock that files have.
    tokio::time::sleep(Duration::from_millis(50)).await;
    backup.move_there();
    let error = Tiers::<Basket>::open(service.config(), service.keys())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("SQLite would mix the two"), "{error}");
    // What the message says.
    fs::remove_file(backup.beside("-wal")).unwrap();
    service.cold.sql(&lost.revoke());
    let (here, there) = (service.node().await, service.node().await);
    lost.believed_by(&[&here, &there]).await;
}

/// Nobody is told that something was written which is in no database.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_is_acknowledged_that_went_to_the_replaced_file() {
    let world = World::on(Cold::sqlite()).await;
    let backup = Backup::of(&world.service);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let writing = {
        let (node, stop) = (world.here.clone(), stop.clone());
        let acknowledged = Arc::clone(&acknowledged);
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                if let Ok(issued) = node.login(Login::guest()).await {
                    acknowledged.lock().unwrap().push(issued.session.id());
                }
            }
        })
    };
    let count = || acknowledged.lock().unwrap().len();
    eventually("some are written", async || count() >= 20).await;
    backup.move_there();
    let before = count();
    eventually("more are written", async || count() >= before + 20).await;
    stop.cancel();
    writing.await.unwrap();

    let kept = world.sql("SELECT id FROM sessions");
    let kept: HashSet<&str> = kept.lines().collect();
    let acknowledged = acknowledged.lock().unwrap();
    let is_kept = |id: &SessionId| kept.contains(id.to_string().as_str());
    let lost = acknowledged.iter().take_while(|&id| !is_kept(id)).count();
    // One may have been written before the swap, and counted after it.
    assert!(
        lost <= before + 1,
        "{lost} are lost, {before} were written before"
    );
    assert!(acknowledged[lost..].iter().all(is_kept));
}

/// The service without its nodes, which have closed the file.
async fn stopped(world: World) -> Service {
    let World {
        service,
        here,
        there,
    } = world;
    for node in [here, there] {
        assert!(node.shutdown(Duration::from_secs(10)).await);
    }
    let log = PathBuf::from(format!(
        "{}-wal",
        service.cold.url().trim_start_matches("sqlite://")
    ));
    // The last connection that closes removes it.
    eventually("the file is closed", async || !log.exists()).await;
    service
}
