use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::address::encode_credential;
use crate::database::{Address, Database};
use crate::error::OrFail;
use crate::postmaster::Postmaster;
use crate::tls::Certificates;
use crate::{Error, SHARED_CLUSTER, Standby, port};

/// A private PostgreSQL server in a temporary folder, gone when dropped.
///
/// It listens on a unix socket only, unless asked for more. The superuser is `postgres`. When we
/// are root, the server runs as the user `postgres` or `nobody`, since it refuses to run as root.
pub struct Cluster {
    postmaster: Postmaster,
    options: ClusterBuilder,
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

    /// The unix socket, for a [`Relay`](crate::Relay) that leads here.
    pub fn socket(&self) -> PathBuf {
        self.postmaster.socket()
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
        self.postmaster.kill();
    }

    /// Starts the server again with its data and address; kills it first if it is running.
    ///
    /// # Panics
    ///
    /// When it does not start, as when another program took its port meanwhile.
    #[track_caller]
    pub fn restart(&self) {
        self.postmaster.restart().or_fail();
    }

    /// Ends the server tidily, as a restart by an administrator does (`fast`), and returns when it is gone.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    #[track_caller]
    pub fn stop(&self) {
        self.postmaster.stop().or_fail();
    }

    /// Copies the data of a server that is not running.
    ///
    /// # Panics
    ///
    /// When they cannot be copied.
    #[track_caller]
    pub fn copy_data(&self) -> DataCopy {
        DataCopy {
            folder: self.postmaster.copy_data().or_fail(),
        }
    }

    /// Copies the data of the running server, as `pg_basebackup` does.
    ///
    /// # Panics
    ///
    /// When they cannot be copied.
    #[track_caller]
    pub fn base_backup(&self) -> DataCopy {
        DataCopy {
            folder: self.postmaster.base_backup().or_fail(),
        }
    }

    /// Has the server, which is not running, recover from an archive when it is started next, with
    /// settings such as `restore_command` and `recovery_target_name`.
    ///
    /// # Panics
    ///
    /// When the settings cannot be written.
    #[track_caller]
    pub fn recover(&self, settings: &[(&str, &str)]) {
        let settings = settings
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'\n"));
        self.postmaster
            .recover(&settings.collect::<String>())
            .or_fail();
    }

    /// Makes the server, which is not running, a standby of one that took over from it, by `pg_rewind`: what
    /// that one lacks is lost. Both need `wal_log_hints`.
    ///
    /// # Panics
    ///
    /// When `pg_rewind` fails, with its message.
    #[track_caller]
    pub fn rewind(&self, to: &Standby) {
        self.postmaster.rewind(&to.control()).or_fail();
    }

    /// Puts a copy of the data in the place of the present ones, while the server is not running.
    ///
    /// # Panics
    ///
    /// When they cannot be replaced.
    #[track_caller]
    pub fn put_back(&self, copy: &DataCopy) {
        self.postmaster.put_back(&copy.folder).or_fail();
    }

    /// What the server has logged since it was started last.
    ///
    /// # Panics
    ///
    /// When it was not started.
    #[track_caller]
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.postmaster.folder().join("log"));
        log.map_err(Error::because("cannot read the server's log"))
            .or_fail()
    }

    /// Makes the server go silent (SIGSTOP) with its connections open, and returns when it has.
    pub fn pause(&self) {
        self.postmaster.pause();
    }

    /// Undoes [`pause`](Self::pause) (SIGCONT).
    pub fn resume(&self) {
        self.postmaster.resume();
    }

    /// Runs `command` with this cluster as the shared one.
    pub fn share_with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(SHARED_CLUSTER, self.address().control)
    }

    /// The settings that were asked for.
    pub(crate) fn config(&self) -> &[String] {
        &self.options.config
    }

    pub(crate) fn address(&self) -> Address {
        let control = self.postmaster.socket_url();
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
            self.postmaster.port
        );
        Address { control, client }
    }

    fn initialise(&self) -> Result<(), Error> {
        let data = self.postmaster.data();
        let mut initdb = self.postmaster.command("initdb")?;
        initdb
            .args([
                "--no-sync",
                "--no-locale",
                "--encoding=UTF8",
                "--username=postgres",
            ])
            .args(["--auth=trust", "--pgdata"])
            .arg(&data);
        self.postmaster.prepare(&mut initdb)?;

        let kind = if self.options.tls { "hostssl" } else { "host" };
        let method = if self.options.password.is_some() {
            "scram-sha-256"
        } else {
            "trust"
        };
        let rules = format!(
            "local all all trust\nlocal replication all trust\n{kind} all all 127.0.0.1/32 {method}\n"
        );
        fs::write(data.join("pg_hba.conf"), rules)
            .map_err(Error::because("cannot write pg_hba.conf"))
    }
}

/// A copy of the data of a [`Cluster`], in its folder, and gone with that.
#[derive(Debug)]
pub struct DataCopy {
    folder: PathBuf,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("folder", &self.postmaster.folder())
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
        let mut postmaster = Postmaster::create(self.config.clone())?;
        if self.tcp {
            postmaster
                .settings
                .push("listen_addresses=127.0.0.1".into());
        }
        let certificates = if self.tls {
            let files = Certificates::create(postmaster.folder(), postmaster.owner())?;
            let (certificate, key) = (files.certificate.display(), files.key.display());
            postmaster.settings.extend([
                "ssl=on".into(),
                format!("ssl_cert_file={certificate}"),
                format!("ssl_key_file={key}"),
            ]);
            Some(files)
        } else {
            None
        };

        let mut cluster = Cluster {
            postmaster,
            certificates,
            options: self,
        };
        cluster.initialise()?;
        if cluster.options.tcp {
            port::with_free(|port| {
                cluster.postmaster.port = port;
                cluster.postmaster.launch()
            })?;
        } else {
            cluster.postmaster.launch()?;
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
