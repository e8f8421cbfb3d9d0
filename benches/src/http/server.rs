//! The server: this program again, in a process of its own on a core of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, io, thread};

use axum::ServiceExt;
use axum::extract::Request;
use clap::ValueEnum as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tower::Layer as _;

use crate::Failure;
use crate::apps::Kind;
use crate::measure::uncounted;

/// The core of the server; wrk gets the next.
pub(super) const CORE: usize = 0;

/// A running server, ended when dropped.
pub(super) struct Server {
    process: Child,
    pub(super) url: String,
    folder: TempDir,
}

impl Server {
    pub(super) fn start(kind: Kind, sessions: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let kind = kind.to_possible_value().ok_or("none is skipped")?;
        let mut process = Command::new("taskset")
            .args(["-c", &CORE.to_string()])
            .arg(env::current_exe()?)
            .args(["serve", kind.get_name(), &sessions.to_string()])
            .arg(cookies(folder.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let said = process.stdout.take().ok_or("it is piped")?;
        BufReader::new(said).read_line(&mut address)?;
        Ok(Self {
            process,
            url: format!("http://{}/", address.trim()),
            folder,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The file with a cookie in each line.
    pub(super) fn cookies(&self) -> PathBuf {
        cookies(self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn cookies(folder: &Path) -> PathBuf {
    folder.join("cookies")
}

/// What the process does: serves the application, until nobody holds its standard input.
pub(crate) fn serve(kind: Kind, sessions: usize, cookies: &Path) -> Result<(), Failure> {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    uncounted(|| {
        runtime.block_on(async {
            let app = kind.app(sessions).await?;
            fs::write(cookies, app.cookies.join("\n"))?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            io::stdout().flush()?;
            match app.around {
                Some(layer) => {
                    let app = ServiceExt::<Request>::into_make_service(layer.layer(app.router));
                    axum::serve(listener, app).await?;
                }
                None => axum::serve(listener, app.router).await?,
            }
            Ok(())
        })
    })
}
