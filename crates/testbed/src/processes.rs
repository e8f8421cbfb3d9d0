use std::fs;
use std::process;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};

/// One line of the system's table of processes.
#[derive(Clone, Copy)]
struct Process {
    id: u32,
    state: char,
    parent: u32,
    group: u32,
}

/// Passes a signal on to every process that descends from this one and shares its process group,
/// and to `child` in any case.
///
/// A signal sent to one process reaches no other. `cargo` does not pass it on to the tests that it
/// runs, so that they would run on without the cluster. Servers and keepers are in groups of their
/// own and are left alone.
pub fn forward(signal: i32, child: u32) {
    let Some(signal) = Signal::from_named_raw(signal) else {
        return;
    };
    let group = getpgrp().as_raw_nonzero().get().unsigned_abs();
    for process in descendants(process::id()) {
        if process.group == group || process.id == child {
            send(process.id, signal);
        }
    }
}

/// Stops `id` and its children, and returns when they stand still.
pub(crate) fn pause(id: u32) {
    // The parent first, so that it has no new ones.
    pause_one(id);
    for child in children(id) {
        pause_one(child.id);
    }
}

/// Lets `id` and its children go on after [`pause`].
pub(crate) fn resume(id: u32) {
    for child in children(id) {
        send(child.id, Signal::CONT);
    }
    send(id, Signal::CONT);
}

/// Sends a signal; a process that has just ended does not mind.
pub(crate) fn send(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn pause_one(id: u32) {
    send(id, Signal::STOP);
    while read(id).is_some_and(|process| !matches!(process.state, 'T' | 'Z')) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn descendants(of: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            found.push(*process);
            parents.push(process.id);
        }
    }
    found
}

fn children(of: u32) -> Vec<Process> {
    all()
        .into_iter()
        .filter(|process| process.parent == of)
        .collect()
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The program's name comes first, in parentheses, and may itself hold any character.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    Some(Process {
        id,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}
