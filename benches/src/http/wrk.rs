//! The client: `wrk`, which keeps its connections and shows another cookie each time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::server::{CORE, Server};
use crate::Failure;

const CONNECTIONS: u32 = 16;

/// The requests are written beforehand, so that choosing one costs wrk next to nothing.
const SCRIPT: &str = r#"
local requests, at = {}, 0
function init(args)
    for cookie in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format("GET", "/", { ["Host"] = "localhost", ["Cookie"] = cookie })
    end
end
function request()
    at = at % #requests + 1
    return requests[at]
end
"#;

pub(super) struct Wrk {
    folder: TempDir,
}

/// What it counted.
pub(super) struct Asked {
    pub(super) requests: f64,
    pub(super) a_second: f64,
}

impl Wrk {
    /// # Errors
    ///
    /// If a program is missing.
    pub(super) fn find() -> Result<Self, Failure> {
        for (program, package) in [("wrk", "wrk"), ("taskset", "util-linux")] {
            if Command::new(program).arg("--version").output().is_err() {
                return Err(
                    format!("the chapter http needs {program}: apt-get install {package}").into(),
                );
            }
        }
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("cookies.lua"), SCRIPT)?;
        Ok(Self { folder })
    }

    pub(super) fn ask(&self, server: &Server, slice: Duration) -> Result<Asked, Failure> {
        let output = Command::new("taskset")
            .args(["-c", &(CORE + 1).to_string(), "wrk", "--threads", "1"])
            .args(["--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", slice.as_secs()), "--script"])
            .arg(self.folder.path().join("cookies.lua"))
            .args([&server.url, "--"])
            .arg(server.cookies())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || said.contains("Non-2xx") || said.contains("Socket errors") {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("wrk says: {said}{complaint}").into());
        }
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok());
        let requests = said
            .lines()
            .find_map(|line| line.split_once(" requests in"));
        let a_second = said
            .lines()
            .find_map(|line| line.strip_prefix("Requests/sec:"));
        number(requests.map(|(count, _)| count))
            .zip(number(a_second))
            .map(|(requests, a_second)| Asked { requests, a_second })
            .ok_or_else(|| format!("wrk says: {said}").into())
    }
}
