//! What is left of a hit over HTTP: requests a second of a server on one core, asked by wrk from
//! another.

mod server;
mod wrk;

use std::time::Duration;

use self::server::Server;
use self::wrk::Wrk;
use crate::Failure;
use crate::apps::Kind;
use crate::chapter::Effort;
use crate::measure::in_turn;
use crate::processor;
use crate::report::{Section, Table};
use crate::spread::Spread;

pub(crate) use server::serve;

const SESSIONS: usize = 1000;
const CONTENDERS: [(Kind, &str); 7] = [
    (Kind::Bare, "axum alone"),
    (Kind::Extension, "axum with `Extension`"),
    (
        Kind::Least,
        "a cookie found, the clock read, an `Arc` handed on",
    ),
    (Kind::Ours, "**ours**"),
    (Kind::OursAround, "**ours**, around the router"),
    (Kind::ByHand, "moka by hand"),
    (Kind::TowerSessions, "tower-sessions, moka"),
];

/// What was measured of one contender, round by round.
#[derive(Clone, Default)]
struct Measured {
    rates: Vec<f64>,
    /// Microseconds of the server's processor time for one request.
    micros: Vec<f64>,
}

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let wrk = Wrk::find()?;
    let rounds = effort.of(31, 3);
    let slice = Duration::from_secs(1);
    let servers = CONTENDERS.map(|(kind, _)| Server::start(kind, SESSIONS));
    let servers: Vec<Server> = servers.into_iter().collect::<Result<_, _>>()?;
    let mut measured = vec![Measured::default(); servers.len()];
    let mut failed = None;
    // Once, so that none is the first to be asked at all.
    for server in &servers {
        wrk.ask(server, Duration::from_secs(1))?;
    }
    in_turn(rounds, servers.len(), |at| {
        let before = processor::of_process(servers[at].id());
        match wrk.ask(&servers[at], slice) {
            Ok(asked) => {
                let ran = processor::of_process(servers[at].id()) - before;
                measured[at].rates.push(asked.a_second);
                measured[at]
                    .micros
                    .push(ran.as_secs_f64() * 1e6 / asked.requests);
            }
            Err(error) => failed = Some(error),
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Section::default().table("http", table(&measured))),
    }
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new([
        "",
        "requests a second",
        "of the bare one's",
        "server's processor time each, µs",
        "over the bare one",
    ]);
    let bare = &measured[0];
    for (mine, (_, name)) in measured.iter().zip(CONTENDERS) {
        let over = Spread::of_pairs(&mine.micros, &bare.micros, |mine, bare| mine - bare);
        table.row([
            name.to_owned(),
            Spread::of(mine.rates.iter().copied()).to_string(),
            Spread::ratio(&mine.rates, &bare.rates).shown(3, ""),
            Spread::of(mine.micros.iter().copied()).shown(2, ""),
            over.shown(2, ""),
        ]);
    }
    for (place, kind) in [("", Kind::Ours), (", around the router,", Kind::OursAround)] {
        let at = CONTENDERS.iter().position(|contender| contender.0 == kind);
        let ours = &measured[at.expect("it is one of them")];
        let ours = Spread::ratio(&ours.rates, &bare.rates);
        table.target(
            &format!("ours{place} answers at least 97 % of the bare one's requests"),
            &ours.shown(3, ""),
            ours.median >= 0.97,
        );
    }
    table
}
