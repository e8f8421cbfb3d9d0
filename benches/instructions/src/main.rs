//! Does one thing so many times, for counting its instructions: `instructions KIND TIMES`.
//!
//! Each time goes through [`one_request`], by whose name valgrind knows what to count.

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use tower::{Layer as _, Service, service_fn};
use tower_session::{
    Credential, Key, Login, Session, SessionCookie, SessionLayer, TierConfig, Tiers, TokenKeys,
};

const SESSIONS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(kind), Some(times)) = (words.next(), words.next()) else {
        return Err("which kind, and how many times?".into());
    };
    let times: usize = times.parse()?;
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tiers, cookies, ids) = runtime.block_on(sessions(folder.path()))?;
    let _guard = runtime.enter();
    let request = |at: usize| {
        let cookie = cookies[at % SESSIONS].as_str();
        let request = Request::builder().header("cookie", cookie);
        request.body(()).expect("a request")
    };
    let mut bare = service_fn(bare);
    let mut ours = SessionLayer::new(tiers.clone()).layer(service_fn(inner));
    // Each session's third request is like all that follow.
    (0..3 * SESSIONS).for_each(|at| respond(&mut ours, request(at)));
    match kind.as_str() {
        "service" => (0..times).for_each(|at| {
            let request = request(at);
            one_request(|| respond(&mut bare, request));
        }),
        "known" => (0..times).for_each(|at| {
            let request = request(at);
            one_request(|| respond(&mut ours, request));
        }),
        "by-id" => (0..times).for_each(|at| {
            let found = one_request(|| tiers.try_hot(&ids[at % SESSIONS]));
            assert!(found.is_some_and(|found| found.is_ok()));
        }),
        _ => return Err(format!("{kind:?} is not service, known or by-id").into()),
    }
    Ok(())
}

#[inline(never)]
fn one_request<T>(request: impl FnOnce() -> T) -> T {
    black_box(request())
}

fn respond<S>(service: &mut S, request: Request<()>)
where
    S: Service<Request<()>, Response = Response<u64>, Error = Infallible>,
{
    let answered = service.call(request).now_or_never();
    let response = answered.expect("it waits for nothing").expect("infallible");
    assert_eq!(*response.body(), 1);
}

async fn bare(_: Request<()>) -> Result<Response<u64>, Infallible> {
    Ok(Response::new(1))
}

async fn inner(request: Request<()>) -> Result<Response<u64>, Infallible> {
    let session: &Session<u64> = request.extensions().get().expect("a session");
    let body = session.body_if_here().expect("it is hot");
    Ok(Response::new(*body.data().expect("it reads")))
}

type Sessions = (Tiers<u64>, Vec<String>, Vec<Credential>);

async fn sessions(folder: &std::path::Path) -> Result<Sessions, Box<dyn Error>> {
    let mut config = TierConfig::default();
    config.cold.url = format!("sqlite://{}/sessions.db", folder.display());
    // Nothing else is to happen meanwhile, however slow it all is under valgrind.
    config.fence.staleness_bound = Duration::from_secs(24 * 60 * 60);
    config.fence.poll_interval = Duration::from_secs(60 * 60);
    let tiers: Tiers<u64> = Tiers::open(config, TokenKeys::random()).await?;
    let (mut cookies, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let issued = tiers.login(Login::guest().data(1)).await?;
        let token = issued.access.expose();
        cookies.push(format!("{}={}", SessionCookie::NAME, &*token));
        ids.push(Key::Id(issued.session.id()).into());
    }
    Ok((tiers, cookies, ids))
}
