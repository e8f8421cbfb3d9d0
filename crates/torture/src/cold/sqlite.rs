//! A SQLite file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use testbed::{Error, SqliteFile};

pub(crate) struct Sqlite {
    pub(crate) file: SqliteFile,
    /// Held while the file is replaced: another program would mix the old write-ahead log with the new
    /// file, as long as no node has set it aside.
    alone: RwLock<()>,
}

impl Sqlite {
    pub(crate) fn create() -> Self {
        Self {
            file: SqliteFile::create(),
            alone: RwLock::default(),
        }
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, Error> {
        let _shared = self.alone.read().unwrap_or_else(PoisonError::into_inner);
        self.file.try_sql(sql)
    }

    /// Nobody but the nodes uses the file as long as this lives.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.alone.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file is the write-ahead log.
    pub(crate) fn log(&self) -> Option<u64> {
        let mut log = self.file.path().to_owned().into_os_string();
        log.push("-wal");
        Some(fs::metadata(PathBuf::from(log)).ok()?.ino())
    }

    /// How often these processes have the file open, or one that it replaced.
    pub(crate) fn connections(&self, nodes: &[u32]) -> u64 {
        let open = nodes.iter().map(|node| self.open_in(*node));
        open.sum()
    }

    fn open_in(&self, process: u32) -> u64 {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"));
        let open = descriptors.expect("the node runs").flatten();
        let open = open.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        open.filter(|path| self.is_file(path)).count() as u64
    }

    fn is_file(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        let path = path.trim_end_matches(" (deleted)");
        Path::new(path) == self.file.path()
    }
}
