use std::fmt;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::address::{encode, encode_credential};
use crate::database::{Address, Database};
use crate::error::OrFail;
use crate::folder::{Ending, Folder, Reach};
use crate::server::Server;
use crate::tls::Certificates;
use crate::{Error, SHARED_CLUSTER, port, programs};

/// Part of the name of the unix socket; nothing listens on such a port unless asked to.
const SOCKET_PORT: u16 = 5432;

/// What every cluster is started with. It need not survive a crash of the machine, and counts
/// every statement.
const CONFIG: [&str; 11] = [
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.max=20000",
    "pg_stat_statements.save=off",
    // Nothing is left in /dev/shm, even by a server that is killed.
    "dynamic_shared_memory_type=mmap",
    "unix_socket_permissions=0700",
    "logging_collector=off",
    "timezone=UTC",
    "jit=off",
];

/// A private PostgreSQL server in a temporary folder, gone when dropped.
///
/// It listens on a unix socket only, unless asked for more. The superuser is `postgres`. When we
/// are root, the server runs as the user `postgres` or `nobody`, since it refuses to run as root.
pub struct Cluster {
    server: Server,
    folder: PathBuf,
    account: Option<Account>,
    options: ClusterBuilder,
    port: u16,
    certificates: Option<Certificates>,
}

/// Options of a [`Cluster`].
#[derive(Clone, Default)]
pub struct ClusterBuilder {
    config: Vec<String>,
    tcp: bool,
    tls: bool,
    password: Option<String>,
}

impl Cluster {
    /// Makes and starts a server on a unix socket.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Options for a server on TCP, with TLS, with a password or with settings of its own.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Makes a database in this cluster, dropped with the value.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    #[track_caller]
    pub fn database(&self) -> Database {
        Database::create_at(self.address()).or_fail()
    }

    /// The address of the database `postgres`: on the unix socket, or on TCP when that was asked
    /// for.
    pub fn url(&self) -> String {
        self.address().client
    }

    /// The certificate authority, in PEM, by which the server's certificate is to be checked.
    ///
    /// # Panics
    ///
    /// When the server was started without TLS.
    #[track_caller]
    pub fn ca_file(&self) -> &Path {
        match &self.certificates {
            Some(files) => &files.authority,
            None => panic!("this cluster has no certificate: start it by Cluster::builder().tls()"),
        }
    }

    /// Ends the server as a crash does, and returns when it is gone. What was committed stays.
    pub fn kill(&self) {
        // Not SIGKILL, after which its shared memory would stay on the machine.
        self.server.end();
    }

    /// Starts the server again with its data and address; kills it first if it is running.
    ///
    /// # Panics
    ///
    /// When it does not start, as when another program took its port meanwhile.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        self.launch().or_fail();
    }

    /// Makes the server go silent (SIGSTOP) with its connections open, and returns when it has.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Undoes [`pause`](Self::pause) (SIGCONT).
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Runs `command` with this cluster as the shared one.
    pub fn share_with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(SHARED_CLUSTER, self.address().control)
    }

    fn address(&self) -> Address {
        let folder = encode(&self.folder.to_string_lossy());
        let control = format!(
            "postgres://postgres@/postgres?host={folder}&port={}",
            self.port
        );
        if !self.options.tcp {
            return Address {
                client: control.clone(),
                control,
            };
        }

        let password = self.options.password.as_deref();
        let password = password
            .map(|it| format!(":{}", encode_credential(it)))
            .unwrap_or_default();
        let mode = if self.options.tls {
            "require"
        } else {
            "disable"
        };
        let client = format!(
            "postgres://postgres{password}@127.0.0.1:{}/postgres?sslmode={mode}",
            self.port
        );
        Address { control, client }
    }

    fn initialise(&self) -> Result<(), Error> {
        let mut initdb = self.command("initdb")?;
        initdb
            .args([
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
                "--username=postgres",
            ])
            .args(["--auth=trust", "--pgdata"])
            .arg(self.data());
        self.server.prepare(&mut initdb)?;

        let kind = if self.options.tls { "hostssl" } else { "host" };
        let method = if self.options.password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        let rules = format!("local all all trust\n{kind} all all 127.0.0.1/32 {method}\n");
        fs::write(self.data().join("pg_hba.conf"), rules)
            .map_err(Error::because("cannot write pg_hba.conf"))
    }

    fn launch(&self) -> Result<(), Error> {
        self.server.start(&mut self.postgres()?, || self.is_ready())
    }

    fn postgres(&self) -> Result<Command, Error> {
        let mut command = self.command("postgres")?;
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.folder);
        command.args(["-p", &self.port.to_string()]);
        command.args(["-h", if self.options.tcp { "127.0.0.1" } else { "" }]);
        for setting in CONFIG
            .into_iter()
            .chain(self.options.config.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        if let Some(files) = &self.certificates {
            command.args(["-c", "ssl=on"]);
            command
                .arg("-c")
                .arg(format!("ssl_cert_file={}", files.certificate.display()));
            command
                .arg("-c")
                .arg(format!("ssl_key_file={}", files.key.display()));
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

    /// One of PostgreSQL's programs, to be run as the user who owns the data.
    fn command(&self, program: &str) -> Result<Command, Error> {
        let mut command = programs::postgres_command(program)?;
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl ClusterBuilder {
    /// Adds a setting as in `postgresql.conf`: `.config("lock_timeout", "1s")`.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push(format!("{name}={value}"));
        self
    }

    /// Listens on a free port of 127.0.0.1 too.
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Listens on a free port of 127.0.0.1 too, where it speaks TLS only.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self.tcp()
    }

    /// Listens on a free port of 127.0.0.1 too, where it asks for this password (SCRAM-SHA-256).
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.tcp()
    }

    /// Makes and starts the server.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start.
    #[track_caller]
    pub fn start(self) -> Cluster {
        self.try_start().or_fail()
    }

    /// Makes and starts the server.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed or does not start.
    pub fn try_start(self) -> Result<Cluster, Error> {
        let folder = Folder::create(Reach::Others)?;
        let account = if folder.is_root() {
            Some(Account::find()?)
        } else {
            None
        };
        let owner = account.map(|account| (account.user, account.group));
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group))
                .map_err(Error::because("cannot hand a folder to PostgreSQL's user"))?;
        }
        let certificates = if self.tls {
            Some(Certificates::create(folder.path(), owner)?)
        } else {
            None
        };

        let mut cluster = Cluster {
            folder: folder.path().to_owned(),
            server: Server::new(Ending::Quit, folder),
            account,
            port: SOCKET_PORT,
            certificates,
            options: self,
        };
        cluster.initialise()?;
        if cluster.options.tcp {
            port::with_free(|port| {
                cluster.port = port;
                cluster.launch()
            })?;
        } else {
            cluster.launch()?;
        }

        let mut setup = "CREATE EXTENSION pg_stat_statements;".to_owned();
        if let Some(password) = &cluster.options.password {
            let quoted = password.replace('\'', "''");
            setup += &format!("ALTER ROLE postgres PASSWORD '{quoted}';");
        }
        cluster.address().sql("postgres", &setup)?;
        Ok(cluster)
    }
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("config", &self.config)
            .field("tcp", &self.tcp)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Whom the server runs as when we are root.
#[derive(Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    fn find() -> Result<Self, Error> {
        let accounts =
            fs::read_to_string("/etc/passwd").map_err(Error::because("cannot read /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| accounts.lines().find_map(|line| Self::parse(line, name)))
            .ok_or_else(|| {
                Error::new(
                    "PostgreSQL does not run as root, and there is no user postgres or nobody",
                )
            })
    }

    /// Reads `postgres:x:101:104:…`.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Self { user, group })
    }
}
