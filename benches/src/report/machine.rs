//! What measures, and what is measured, by name and version.

use std::fs;
use std::process::Command;

use testbed::Database;

use super::Table;

/// The peers, and what both they and we rest on, by their names in `Cargo.lock`.
const CRATES: [&str; 12] = [
    "axum",
    "axum_session",
    "axum_session_redispool",
    "diesel-async",
    "fred",
    "moka",
    "redis",
    "tokio",
    "tower",
    "tower-sessions",
    "tower-sessions-moka-store",
    "tower-sessions-redis-store",
];

/// When this was measured, and of which commit.
pub(super) fn when() -> String {
    format!(
        "<sub>Measured {} at commit {}.</sub>",
        said_by("date", &["-u", "+%Y-%m-%d"]),
        commit()
    )
}

pub(super) fn table() -> Table {
    let mut table = Table::new(["", ""]);
    table.row(["processor", &processor()]);
    table.row(["memory", &memory()]);
    table.row(["kernel", &said_by("uname", &["-sr"])]);
    table.row(["compiler", &said_by("rustc", &["-V"])]);
    table.row(["Redis", &redis()]);
    table.row(["PostgreSQL", &postgres()]);
    for name in CRATES {
        table.row([name, &locked(name)]);
    }
    table
}

fn commit() -> String {
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"]);
    let changed = said_by(
        "git",
        &[
            "status",
            "--porcelain",
            "--",
            "crates",
            "benches",
            "Cargo.lock",
        ],
    );
    match changed.is_empty() {
        true => commit,
        false => format!("{commit}, with changes"),
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.unwrap_or("unknown"))
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: Option<f64> = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.map_or("unknown".into(), |kib| {
        format!("{:.0} GiB", kib / 1048576.0)
    })
}

fn redis() -> String {
    let version = said_by("redis-server", &["--version"]);
    let found = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    found.unwrap_or("unknown").to_owned()
}

fn postgres() -> String {
    match std::env::var_os(testbed::SHARED_CLUSTER) {
        Some(_) => Database::create().sql("SHOW server_version"),
        None => "none".into(),
    }
}

/// The version of a crate that was built in.
fn locked(name: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let of_name = |entry: &&str| entry.starts_with(&format!("name = \"{name}\"\n"));
    let versions = LOCK
        .split("[[package]]\n")
        .filter(of_name)
        .filter_map(|entry| {
            let line = entry.lines().nth(1)?;
            line.strip_prefix("version = ")
                .map(|text| text.trim_matches('"'))
        });
    versions.collect::<Vec<_>>().join(", ")
}

/// What a program says; nothing if it does not run.
fn said_by(program: &str, args: &[&str]) -> String {
    let said = Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    said.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
