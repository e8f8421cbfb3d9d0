//! A Redis for this process alone: on a socket that only its user reaches, gone when we are gone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Runs the server as its child and reads from a pipe of which we hold the other end. The pipe
/// ends when we do, in whatever way, and then the server is killed (a cache has nothing to save)
/// and its folder removed. As the server's parent it cannot mistake another process for it.
const KEEPER: &str = r#"
folder=$1
shift
"$@" </dev/null >"$folder/log" 2>&1 &
server=$!
read -r _
kill -KILL "$server"
wait "$server" 2>/dev/null
rm -rf "$folder"
"#;

/// How long the server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest path of a socket that every system takes, less some for what we append.
const PATH_MAX: usize = 60;

/// A running server. When it is dropped the server ends soon after.
#[derive(Debug)]
pub(crate) struct PrivateRedis {
    keeper: Child,
    folder: TempDir,
}

impl PrivateRedis {
    /// Starts a server, if one is installed.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    pub(crate) async fn start() -> Result<Self, String> {
        let program = installed("redis-server").ok_or("no redis-server is installed")?;
        let folder = tempfile::Builder::new()
            .prefix("webapp-redis-")
            .tempdir_in(place())
            .map_err(|error| format!("no folder for a private redis-server: {error}"))?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "webapp-redis-keeper"])
            .arg(folder.path())
            .arg(program)
            .args(["--port", "0", "--unixsocketperm", "700", "--unixsocket"])
            .arg(socket(&folder))
            .arg("--dir")
            .arg(folder.path())
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--maxmemory", "128mb", "--maxmemory-policy", "allkeys-lru"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C is for us: the requests that we let end may still need it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start a private redis-server: {error}"))?;
        let redis = Self { keeper, folder };
        redis.ready().await?;
        Ok(redis)
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", socket(&self.folder).display())
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        drop(self.keeper.stdin.take());
        if timeout(PATIENCE, self.keeper.wait()).await.is_err() {
            tracing::warn!("the private redis-server did not end in time");
        }
    }

    async fn ready(&self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(socket(&self.folder)).await.is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                let last = log.lines().rfind(|line| !line.trim().is_empty());
                return Err(format!(
                    "a private redis-server did not start: {}",
                    last.unwrap_or("it says nothing")
                ));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("redis.sock")
}

/// The folder for temporary files; `/tmp` where that is no good for a socket, or needs escapes in
/// a URL.
fn place() -> PathBuf {
    let place = env::temp_dir();
    let plain = |text: &str| {
        text.len() <= PATH_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte))
    };
    match place.to_str() {
        Some(text) if place.is_absolute() && plain(text) => place,
        _ => "/tmp".into(),
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file: &PathBuf| Path::is_file(file))
}
