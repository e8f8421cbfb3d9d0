use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::database::{Address, Database, at_database};
use crate::error::OrFail;
use crate::postmaster::Postmaster;
use crate::{Cluster, Error};

/// How long a standby may take over what it was told before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// A streaming replica of a [`Cluster`], read-only until promoted, gone when dropped.
///
/// It follows the cluster asynchronously and holds all of its databases, also those that are made
/// later. It listens on a unix socket of its own, where everybody is trusted, whatever the cluster
/// was asked for: a replica of a cluster with TLS or a password has neither.
pub struct Standby {
    postmaster: Postmaster,
    /// Of the cluster.
    primary: Address,
}

impl Cluster {
    /// Makes and starts a replica of this cluster, which has to run.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be copied or the replica does not start.
    #[track_caller]
    pub fn standby(&self) -> Standby {
        Standby::start(self).or_fail()
    }
}

impl Standby {
    fn start(cluster: &Cluster) -> Result<Self, Error> {
        let primary = cluster.address();
        let postmaster = Postmaster::create(cluster.config().to_vec())?;
        let mut copy = postmaster.command("pg_basebackup")?;
        copy.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream"])
            .args(["--write-recovery-conf", "--dbname", &primary.control])
            .arg("--pgdata")
            .arg(postmaster.data());
        postmaster.prepare(&mut copy)?;
        postmaster.launch()?;
        Ok(Self {
            postmaster,
            primary,
        })
    }

    /// The address of the same database on this server.
    pub fn url(&self, database: &Database) -> String {
        at_database(&self.postmaster.socket_url(), database.name())
    }

    /// The unix socket, for a [`Relay`](crate::Relay) that leads here.
    pub fn socket(&self) -> PathBuf {
        self.postmaster.socket()
    }

    /// As [`Database::sql`], but asked of this server.
    ///
    /// # Panics
    ///
    /// At the first statement that fails, with the message of `psql`.
    #[track_caller]
    pub fn sql(&self, database: &Database, sql: &str) -> String {
        self.address().sql(database.name(), sql).or_fail()
    }

    /// Makes it show the data as they are now, while it goes on to receive what is new. Returns
    /// when nothing new is shown any more.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached, or was promoted.
    #[track_caller]
    pub fn pause_replay(&self) {
        self.ask("SELECT pg_wal_replay_pause()").or_fail();
        self.wait("SELECT pg_get_wal_replay_pause_state() = 'paused'")
            .or_fail();
    }

    /// Undoes [`pause_replay`](Self::pause_replay).
    ///
    /// # Panics
    ///
    /// When the server cannot be reached, or was promoted.
    #[track_caller]
    pub fn resume_replay(&self) {
        self.ask("SELECT pg_wal_replay_resume()").or_fail();
    }

    /// Makes it show each commit only when that is `delay` old, to the millisecond; none at all if
    /// zero.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn lag(&self, delay: Duration) {
        let millis = delay.as_millis();
        self.ask(&format!(
            "ALTER SYSTEM SET recovery_min_apply_delay = {millis}; SELECT pg_reload_conf();"
        ))
        .or_fail();
        self.wait(&format!(
            "SELECT setting = '{millis}' FROM pg_settings WHERE name = 'recovery_min_apply_delay'"
        ))
        .or_fail();
    }

    /// Returns when it shows all that was committed in the cluster before the call.
    ///
    /// # Panics
    ///
    /// When either cannot be reached, or replay does not get there in 30 seconds.
    #[track_caller]
    pub fn caught_up(&self) {
        let now = self
            .primary
            .sql("postgres", "SELECT pg_current_wal_lsn()")
            .or_fail();
        self.wait(&format!("SELECT pg_last_wal_replay_lsn() >= '{now}'"))
            .or_fail();
    }

    /// Makes it a server that takes writes and follows nobody; returns when it does. What had not
    /// arrived from the cluster is lost to it.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached, or was promoted already.
    #[track_caller]
    pub fn promote(&self) {
        let patience = PATIENCE.as_secs();
        let promoted = self
            .ask(&format!("SELECT pg_promote(true, {patience})"))
            .or_fail();
        assert_eq!(promoted, "t", "the standby was not promoted");
    }

    /// As [`Cluster::kill`].
    pub fn kill(&self) {
        self.postmaster.kill();
    }

    /// As [`Cluster::restart`]; a pause of its replay is over then.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn restart(&self) {
        self.postmaster.restart().or_fail();
    }

    /// As [`Cluster::pause`].
    pub fn pause(&self) {
        self.postmaster.pause();
    }

    /// As [`Cluster::resume`].
    pub fn resume(&self) {
        self.postmaster.resume();
    }

    /// Asks until the answer is true.
    fn wait(&self, question: &str) -> Result<(), Error> {
        let start = Instant::now();
        while self.ask(question)? != "t" {
            if start.elapsed() > PATIENCE {
                return Err(Error::new(format!(
                    "the standby was not ready in {PATIENCE:?}: {question}"
                )));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn ask(&self, sql: &str) -> Result<String, Error> {
        self.address().sql("postgres", sql)
    }

    pub(crate) fn control(&self) -> String {
        self.postmaster.socket_url()
    }

    fn address(&self) -> Address {
        let url = self.postmaster.socket_url();
        Address {
            control: url.clone(),
            client: url,
        }
    }
}

impl fmt::Debug for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standby")
            .field("folder", &self.postmaster.folder())
            .finish_non_exhaustive()
    }
}
