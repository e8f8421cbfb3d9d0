//! Which file a SQLite URL leads to: notices a file that was replaced by another of the same name.
//!
//! SQLite keeps reading and writing the file that it opened, also when that has no name any more. So
//! each use of a connection first looks at what the name leads to, which costs a microsecond.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use super::sql::missing;
use crate::error::StoreError;

/// The file of a store, shared by its connections.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    /// As SQLite is told: a path, or a URI that begins with `file:`.
    url: Box<str>,
    /// As in the file system.
    path: PathBuf,
    opened: Arc<Mutex<Option<Opened>>>,
    /// How often the file was swapped since the last lineage began.
    swaps: Arc<AtomicUsize>,
    /// Connections that are being made, until the pool knows when they were.
    opening: Arc<AtomicUsize>,
    /// Locked for as long as this node may cache what the file says; see [`DatabaseFile::begin_run`].
    running: Arc<Mutex<Option<File>>>,
}

/// A connection that is being made.
pub(super) struct Opening<'a> {
    opening: &'a AtomicUsize,
}

impl Opening<'_> {
    /// It was made, and counts until [`DatabaseFile::is_made`].
    pub(super) fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.opening.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What connections have open.
#[derive(Debug)]
struct Opened {
    file: FileId,
    /// From when on connections have this one open; `None` if no other was seen before.
    since: Option<Instant>,
    /// Others that were open before, the last ones.
    former: Vec<FileId>,
    /// What SQLite keeps beside it, by the ends of their names.
    beside: [(&'static str, Option<FileId>); 2],
}

/// What tells a file from every other of the same name, as long as somebody has it open; and, where the
/// file system knows when a file was made, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970, or zero.
    born: u128,
}

impl FileId {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let born = metadata
            .created()
            .ok()
            .and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: born.map_or(0, |born| born.as_nanos()),
        })
    }
}

impl fmt::Display for FileId {
    /// Without the device, whose number may be another after the machine was started anew.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.inode, self.born)
    }
}

impl DatabaseFile {
    /// The file at a path, or of a `file:` URI.
    pub(super) fn new(url: &str) -> Self {
        let path = match url.strip_prefix("file:") {
            None => PathBuf::from(url),
            Some(uri) => {
                let name = uri.split(['?', '#']).next().unwrap_or_default();
                // An authority may stand before the path, if only an empty one.
                let name = name.strip_prefix("//").map_or(name, |rest| {
                    rest.find('/').map_or(rest, |slash| &rest[slash..])
                });
                let name = percent_encoding::percent_decode_str(name);
                PathBuf::from(name.decode_utf8_lossy().into_owned())
            }
        };
        Self {
            url: url.into(),
            path,
            opened: Arc::default(),
            opening: Arc::default(),
            swaps: Arc::default(),
            running: Arc::default(),
        }
    }

    /// How often the file was seen to be swapped since the last lineage began.
    pub(super) fn swaps(&self) -> usize {
        self.swaps.load(Ordering::Acquire)
    }

    /// A lineage has begun since so many were seen.
    pub(super) fn swap_is_known(&self, swaps: usize) {
        self.swaps.fetch_sub(swaps, Ordering::AcqRel);
    }

    /// Names the file that the path leads to now, for `session_history.file`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it leads to none.
    pub(super) fn name(&self) -> Result<String, StoreError> {
        match self.notice() {
            Some(file) => Ok(file.to_string()),
            None => Err(StoreError::transient("changes", self.gone())),
        }
    }

    /// Whether the path leads to a file.
    pub(super) fn exists(&self) -> bool {
        self.path.is_file()
    }

    /// The file that the path leads to now.
    pub(super) fn id(&self) -> Option<FileId> {
        FileId::of(&self.path)
    }

    /// Whether a connection that was made at an instant has the file open that the path leads to.
    pub(super) fn is_of(&self, made: Instant) -> bool {
        let Some(file) = self.notice() else {
            return false;
        };
        self.opened().as_ref().is_some_and(|opened| {
            opened.file == file && opened.since.is_none_or(|since| made > since)
        })
    }

    /// To be called before a connection is made.
    pub(super) fn opening(&self) -> Opening<'_> {
        self.opening.fetch_add(1, Ordering::AcqRel);
        Opening {
            opening: &self.opening,
        }
    }

    /// The pool has noted when a connection was made.
    pub(super) fn is_made(&self) {
        self.opening.fetch_sub(1, Ordering::AcqRel);
    }

    /// Opens the file by `open`, so that what was opened is what the path leads to.
    ///
    /// # Errors
    ///
    /// What `open` says; or that the file is gone that was there before, which is not made anew.
    pub(super) fn open<T>(&self, open: impl Fn() -> ConnectionResult<T>) -> ConnectionResult<T> {
        loop {
            let before = self.notice();
            if before.is_none() && self.opened().is_some() {
                return Err(ConnectionError::BadConnection(self.gone()));
            }
            let connection = open()?;
            let after = self.notice();
            if before.is_none() || before == after {
                self.note_beside();
                return Ok(connection);
            }
        }
    }

    /// Makes the program's state folder, if the file is to be there.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let failed = |error| {
            let path = self.path.display();
            StoreError::permanent("open", format_args!("the folder of {path}: {error}"))
        };
        crate::config::prepare(&self.path).map_err(failed)
    }

    /// Begins a new lineage if no other node runs, and the file holds sessions. While none ran it may have
    /// been overwritten by a backup, or have lost its last commits with the machine's power; and there is
    /// nothing to tell it by.
    ///
    /// Nodes that run hold a lock on a file beside it, `-nodes`. SQLite's own locks would not do: every
    /// program has those that has the file open.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be opened; or if what SQLite would mix with it seems to belong to
    /// another file.
    pub(super) fn begin_run(&self, patience: Duration) -> Result<(), StoreError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Ok(());
        }
        let path = self.beside("-nodes");
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let reason = format!("cold.url: there is no folder {}: make it", folder.display());
            return Err(StoreError::permanent("open", reason));
        }
        let failed = |error: &dyn fmt::Display| {
            let reason = format!(
                "{}: {error}; the service must be able to write in the folder of the database",
                path.display()
            );
            StoreError::permanent("open", reason)
        };
        let options = File::options().create(true).append(true).open(&path);
        let lock = options.map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => self.begin_first_run(patience)?,
            Err(TryLockError::WouldBlock) => {}
            // Without locks each node that starts begins a lineage, which costs the others one refill.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                *running = Some(lock);
                return self.begin_first_run(patience);
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let until = Instant::now() + patience;
        loop {
            match lock.try_lock_shared() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::transient(
                        "open",
                        format_args!(
                            "{} is locked: another node has been starting for long",
                            path.display()
                        ),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
        *running = Some(lock);
        Ok(())
    }

    fn begin_first_run(&self, patience: Duration) -> Result<(), StoreError> {
        if self.notice().is_none() {
            return Ok(());
        }
        self.refuse_foreign_wal()?;
        let has_file = "SELECT count(*) > 0 AS present FROM pragma_table_info('session_history') WHERE name = 'file'";
        let begin = || -> Result<(), Box<dyn std::error::Error>> {
            let mut connection = SqliteConnection::establish(&self.url)?;
            connection.batch_execute(&format!("PRAGMA busy_timeout = {}", patience.as_millis()))?;
            let there = diesel::sql_query(has_file).get_result::<Present>(&mut connection)?;
            if there.present {
                self.begin_lineage(&mut connection)?;
            }
            Ok(())
        };
        begin().map_err(|error| StoreError::permanent("open", error))
    }

    /// Begins a lineage of this file, whatever the present one is; of no file, which the feed notices, if a
    /// trigger is missing.
    pub(super) fn begin_lineage(&self, connection: &mut SqliteConnection) -> QueryResult<()> {
        diesel::sql_query(concat!(
            "UPDATE session_history SET lineage = random(), tombstones_since = mark + 1, \
                file = CASE WHEN NOT EXISTS (SELECT 1 FROM ",
            missing!(),
            ") THEN $file || ' ' || (SELECT schema_version FROM pragma_schema_version) END",
        ))
        .bind::<Nullable<Text>, _>(self.id().map(|file| file.to_string()))
        .execute(connection)
        .map(drop)
    }

    /// A write-ahead log that was left beside a file that was replaced is older than the new one, which
    /// names another file as the one that its sessions were in.
    fn refuse_foreign_wal(&self) -> Result<(), StoreError> {
        let log = self.beside("-wal");
        let changed = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.ctime(), metadata.ctime_nsec())).filter(|_| metadata.len() > 0)
        };
        let older = changed(&log).zip(changed(&self.path));
        if older.is_none_or(|(log, file)| log >= file) {
            return Ok(());
        }
        let named = self.read_alone("SELECT file AS text FROM session_history");
        match (named.ok().flatten(), self.id()) {
            (Some(named), Some(file)) if !named.starts_with(&format!("{file} ")) => {
                Err(StoreError::permanent(
                    "open",
                    format_args!(
                        "{file} was put in the place of another database, whose {log} is still beside it, and \
                         SQLite would mix the two: if {log} did not come with the new file, remove it and its \
                         -shm; if it did, run `touch {log}`",
                        file = self.path.display(),
                        log = log.display(),
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What the file says if SQLite leaves the write-ahead log alone.
    ///
    /// By SQLite and not by us: closing a file gives up the locks that this process has on it.
    fn read_alone(&self, query: &str) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let path = self.path.canonicalize()?;
        let path = path.to_str().ok_or("its path is no UTF-8")?;
        let path = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
        let uri = format!("file:{path}?immutable=1").replace("%2F", "/");
        let mut connection = SqliteConnection::establish(&uri)?;
        let said = diesel::sql_query(query).get_result::<Said>(&mut connection)?;
        Ok(said.text)
    }

    /// Looks at what the path leads to. The first to see another file there sets aside what SQLite left
    /// beside the old one, which would be mixed with the new one.
    fn notice(&self) -> Option<FileId> {
        /// So many are remembered that were open before.
        const FORMER: usize = 8;

        let file = FileId::of(&self.path)?;
        let mut opened = self.opened();
        let (mut since, mut former) = (None, Vec::new());
        if let Some(old) = &mut *opened {
            if old.file == file {
                return Some(file);
            }
            // One that was open before is as it was, and may need its log to be whole.
            if !old.former.contains(&file) && !self.is_whole() {
                return None;
            }
            tracing::warn!(
                file = %self.path.display(),
                "the database file was replaced: its connections are closed, and the new one is opened"
            );
            self.exchange_what_is_beside(old, file);
            self.swaps.fetch_add(1, Ordering::AcqRel);
            // One that is being made may have opened the old file, and counts as made later.
            let grace = match self.opening.load(Ordering::Acquire) {
                0 => Duration::ZERO,
                _ => Duration::from_secs(1),
            };
            since = Some(Instant::now() + grace);
            former = std::mem::take(&mut old.former);
            former.retain(|known| *known != file);
            if former.len() == FORMER {
                former.remove(0);
            }
            former.push(old.file);
        }
        *opened = Some(Opened {
            file,
            since,
            former,
            beside: [("-wal", None), ("-shm", None)],
        });
        Some(file)
    }

    /// Whether the file holds sessions, and all of itself: one that is still being copied is shorter than
    /// it says.
    fn is_whole(&self) -> bool {
        const BYTES: &str = "SELECT CAST(page_count * page_size AS TEXT) AS text \
            FROM pragma_page_count, pragma_page_size, session_history";
        let whole = self.read_alone(BYTES).and_then(|bytes| {
            let bytes: u64 = bytes.unwrap_or_default().parse()?;
            Ok(fs::metadata(&self.path)?.len() >= bytes)
        });
        whole.unwrap_or_else(|error| {
            tracing::debug!(%error, file = %self.path.display(), "the new database file cannot be read yet");
            false
        })
    }

    /// Renames what belongs to the old file, and only that: another process may have opened the new one.
    /// Puts back what was set aside when the new file was here before.
    fn exchange_what_is_beside(&self, old: &Opened, new: FileId) {
        let folder = self.path.canonicalize().unwrap_or(self.path.clone());
        // One process at a time, so that none renames what another one made.
        let lock = folder.parent().and_then(|folder| File::open(folder).ok());
        let _locked = lock.as_ref().map(File::lock);
        for (end, id) in old.beside {
            let path = self.beside(end);
            if id.is_some() && FileId::of(&path) == id {
                let aside = self.aside(end, old.file);
                match fs::rename(&path, &aside) {
                    Ok(()) => {
                        tracing::warn!(to = %aside.display(), "set aside what belongs to the replaced file");
                    }
                    Err(error) => {
                        tracing::error!(%error, file = %path.display(), "belongs to the replaced file, and cannot be set aside");
                    }
                }
            }
        }
        self.put_back(new);
    }

    /// The write-ahead log of a file that is here again holds its last commits, if nobody wrote to the file
    /// in between. Connections that noticed nothing still use both.
    fn put_back(&self, file: FileId) {
        let log = self.aside("-wal", file);
        let Ok(set_aside) = fs::metadata(&log) else {
            return;
        };
        let written = fs::metadata(&self.path).map(|file| (file.mtime(), file.mtime_nsec()));
        let unchanged = written.is_ok_and(|at| at <= (set_aside.ctime(), set_aside.ctime_nsec()));
        let free = ["-wal", "-shm"]
            .iter()
            .all(|end| !self.beside(end).exists());
        if !unchanged || !free {
            tracing::error!(
                log = %log.display(),
                "the database file is here again, but was used since its log was set aside: commits that are in the log alone are lost"
            );
            return;
        }
        for end in ["-shm", "-wal"] {
            let aside = self.aside(end, file);
            match fs::rename(&aside, self.beside(end)) {
                Ok(()) => {
                    tracing::warn!(from = %aside.display(), "put back what belongs to a file that is here again")
                }
                Err(error) => {
                    tracing::error!(%error, file = %aside.display(), "cannot be put back")
                }
            }
        }
    }

    /// Where something is put that belongs to a file that is not here.
    fn aside(&self, end: &str, file: FileId) -> PathBuf {
        self.beside(&format!("{end}.of-file-{}-{}", file.inode, file.born))
    }

    fn note_beside(&self) {
        if let Some(opened) = &mut *self.opened() {
            for (end, id) in &mut opened.beside {
                *id = FileId::of(&self.beside(end));
            }
        }
    }

    /// Where SQLite keeps what belongs to the file.
    fn beside(&self, end: &str) -> PathBuf {
        let path = self.path.canonicalize().unwrap_or(self.path.clone());
        let mut path = path.into_os_string();
        path.push(end);
        path.into()
    }

    fn gone(&self) -> String {
        format!(
            "the file {} is gone, or not complete yet: put a backup in its place",
            self.path.display()
        )
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(QueryableByName)]
struct Present {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    present: bool,
}

#[derive(QueryableByName)]
struct Said {
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        connection
            .batch_execute(
                "PRAGMA journal_mode = WAL; \
                 CREATE TABLE session_history (file TEXT, lineage, mark, tombstones_since); \
                 INSERT INTO session_history VALUES ('1:2:3 4', 1, 1, 1); CREATE TABLE t (a); \
                 INSERT INTO t SELECT randomblob(100000)",
            )
            .unwrap();
        path
    }

    #[test]
    fn paths_and_uris_name_the_same_files() {
        for (url, path) in [
            ("sessions.db", "sessions.db"),
            ("/var/lib/a b%20.db", "/var/lib/a b%20.db"),
            ("file:sessions.db", "sessions.db"),
            ("file:sessions.db?cache=private", "sessions.db"),
            ("file:/var/lib/a%20b.db", "/var/lib/a b.db"),
            ("file:///var/lib/x.db#part", "/var/lib/x.db"),
            ("file://localhost/var/lib/x.db", "/var/lib/x.db"),
        ] {
            assert_eq!(DatabaseFile::new(url).path, Path::new(path), "{url}");
        }
    }

    #[test]
    fn a_file_that_is_still_being_copied_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path(), "a ?#%.db");
        let file = DatabaseFile::new(path.to_str().unwrap());
        let first = file.notice().unwrap();
        let whole = fs::read(database(folder.path(), "new.db")).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(file.notice(), None);
        for part in [0, 1000, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..part]).unwrap();
            assert_eq!(file.notice(), None, "{part} of {} bytes", whole.len());
            let opened = file.open(|| -> ConnectionResult<()> { panic!("it is not opened") });
            assert!(opened.is_err());
        }
        fs::write(&path, &whole).unwrap();
        assert_ne!(file.notice().unwrap(), first);
    }

    #[test]
    fn a_log_that_is_older_than_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path(), "sessions.db");
        let file = DatabaseFile::new(path.to_str().unwrap());
        fs::write(file.beside("-wal"), "of the old one").unwrap();
        fs::rename(database(folder.path(), "new.db"), &path).unwrap();
        let error = file.begin_run(Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("SQLite would mix the two"), "{error}");
        // As the message says, if it does belong to it.
        fs::write(file.beside("-wal"), "of the new one").unwrap();
        file.begin_run(Duration::ZERO).unwrap();
    }

    #[test]
    fn only_what_belongs_to_the_replaced_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = database(folder.path(), "sessions.db");
        let file = DatabaseFile::new(path.to_str().unwrap());
        fs::write(file.beside("-wal"), "of the old one").unwrap();
        file.open(|| Ok(())).unwrap();
        let id = file.id().unwrap();
        fs::rename(database(folder.path(), "new.db"), &path).unwrap();
        file.notice().unwrap();
        assert!(!file.beside("-wal").exists());
        assert_eq!(fs::read(file.aside("-wal", id)).unwrap(), b"of the old one");

        // This one came with the next.
        file.open(|| Ok(())).unwrap();
        fs::rename(database(folder.path(), "new.db"), &path).unwrap();
        fs::write(file.beside("-wal"), "of the new one").unwrap();
        file.notice().unwrap();
        assert!(file.beside("-wal").exists());
    }
}
