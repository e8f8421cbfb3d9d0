use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::account::Account;
use crate::address::encode;
use crate::folder::{Ending, Folder, Reach};
use crate::server::Server;
use crate::{Error, programs};

/// Part of the name of the unix socket; nothing listens on such a port unless asked to.
const SOCKET_PORT: u16 = 5432;

/// What every server is started with: PostgreSQL's defaults, but for what keeps tests apart and quick.
/// Nothing here changes how a statement is planned or run.
const CONFIG: [&str; 8] = [
    // Test data need not survive a crash of the machine. A crash of the server loses nothing by it.
    "fsync=off",
    // Many tests share one server, each with several nodes and their pools.
    "max_connections=200",
    // Counts every statement, which is how tests know what was asked.
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.max=20000",
    "pg_stat_statements.save=off",
    // Nothing is left in /dev/shm, even by a server that is killed.
    "dynamic_shared_memory_type=mmap",
    // A standby that was away for a while finds what it missed.
    "wal_keep_size=64MB",
    // Only its owner finds the socket.
    "unix_socket_permissions=0700",
];

/// A PostgreSQL server on data of its own: what a cluster and its standby have in common.
pub(crate) struct Postmaster {
    server: Server,
    folder: PathBuf,
    account: Option<Account>,
    /// The part of the socket's name; on TCP the port too, if the settings ask to listen there.
    pub(crate) port: u16,
    /// As in `postgresql.conf`, after [`CONFIG`].
    pub(crate) settings: Vec<String>,
}

impl Postmaster {
    /// Makes its folder, which is to be filled by [`prepare`](Self::prepare).
    pub(crate) fn create(settings: Vec<String>) -> Result<Self, Error> {
        let folder = Folder::create(Reach::Others)?;
        let account = if folder.is_root() {
            Some(Account::find()?)
        } else {
            None
        };
        if let Some(account) = account {
            chown(folder.path(), Some(account.user), Some(account.group))
                .map_err(Error::because("cannot hand a folder to PostgreSQL's user"))?;
        }
        Ok(Self {
            folder: folder.path().to_owned(),
            server: Server::new(Ending::Quit, folder),
            account,
            port: SOCKET_PORT,
            settings,
        })
    }

    /// Runs a program that makes the data.
    pub(crate) fn prepare(&self, command: &mut Command) -> Result<(), Error> {
        self.server.prepare(command)
    }

    /// Starts the server, and returns once clients may come.
    pub(crate) fn launch(&self) -> Result<(), Error> {
        self.server.start(&mut self.postgres()?, || self.is_ready())
    }

    /// Ends the server as a crash does. What was committed stays.
    pub(crate) fn kill(&self) {
        // Not SIGKILL, after which its shared memory would stay on the machine.
        self.server.end();
    }

    /// Ends the server tidily: what was committed is in its files.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        let mut stop = self.command("pg_ctl")?;
        stop.args(["stop", "-m", "fast", "-w", "-D"])
            .arg(self.data());
        programs::run(&mut stop, "")?;
        // It is gone; this reaps it.
        self.server.end();
        Ok(())
    }

    /// Copies the data beside themselves, which are not in use.
    pub(crate) fn copy_data(&self) -> Result<PathBuf, Error> {
        let copy = self.new_copy();
        self.copy(&self.data(), &copy)?;
        Ok(copy)
    }

    /// Copies the data of the running server beside themselves.
    pub(crate) fn base_backup(&self) -> Result<PathBuf, Error> {
        let copy = self.new_copy();
        let mut backup = self.command("pg_basebackup")?;
        backup
            .args(["--no-sync", "--checkpoint=fast", "--wal-method=stream"])
            .args(["--dbname", &self.socket_url(), "--pgdata"])
            .arg(&copy);
        programs::run(&mut backup, "")?;
        Ok(copy)
    }

    fn new_copy(&self) -> PathBuf {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("data.{number}"))
    }

    /// Has the server, which is not running, recover when it is started next.
    pub(crate) fn recover(&self, settings: &str) -> Result<(), Error> {
        let append = || {
            let path = self.data().join("postgresql.auto.conf");
            let mut file = fs::OpenOptions::new().append(true).open(path)?;
            file.write_all(settings.as_bytes())?;
            fs::write(self.data().join("recovery.signal"), "")
        };
        append().map_err(Error::because("cannot write the settings of a recovery"))
    }

    /// Makes the data, which are not in use, those of a standby of another server that left their history.
    pub(crate) fn rewind(&self, source: &str) -> Result<(), Error> {
        let mut rewind = self.command("pg_rewind")?;
        rewind
            .args(["--no-sync", "--write-recovery-conf"])
            .args(["--source-server", source, "--target-pgdata"])
            .arg(self.data());
        programs::run(&mut rewind, "").map(drop)
    }

    /// Replaces the data, which are not in use, by a copy.
    pub(crate) fn put_back(&self, copy: &Path) -> Result<(), Error> {
        fs::remove_dir_all(self.data()).map_err(Error::because("cannot remove the data"))?;
        self.copy(copy, &self.data())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let mut copy = programs::command("cp")?;
        copy.args(["-a", "--"]).arg(from).arg(to);
        programs::run(&mut copy, "").map(drop)
    }

    pub(crate) fn restart(&self) -> Result<(), Error> {
        self.kill();
        self.launch()
    }

    pub(crate) fn pause(&self) {
        self.server.pause();
    }

    pub(crate) fn resume(&self) {
        self.server.resume();
    }

    /// One of PostgreSQL's programs, to be run as the user who owns the data.
    pub(crate) fn command(&self, program: &str) -> Result<Command, Error> {
        let mut command = programs::postgres_command(program)?;
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        Ok(command)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Who owns the data, by number, if that is not who we are.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.account.map(|account| (account.user, account.group))
    }

    /// The address of the database `postgres` on the unix socket.
    pub(crate) fn socket_url(&self) -> String {
        let folder = encode(&self.folder.to_string_lossy());
        format!(
            "postgres://postgres@/postgres?host={folder}&port={}",
            self.port
        )
    }

    /// The unix socket itself.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    fn postgres(&self) -> Result<Command, Error> {
        let mut command = self.command("postgres")?;
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.folder);
        command.args(["-p", &self.port.to_string()]);
        // On the socket only, unless a setting says otherwise: of two, the later one holds.
        command.args(["-h", ""]);
        let settings = self.settings.iter().map(String::as_str);
        for setting in CONFIG.into_iter().chain(settings) {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    /// Says so itself, as the eighth line of a file that `pg_ctl` waits for too.
    fn is_ready(&self) -> bool {
        fs::read_to_string(self.data().join("postmaster.pid")).is_ok_and(|file| {
            file.lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
        })
    }
}
