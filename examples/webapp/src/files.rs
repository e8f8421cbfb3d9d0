//! Files that hold sessions or keys: their owner's alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{geteuid, umask};

use crate::Failure;

/// From here on every file that this process makes is its user's alone: the database with its
/// write-ahead log, the key, the private Redis.
pub(crate) fn make_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Takes the database file away from other users, if it was made before this was done.
pub(crate) fn close(database: &str) {
    let Some(path) = database.strip_prefix("sqlite://") else {
        return;
    };
    let path = path.split('?').next().unwrap_or(path);
    for path in ["", "-wal", "-shm"].map(|end| format!("{path}{end}")) {
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        if found.is_file() && found.mode() & 0o077 != 0 {
            match fs::set_permissions(&path, Permissions::from_mode(0o600)) {
                Ok(()) => {
                    tracing::warn!("{path} could be read by others; it is its owner's alone now")
                }
                Err(error) => {
                    tracing::warn!(%error, "{path} can be read by others: chmod 600 {path}")
                }
            }
        }
    }
}

/// Refuses a key that somebody else may know, or has put there.
pub(crate) fn check_key(path: &Path) -> Result<(), Failure> {
    let found = fs::metadata(path)?;
    let (owner, own) = (found.uid(), geteuid().as_raw());
    let path = path.display();
    if owner != own {
        return Err(format!(
            "it belongs to user {owner}, and this runs as user {own}: delete {path} for a new key, \
             which logs everybody out, or set SESSION_KEY"
        )
        .into());
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "others can read it: chmod 600 {path}, or delete it for a new key, which logs everybody \
             out"
        )
        .into());
    }
    Ok(())
}
