use std::path::{Path, PathBuf};

use crate::error::OrFail;
use crate::folder::{Folder, Reach};
use crate::{Error, programs};

/// The path of a SQLite database in a temporary folder, removed with the value.
///
/// The file itself is made by the first who opens it.
pub struct SqliteFile {
    path: PathBuf,
    /// Holds the database and what SQLite puts beside it (`-wal`, `-shm`).
    _folder: Folder,
}

impl SqliteFile {
    /// A path at which nothing is yet.
    ///
    /// # Panics
    ///
    /// When no temporary folder can be made.
    #[track_caller]
    pub fn create() -> Self {
        let folder = Folder::create(Reach::Owner).or_fail();
        Self {
            path: folder.path().join("test.sqlite"),
            _folder: folder,
        }
    }

    /// The address: `sqlite://` and the absolute path.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs statements by the program `sqlite3` and returns what they answer: a line for each row,
    /// with `|` between its columns. Waits up to ten seconds for other writers.
    ///
    /// # Panics
    ///
    /// At the first statement that fails, with the message of `sqlite3`.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).or_fail()
    }

    /// The same, for statements that may be refused.
    ///
    /// # Errors
    ///
    /// At the first statement that fails, with the message of `sqlite3`.
    pub fn try_sql(&self, sql: &str) -> Result<String, Error> {
        let mut sqlite = programs::command("sqlite3")?;
        sqlite.args([
            "-batch",
            "-bail",
            "-init",
            "/dev/null",
            "-cmd",
            ".timeout 10000",
        ]);
        programs::run(sqlite.arg(&self.path), sql)
    }
}

impl std::fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
