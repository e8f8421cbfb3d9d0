use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::folder::Folder;
use crate::{Error, processes};

/// How long a server may take to start or to end before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A server process and the folder that it runs in. Dropping it ends and reaps the one and removes
/// the other.
pub(crate) struct Server {
    name: &'static str,
    /// The signal on which the server ends at once and tidily.
    ending: Signal,
    inner: Mutex<Inner>,
}

struct Inner {
    child: Option<Child>,
    folder: Folder,
}

impl Server {
    pub(crate) fn new(name: &'static str, ending: Signal, folder: Folder) -> Self {
        Self {
            name,
            ending,
            inner: Mutex::new(Inner {
                child: None,
                folder,
            }),
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
        let log = inner.folder.path().join("log");
        let output = File::create(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(Error::because(format_args!(
                "cannot write {}",
                log.display()
            )))?;
        let child = command
            .current_dir(inner.folder.path())
            .stdin(Stdio::null())
            .stdout(output.0)
            .stderr(output.1)
            // Out of reach of a terminal's Ctrl-C: its owner ends it.
            .process_group(0)
            .spawn()
            .map_err(Error::because(format_args!("cannot run {}", self.name)))?;
        let id = child.id();
        inner.child = Some(child);
        inner.folder.keep(Some(id))?;

        let start = Instant::now();
        while !is_ready() {
            if inner.has_ended() {
                inner.folder.keep(None)?;
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::new(format!(
                    "{} did not start: {}",
                    self.name,
                    tail(&log)
                )));
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::new(format!(
                    "{} did not start in {PATIENCE:?}",
                    self.name
                )));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends the server with a signal and reaps it. Does nothing when it is not running.
    pub(crate) fn end(&self, signal: Signal) {
        let mut inner = self.lock();
        let Some(id) = inner.id() else { return };
        processes::send(id, signal);
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
        self.end(self.ending);
    }
}

impl Inner {
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

/// The last lines of a log, where a server says why it gave up.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
