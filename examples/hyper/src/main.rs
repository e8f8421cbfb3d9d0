//! Tiered sessions on bare hyper: `cargo run -p hyper-example`.
//!
//! A visitor without a session gets one; whoever comes with it is counted.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_session::{CookieChange, Login, Session, SessionLayer, TierConfig, Tiers, TokenKeys};

/// How often the visitor was here.
type Visits = u64;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The sessions of an example end with it.
    let folder = tempfile::tempdir()?;
    let mut config = TierConfig::default();
    config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    let tiers: Tiers<Visits> = Tiers::open(config, TokenKeys::random()).await?;

    let greeting = {
        let tiers = tiers.clone();
        service_fn(move |request| greet(tiers.clone(), request))
    };
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(tiers))
        .service(greeting);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    println!("curl -c jar -b jar http://localhost:{port}/   # and again");
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                eprintln!("a connection ended early: {error}");
            }
        });
    }
}

async fn greet(tiers: Tiers<Visits>, request: Request<Incoming>) -> Answer {
    Ok(match request.extensions().get::<Session<Visits>>() {
        Some(session) => {
            let mut visit = 0;
            let counted = session.update(|visits| {
                *visits += 1;
                visit = *visits;
            });
            match counted.await {
                Ok(_) => say(format!(
                    "welcome back: visit {visit}; known from {}\n",
                    session.tier()
                )),
                Err(error) => say(format!("{error}\n")),
            }
        }
        None => match tiers.login(Login::guest().data(1)).await {
            Ok(issued) => {
                let mut response = say("welcome: visit 1\n".into());
                let extensions = response.extensions_mut();
                extensions.insert(CookieChange::set(&issued));
                response
            }
            Err(error) => say(format!("{error}\n")),
        },
    })
}

fn say(text: String) -> Response<Full<Bytes>> {
    Response::new(Full::from(text))
}
