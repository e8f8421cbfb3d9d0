//! A node: this program again, in a process of its own, which does what it is told by a line and
//! answers by a line.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use futures_util::FutureExt as _;
use http::{Request, Response};
use session_core::{SecretKey, TokenKeys};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tower::{Layer as _, Service, service_fn};
use tower_session::{Session, SessionLayer, TierConfig, Tiers};

use crate::measure::uncounted;
use crate::sessions::Basket;
use crate::{Failure, processor};

/// Where the nodes find what they share: a folder with a line in each file.
pub(super) struct Place {
    folder: TempDir,
}

impl Place {
    pub(super) fn new(cold: &str, warm: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let secret = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        for (name, text) in [("cold", cold), ("warm", warm), ("secret", &secret)] {
            fs::write(folder.path().join(name), text)?;
        }
        Ok(Self { folder })
    }

    pub(super) fn keys(&self) -> Result<TokenKeys, Failure> {
        keys(&fs::read_to_string(self.folder.path().join("secret"))?)
    }

    /// Which sessions to ask for.
    pub(super) fn tell(&self, cookies: &[String]) -> Result<(), Failure> {
        Ok(fs::write(
            self.folder.path().join("cookies"),
            cookies.join("\n"),
        )?)
    }
}

fn keys(secret: &str) -> Result<TokenKeys, Failure> {
    Ok(TokenKeys::new(&SecretKey::new(secret)?))
}

/// Nanoseconds of processor time for one request.
pub(super) struct Hits {
    pub(super) ours: f64,
    pub(super) bare: f64,
}

/// A running node, ended when dropped.
pub(super) struct Node {
    process: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Node {
    pub(super) fn start(place: &Place) -> Result<Self, Failure> {
        let mut process = Command::new(env::current_exe()?)
            .arg("node")
            .arg(place.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let told = process.stdin.take().ok_or("it is piped")?;
        let says = BufReader::new(process.stdout.take().ok_or("it is piped")?);
        let mut node = Self {
            process,
            told,
            says,
        };
        node.answer::<0>()?;
        Ok(node)
    }

    /// Asks all at once, and waits for all.
    pub(super) fn all<T: Send>(
        nodes: &mut [Self],
        ask: impl Fn(&mut Self) -> Result<T, Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        thread::scope(|scope| {
            let ask = &ask;
            let asked: Vec<_> = nodes
                .iter_mut()
                .map(|node| scope.spawn(move || ask(node)))
                .collect();
            let answers = asked.into_iter().map(|asked| asked.join());
            answers
                .map(|answer| answer.map_err(|_| "a thread ends")?)
                .collect()
        })
    }

    /// Hot hits for about so long.
    pub(super) fn hit(&mut self, slice: Duration) -> Result<Hits, Failure> {
        let [ours, bare] = self.ask("hit", slice)?;
        Ok(Hits { ours, bare })
    }

    /// Nothing for so long; says what processor time that took.
    pub(super) fn rest(&mut self, slice: Duration) -> Result<Duration, Failure> {
        let [seconds] = self.ask("rest", slice)?;
        Ok(Duration::from_secs_f64(seconds))
    }

    fn ask<const N: usize>(&mut self, what: &str, slice: Duration) -> Result<[f64; N], Failure> {
        writeln!(self.told, "{what} {}", slice.as_millis())?;
        self.answer()
    }

    fn answer<const N: usize>(&mut self) -> Result<[f64; N], Failure> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        let numbers: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
        numbers
            .try_into()
            .map_err(|_| format!("a node says {line:?}").into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process does, until nobody tells it anything more.
pub(crate) fn serve(folder: &Path) -> Result<(), Failure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let mut config = TierConfig::default();
    config.cold.url = read("cold")?;
    config.warm.url = Some(read("warm")?);
    let keys = keys(&read("secret")?)?;
    let cookies: Vec<String> = read("cookies")?.lines().map(str::to_owned).collect();
    let tiers: Tiers<Basket> = runtime.block_on(Tiers::open(config, keys))?;
    let _guard = runtime.enter();
    let mut ours = SessionLayer::new(tiers).layer(service_fn(with_session));
    let mut bare = service_fn(without);
    for cookie in &cookies {
        runtime.block_on(ours.call(request(cookie)))?;
    }
    println!();
    for line in io::stdin().lines() {
        let line = line?;
        let (what, millis) = line.split_once(' ').ok_or("what, and how long")?;
        let slice = Duration::from_millis(millis.parse()?);
        match what {
            "hit" => {
                let [ours, bare] = uncounted(|| hit(&mut ours, &mut bare, &cookies, slice));
                println!("{ours} {bare}");
            }
            _ => {
                let before = processor::of_this_process();
                thread::sleep(slice);
                println!("{}", (processor::of_this_process() - before).as_secs_f64());
            }
        }
    }
    Ok(())
}

/// Nanoseconds of processor time of a request, with the layer and without.
fn hit(
    ours: &mut impl Service<Request<()>, Error = Infallible>,
    bare: &mut impl Service<Request<()>, Error = Infallible>,
    cookies: &[String],
    slice: Duration,
) -> [f64; 2] {
    let end = Instant::now() + slice;
    let (mut with, mut without, mut times) = (Duration::ZERO, Duration::ZERO, 0.0);
    while Instant::now() < end {
        with += all(ours, cookies);
        without += all(bare, cookies);
        times += cookies.len() as f64;
    }
    [with, without].map(|time| time.as_secs_f64() * 1e9 / times)
}

/// Each session once.
fn all(
    service: &mut impl Service<Request<()>, Error = Infallible>,
    cookies: &[String],
) -> Duration {
    let before = processor::of_thread();
    for cookie in cookies {
        let answered = service.call(request(cookie)).now_or_never();
        assert!(answered.is_some_and(|answer| answer.is_ok()), "it is hot");
    }
    processor::of_thread() - before
}

fn request(cookie: &str) -> Request<()> {
    let request = Request::builder().header("cookie", cookie).body(());
    request.expect("a request")
}

async fn with_session(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let session = request
        .extensions()
        .get::<Session<Basket>>()
        .expect("a session");
    // The first time its head alone is here.
    let body = session.body().await;
    let items = body.map_or(0, |body| body.data().map_or(0, |it| it.items));
    Ok(Response::new(items))
}

async fn without(_: Request<()>) -> Result<Response<u64>, Infallible> {
    Ok(Response::new(1))
}
