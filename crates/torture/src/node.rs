//! One node: a process of its own, driven over a socket.

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use cap::Cap;
use serde::{Deserialize, Serialize};
use session_core::{SecretKey, Token, TokenKeys};
use tier_cache::{Error, Issued, Login, Refusal, Session, Strictness, TierConfig, Tiers};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::unaware::Unaware;
use crate::wire::{Ask, Say, Tokens};

/// Counts what is in use; without what SQLite has, which is no Rust.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Data {
    count: u64,
    #[serde(default)]
    tag: u64,
}

/// Set, it makes a node that does not keep the promise.
pub(crate) const OPEN_GATE: &str = "TORTURE_OPEN_GATE";
/// Set, it makes a node that does not notice that the database went back.
pub(crate) const UNAWARE: &str = "TORTURE_UNAWARE";
/// The root secret of all nodes.
pub(crate) const SECRET: &str = "torturetorturetorturetorturetorturetorturetorturetorture";

/// Serves until it is killed; prints its port first. Configured by `SESSION_*`, with the root
/// secret in `SESSION_KEY`.
///
/// # Errors
///
/// If the tiers do not open.
pub async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let secret = SecretKey::new(std::env::var("SESSION_KEY")?)?;
    let config = TierConfig::load(None)?;
    let keys = TokenKeys::new(&secret);
    let tiers: Tiers<Data> = match std::env::var_os(UNAWARE) {
        None => Tiers::open(config, keys).await?,
        Some(_) => {
            let store = Unaware::open(&config.cold).await?;
            Tiers::builder(config, keys)
                .store(Arc::new(store))
                .start()
                .await?
        }
    };
    if std::env::var_os(OPEN_GATE).is_some() {
        tiers.open_the_gate();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(talk(tiers.clone(), stream));
    }
}

async fn talk(tiers: Tiers<Data>, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let said = match serde_json::from_str(&line) {
            Ok(ask) => answer(&tiers, ask).await,
            Err(error) => Say::Failed(error.to_string()),
        };
        line.clear();
        let mut answer = serde_json::to_string(&said)?;
        answer.push('\n');
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

async fn answer(tiers: &Tiers<Data>, ask: Ask) -> Say {
    let asked_at = tiers.now().moment.nanos();
    let session = |session: &Session<Data>, tokens: Option<Tokens>| {
        let data = session.body_if_here().and_then(|body| body.data().ok());
        Say::Session {
            id: session.id().to_string(),
            tokens,
            version: session.version().get(),
            count: data.as_ref().map(|data| data.count),
            tag: data.as_ref().map(|data| data.tag),
            tier: session.tier().to_string(),
            asked_at,
            served_at: tiers.now().moment.nanos(),
        }
    };
    let refused = |refusal: Refusal| match refusal.is_unavailable() {
        true => Say::Failed(refusal.to_string()),
        false => Say::Refused(refusal.to_string()),
    };
    let found = async |token: &str, strictness| match Token::parse(token) {
        Ok(token) => tiers.find_strict(token, strictness).await.map_err(refused),
        Err(error) => Err(Say::Failed(error.to_string())),
    };
    match ask {
        Ask::Login => {
            let login = Login::guest().ttl(Duration::from_secs(24 * 60 * 60));
            match tiers.login(login).await {
                Ok(issued) => session(&issued.session, Some(tokens(&issued))),
                Err(error) => Say::Failed(error.to_string()),
            }
        }
        Ask::FindBriefly { token, micros } => {
            let found = found(&token, Strictness::Trust);
            match timeout(Duration::from_micros(micros), found).await {
                Ok(Ok(found)) => session(&found, None),
                Ok(Err(said)) => said,
                Err(_) => Say::GivenUp,
            }
        }
        Ask::Refresh { token } => match Token::parse(&token) {
            Ok(token) => match tiers.refresh(&token).await {
                Ok(issued) => session(&issued.session, Some(tokens(&issued))),
                Err(Error::Refused(refusal)) => refused(refusal),
                Err(error) => Say::Failed(error.to_string()),
            },
            Err(error) => Say::Failed(error.to_string()),
        },
        Ask::Tasks => {
            let tasks = Handle::current().metrics().num_alive_tasks();
            Say::Tasks(tasks as u64)
        }
        Ask::Heap => Say::Heap(HEAP.allocated() as u64),
        Ask::Find { token } => match found(&token, Strictness::Trust).await {
            Ok(found) => session(&found, None),
            Err(said) => said,
        },
        Ask::FindStrict { token } => match found(&token, Strictness::Row).await {
            Ok(found) => session(&found, None),
            Err(said) => said,
        },
        Ask::Increment { token, tag } => match found(&token, Strictness::Trust).await {
            Ok(found) => {
                let change = |data: &mut Data| {
                    data.count += 1;
                    data.tag = tag;
                };
                match found.update(change).await {
                    Ok(changed) => session(&changed, None),
                    Err(error) => Say::Failed(error.to_string()),
                }
            }
            Err(said) => said,
        },
        Ask::Revoke { id } => match id.parse() {
            Ok(id) => match tiers.revoke(id).await {
                Ok(_) => Say::Done,
                Err(error) => Say::Failed(error.to_string()),
            },
            Err(_) => Say::Failed("no id".into()),
        },
    }
}

fn tokens(issued: &Issued<Data>) -> Tokens {
    Tokens {
        access: issued.access.expose().to_string(),
        refresh: issued.refresh.expose().to_string(),
    }
}
