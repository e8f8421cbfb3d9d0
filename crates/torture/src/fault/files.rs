//! SQLite files that are replaced by a backup, under running nodes and clients.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Fault;
use super::strike::{Strikes, While};
use crate::cold::Sqlite;

/// Nodes are asked for something all the time, and look at the file each time.
const NOTICED: Duration = Duration::from_secs(5);

impl Strikes<'_> {
    pub(super) fn swap(&mut self, sqlite: &Sqlite, fault: Fault, pause: While) -> bool {
        let path = sqlite.file.path();
        let backup = path.with_extension("backup");
        let _ = fs::remove_file(&backup);
        let made = format!("VACUUM INTO '{}'", backup.display());
        if sqlite.try_sql(&made).is_err() {
            // The file is too busy.
            return false;
        }
        self.rest(pause.either);
        let load = self.load;
        self.go_back(fault, || match fault {
            Fault::FileRestored => restore(sqlite, &backup),
            _ => {
                let _alone = sqlite.alone();
                let log = sqlite.log();
                replace(path, &backup, fault);
                if !sets_aside(sqlite, log) {
                    load.unserved(format!(
                        "no node opened the new file in time after: {fault}"
                    ));
                }
            }
        });
        true
    }
}

fn replace(path: &Path, backup: &Path, fault: Fault) {
    if fault == Fault::FileMoved {
        fs::rename(backup, path).expect("a backup can be moved");
        return;
    }
    fs::remove_file(path).expect("the database can be removed");
    fs::copy(backup, path).expect("a backup can be copied");
}

/// Whether a node sets the log of the old file aside, which other programs would mix with the new one.
fn sets_aside(sqlite: &Sqlite, log: Option<u64>) -> bool {
    let end = Instant::now() + NOTICED;
    while sqlite.log() == log {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Until nobody is in its way.
fn restore(sqlite: &Sqlite, backup: &Path) {
    let sql = format!(".restore '{}'", backup.display());
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(error) = sqlite.try_sql(&sql) {
        assert!(Instant::now() < end, "{error}");
    }
}
