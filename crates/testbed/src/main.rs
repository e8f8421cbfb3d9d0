//! Runs a command beside a PostgreSQL cluster that its tests share: `testbed cargo test`.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use testbed::Cluster;

/// What `cargo run` tells its program about itself. Passed on to another `cargo`, it would make
/// some build scripts run anew each time.
const OF_CARGO_RUN: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let Some(program) = args.next() else {
        eprintln!("usage: testbed <command> [args…]");
        return ExitCode::from(2);
    };
    run(program, args.collect()).unwrap_or_else(|error| {
        eprintln!("testbed: {error}");
        ExitCode::FAILURE
    })
}

/// Starts the cluster, runs the program in it, and stops it whatever the program did.
///
/// A signal to end does not end us: it goes on to the program, whose end is ours.
fn run(program: OsString, args: Vec<OsString>) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let listening = signals.handle();
    let stage = Mutex::new(Stage::Starting);

    thread::scope(|scope| {
        scope.spawn(|| {
            for signal in signals.forever() {
                let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                match *stage {
                    Stage::Starting => *stage = Stage::Cancelled(signal),
                    Stage::Running(child) => testbed::forward(signal, child),
                    Stage::Cancelled(_) => {}
                }
            }
        });

        let result = start_and_wait(program, args, &stage);
        listening.close();
        result
    })
}

/// How far we are, which decides what a signal does.
enum Stage {
    /// At first. A signal makes it `Cancelled`, the program's start makes it `Running`.
    Starting,
    /// By a signal, before the program was started. It will not be.
    Cancelled(i32),
    /// From the program's start on, under this number.
    Running(u32),
}

fn start_and_wait(
    program: OsString,
    args: Vec<OsString>,
    stage: &Mutex<Stage>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let cluster = Cluster::builder().try_start()?;
    let mut command = Command::new(&program);
    cluster.share_with(command.args(args));
    for (name, _) in env::vars_os() {
        if OF_CARGO_RUN
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }

    let mut child = {
        // Held over the start, so that no signal falls between the look and the leap.
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Stage::Cancelled(signal) = *stage {
            return Ok(exit_code(ExitStatus::from_raw(signal)));
        }
        let child = command
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        *stage = Stage::Running(child.id());
        child
    };
    Ok(exit_code(child.wait()?))
}

/// The program's own code, or 128 and the signal's number as a shell has it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
