use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::error::OrFail;
use crate::{Error, Redis};

/// What a [`Redis`] held at one time.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<u8>);

impl Redis {
    /// Keeps what the server holds now, for [`restart_from`](Self::restart_from).
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        self.ask(&["SAVE"]).or_fail();
        fs::read(self.dump())
            .map(Snapshot)
            .map_err(Error::because("cannot read a snapshot of Redis"))
            .or_fail()
    }

    /// As [`restart`](Self::restart), but with what the server held at the time of the snapshot.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn restart_from(&self, snapshot: &Snapshot) {
        self.kill();
        fs::write(self.dump(), &snapshot.0)
            .map_err(Error::because("cannot write a snapshot of Redis"))
            .and_then(|()| self.launch())
            .and_then(|()| self.loaded())
            .or_fail();
    }

    /// Waits until the server has read its snapshot: until then it refuses commands.
    fn loaded(&self) -> Result<(), Error> {
        while !self.ask(&["INFO", "persistence"])?.contains("loading:0") {
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Where the server saves what it holds, when told to, and looks for it when it starts.
    pub(super) fn dump(&self) -> PathBuf {
        self.socket.with_file_name("dump.rdb")
    }
}
