use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// The Debian package that brings each program.
const PACKAGES: [(&str, &str); 11] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("initdb", "postgresql"),
    ("postgres", "postgresql"),
    ("pg_basebackup", "postgresql-client"),
    ("pg_ctl", "postgresql"),
    ("pg_dump", "postgresql-client"),
    ("pg_restore", "postgresql-client"),
    ("pg_rewind", "postgresql"),
    ("psql", "postgresql-client"),
    ("sqlite3", "sqlite3"),
];

/// Where Debian keeps a folder of programs for each version of PostgreSQL.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// A command that runs `program` from `PATH`.
pub(crate) fn command(program: &str) -> Result<Command, Error> {
    in_path(program)
        .map(new_command)
        .ok_or_else(|| missing(program))
}

/// A command that runs one of PostgreSQL's programs: from `PATH` if the server's are there, else
/// from the newest version installed.
pub(crate) fn postgres_command(program: &str) -> Result<Command, Error> {
    let beside_server = match in_path("postgres") {
        // It may be a link into the folder with the others. Debian's own `psql` in `PATH` is a script
        // that starts a Perl first.
        Some(server) => fs::canonicalize(&server)
            .unwrap_or(server)
            .parent()
            .map(Path::to_owned),
        None => newest_postgres(),
    };
    let path = beside_server
        .map(|folder| folder.join(program))
        .filter(|path| path.is_file())
        .or_else(|| in_path(program))
        .ok_or_else(|| missing(program))?;

    Ok(new_command(path))
}

/// Runs `command` to its end with `input`, and returns what it printed without the last newline.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, Error> {
    let name = name_of(command);

    // A file, not a pipe: a program that prints before it has read everything cannot block us.
    let mut stdin = tempfile::tempfile().map_err(Error::because("no temporary file"))?;
    stdin
        .write_all(input.as_bytes())
        .and_then(|()| stdin.rewind())
        .map_err(Error::because("cannot write a temporary file"))?;
    let output = command
        .stdin(Stdio::from(stdin))
        .output()
        .map_err(Error::because(format_args!("cannot run {name}")))?;

    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!(
            "{name}: {} ({})",
            message.trim(),
            output.status
        )));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.strip_suffix('\n').unwrap_or(&printed).to_owned())
}

/// The name of a command's program, without its folder.
pub(crate) fn name_of(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name();
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// A command that the user's own settings for these programs do not reach.
fn new_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG") || text == "REDISCLI_AUTH" {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
    command
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn newest_postgres() -> Option<PathBuf> {
    fs::read_dir(POSTGRES_VERSIONS)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(version, folder)| (version, folder.join("bin")))
        .filter(|(_, folder)| folder.join("postgres").is_file())
        .max()
        .map(|(_, folder)| folder)
}

fn missing(program: &str) -> Error {
    let package = PACKAGES
        .iter()
        .find(|(name, _)| *name == program)
        .map_or(program, |(_, package)| package);
    Error::new(format!(
        "{program} was not found: install the Debian package {package} (scripts/test does so)"
    ))
}
