//! The example does what it says, to curl.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Ends the example with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_visitor_is_known_when_coming_back() {
    let child = Command::new(env!("CARGO_BIN_EXE_hyper-example"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    let stdout = running.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();

    // The line that it prints, pasted into a shell, in a folder of its own.
    let folder = tempfile::tempdir().unwrap();
    let paste = || {
        let line = line.replace("curl ", "curl --silent --show-error --fail ");
        let shell = Command::new("sh")
            .args(["-c", &line])
            .current_dir(&folder)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&shell.stderr);
        assert!(shell.status.success(), "{line}: {errors}");
        String::from_utf8(shell.stdout).unwrap()
    };
    assert_eq!(paste(), "welcome: visit 1\n");
    assert_eq!(paste(), "welcome back: visit 2; known from hot\n");
}
