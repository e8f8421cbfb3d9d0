use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Error;

/// The longest path that the address of a unix socket can hold.
const SOCKET_PATH_MAX: usize = 107;
/// The longest name of a socket that our servers make: PostgreSQL's, with a port of five digits.
const SOCKET_NAME: &str = ".s.PGSQL.65535";

/// What a keeper does, by the shell. Its standard input says, line by line, which program runs in
/// the folder and by which signal to end it; the end of it means that the owner is gone. The
/// program leads a process group, which is killed when it has not ended after ten seconds.
const KEEPER: &str = r#"
runs() { read -r _ _ state _ <"/proc/$server/stat" && [ "$state" != Z ]; }
while read -r now by; do server=$now signal=$by; done
if [ -n "$server" ] && runs; then
    kill -s "$signal" -- "-$server"
    kill -s CONT -- "-$server"
    for _ in $(seq 100); do runs || break; sleep 0.1; done
    runs && kill -s KILL -- "-$server"
fi
rm -rf "$1"
"#;

/// A temporary folder, gone with its owner, and the server that runs in it.
///
/// Dropping it removes it. When the process dies without dropping it (a signal, an abort, a value
/// in a `static`), the keeper ends the server and removes the folder.
pub(crate) struct Folder {
    keeper: Child,
    folder: TempDir,
}

/// How a program that runs in a folder is ended at once, and tidily.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// By SIGKILL: it leaves nothing outside the folder.
    Kill,
    /// By SIGQUIT: it has shared memory to remove.
    Quit,
    /// By itself, and soon.
    Wait,
}

/// Whether a folder must be within reach of a server that runs as another user.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Owner,
    Others,
}

impl Folder {
    /// Makes a folder whose path is short enough for a socket in it, and text that a URL can hold.
    pub(crate) fn create(reach: Reach) -> Result<Self, Error> {
        let parents = [
            env::temp_dir(),
            PathBuf::from("/tmp"),
            PathBuf::from("/var/tmp"),
        ];
        let folder = parents
            .iter()
            .filter(|parent| reach == Reach::Owner || is_open_to_others(parent))
            .filter_map(|parent| {
                tempfile::Builder::new()
                    .prefix("testbed-")
                    .tempdir_in(parent)
                    .ok()
            })
            .find(|folder| {
                folder.path().join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_MAX
                    && folder.path().to_str().is_some()
            })
            .ok_or_else(|| {
                Error::new("no temporary folder: set TMPDIR to a short path that can be written")
            })?;

        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder.path())
            .current_dir("/")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of a terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .map_err(Error::because("cannot run /bin/sh"))?;

        Ok(Self { keeper, folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether we are root, as the folder's owner shows.
    pub(crate) fn is_root(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|folder| folder.uid() == 0)
    }

    /// Tells the keeper which program to end, if any, and how.
    pub(crate) fn keep(&mut self, program: Option<(u32, Ending)>) -> Result<(), Error> {
        let line = match program {
            Some((id, Ending::Kill)) => format!("{id} KILL"),
            Some((id, Ending::Quit)) => format!("{id} QUIT"),
            Some((id, Ending::Wait)) => format!("{id} CONT"),
            None => String::new(),
        };
        match &mut self.keeper.stdin {
            Some(stdin) => writeln!(stdin, "{line}").map_err(Error::because("the keeper is gone")),
            None => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The keeper first: once the server is reaped, its number may become another process's.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn is_open_to_others(folder: &Path) -> bool {
    folder.canonicalize().is_ok_and(|path| {
        path.ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|it| it.permissions().mode() & 0o001 != 0))
    })
}
