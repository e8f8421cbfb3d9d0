use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::folder::{Ending, Folder};
use crate::{Error, processes, programs};

/// How long a server may take to start or to end before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A server process and the folder that it runs in. Dropping it ends and reaps the one and removes
/// the other.
pub(crate) struct Server {
    ending: Ending,
    inner: Mutex<Inner>,
}

struct Inner {
    child: Option<Child>,
    folder: Folder,
}

impl Server {
    pub(crate) fn new(ending: Ending, folder: Folder) -> Self {
        Self {
            ending,
            inner: Mutex::new(Inner {
                child: None,
                folder,
            }),
        }
    }

    /// Runs a program that prepares the folder to its end.
    ///
    /// # Errors
    ///
    /// When it fails; the error holds the last lines that it printed.
    pub(crate) fn prepare(&self, command: &mut Command) -> Result<(), Error> {
        let mut inner = self.lock();
        let name = inner.spawn(command, Ending::Wait)?;
        let status = match inner.child.take() {
            Some(mut child) => child.wait(),
            None => return Ok(()),
        };
        inner.folder.keep(None)?;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(inner.failed(&format!("{name} failed"))),
            Err(error) => Err(Error::because(name)(error)),
        }
    }

    /// Starts the server, and returns once `is_ready`.
    ///
    /// # Errors
    ///
    /// When it ends instead; the error holds the last lines of its log.
    pub(crate) fn start(
        &self,
        command: &mut Command,
        is_ready: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let mut inner = self.lock();
        let name = inner.spawn(command, self.ending)?;
        let start = Instant::now();
        while !is_ready() {
            if inner.has_ended() {
                inner.folder.keep(None)?;
                return Err(inner.failed(&format!("{name} did not start")));
            }
            if start.elapsed() > PATIENCE {
                return Err(inner.failed(&format!("{name} did not start in {PATIENCE:?}")));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends the server and reaps it. Does nothing when it is not running.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        let Some(id) = inner.id() else { return };
        match self.ending {
            Ending::Kill => processes::send(id, Signal::KILL),
            Ending::Quit => processes::send(id, Signal::QUIT),
            Ending::Wait => {}
        }
        // A paused one hears the signal only when it goes on.
        processes::resume(id);
        let start = Instant::now();
        while !inner.has_ended() {
            if start.elapsed() > PATIENCE {
                processes::send(id, Signal::KILL);
            }
            thread::sleep(POLL);
        }
        // Only a dead keeper can refuse, and then there is nobody to tell.
        let _ = inner.folder.keep(None);
    }

    /// Stops the server and its children in their tracks. Connections stay open and go silent.
    pub(crate) fn pause(&self) {
        if let Some(id) = self.lock().id() {
            processes::pause(id);
        }
    }

    /// Undoes [`pause`](Self::pause).
    pub(crate) fn resume(&self) {
        if let Some(id) = self.lock().id() {
            processes::resume(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic beside the lock leaves the process as it was.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    /// Starts a program in a process group of its own, where no terminal's Ctrl-C reaches it, and
    /// returns its name. Its owner ends it, or else the keeper.
    fn spawn(&mut self, command: &mut Command, ending: Ending) -> Result<String, Error> {
        let name = programs::name_of(command);
        let log = self.log();
        let (stdout, stderr) = File::create(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(Error::because(format_args!(
                "cannot write {}",
                log.display()
            )))?;
        let child = command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(Error::because(format_args!("cannot run {name}")))?;
        let id = child.id();
        self.child = Some(child);
        self.folder.keep(Some((id, ending)))?;
        Ok(name)
    }

    /// What a program said last, as the reason of its failure.
    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(5)..].join("; ");
        Error::new(format!("{what}: {last}"))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the server is gone; reaps it if so.
    fn has_ended(&mut self) -> bool {
        let ended = match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        };
        if ended {
            self.child = None;
        }
        ended
    }
}
