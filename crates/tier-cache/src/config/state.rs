//! Where the SQLite file is if nobody says: in the folder of this machine for what programs keep.

use std::env;
use std::ffi::OsString;
#[cfg(feature = "sqlite")]
use std::io;
use std::path::{Path, PathBuf};

/// The URL of a SQLite file of this name in the program's state folder: `$STATE_DIRECTORY`, as systemd
/// sets it; else a folder named after the program in `$XDG_STATE_HOME`, or in `~/.local/state`
/// (XDG Base Directory Specification 0.8).
///
/// The folder is made, for its owner alone, when the tables are. Without a home folder, or if a file of
/// this name is in the working directory and none in the state folder, the URL names the working
/// directory, where releases up to 0.1 had it.
///
/// ```
/// # use tier_cache::sqlite_in_state_folder;
/// let url = sqlite_in_state_folder("shop.db");
/// assert!(url.starts_with("sqlite://") && url.ends_with("shop.db"));
/// ```
pub fn sqlite_in_state_folder(file: &str) -> String {
    match folder(|name| env::var_os(name)) {
        Some(folder) => chosen(&folder.join(file), Path::new(file)),
        None => format!("sqlite://{file}"),
    }
}

fn chosen(state: &Path, working: &Path) -> String {
    let path = match working.exists() && !state.exists() {
        true => working,
        false => state,
    };
    format!("sqlite://{}", path.display())
}

/// The state folder, if the environment names one that can be written as a URL.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // Relative ones are to be ignored, as the specification says.
    let absolute = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        (path.is_absolute() && path.to_str().is_some()).then_some(path)
    };
    // Systemd separates several by colons.
    let of_systemd = variable("STATE_DIRECTORY").and_then(|folders| {
        let first = PathBuf::from(folders.to_str()?.split(':').next()?);
        first.is_absolute().then_some(first)
    });
    of_systemd.or_else(|| {
        let base = absolute("XDG_STATE_HOME");
        let base = base.or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        let program = env::current_exe().ok()?;
        Some(base.join(program.file_stem()?.to_str()?))
    })
}

/// Makes the state folder if this file is to be in it.
#[cfg(feature = "sqlite")]
pub(crate) fn prepare(file: &Path) -> io::Result<()> {
    let Some(folder) = folder(|name| env::var_os(name)) else {
        return Ok(());
    };
    match file.parent() == Some(&*folder) && !folder.exists() {
        true => make(&folder),
        false => Ok(()),
    }
}

#[cfg(feature = "sqlite")]
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        folder(|name| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_folder_is_systemds_or_that_of_the_user() {
        let program = env::current_exe().unwrap();
        let program = Path::new(program.file_stem().unwrap());
        let all = [
            ("STATE_DIRECTORY", "/var/lib/shop:/var/lib/other"),
            ("XDG_STATE_HOME", "/state"),
            ("HOME", "/home/ada"),
        ];
        assert_eq!(folder_with(&all), Some("/var/lib/shop".into()));
        assert_eq!(
            folder_with(&all[1..]),
            Some(Path::new("/state").join(program))
        );
        let home = Path::new("/home/ada/.local/state").join(program);
        assert_eq!(folder_with(&all[2..]), Some(home.clone()));
        let relative = [("XDG_STATE_HOME", "state"), ("HOME", "/home/ada")];
        assert_eq!(folder_with(&relative), Some(home));
        assert_eq!(folder_with(&[]), None);
    }

    #[test]
    fn a_file_of_an_earlier_release_is_still_used() {
        let base = tempfile::tempdir().unwrap();
        let (state, working) = (base.path().join("state.db"), base.path().join("old.db"));
        let is_at =
            |path: &Path| chosen(&state, &working) == format!("sqlite://{}", path.display());
        assert!(is_at(&state));
        std::fs::write(&working, "").unwrap();
        assert!(is_at(&working));
        std::fs::write(&state, "").unwrap();
        assert!(is_at(&state));
    }

    #[test]
    #[cfg(all(unix, feature = "sqlite"))]
    fn the_folder_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        make(&folder).unwrap();
        for made in [&folder, folder.parent().unwrap()] {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
