//! In the process: this program again for each, since what one gave back another would use.

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use tokio::runtime::Builder;
use tower_session::TierConfig;
use tower_sessions::session_store::SessionStore as _;
use tower_sessions_moka_store::MokaStore;

use crate::Failure;
use crate::apps;
use crate::chapter::Effort;
use crate::processor::resident;
use crate::report::Table;
use crate::sessions::Sessions;
use crate::spread::number;

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Holds {
    /// Ours, with minted tokens.
    Ours,
    /// Ours, each with a foreign key.
    OursByKey,
    /// Moka alone, with user and data.
    Moka,
    TowerSessions,
}

impl Holds {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "**ours**",
            Self::OursByKey => "**ours**, with a foreign key",
            Self::Moka => "moka by hand",
            Self::TowerSessions => "tower-sessions, moka",
        }
    }
}

pub(super) fn table(effort: Effort) -> Result<Table, Failure> {
    let sessions = effort.of(1_000_000, 50_000);
    let mut table = Table::new([
        "",
        "resident bytes each",
        "allocated bytes each",
        "allocations each",
    ]);
    let mut allocated = Vec::new();
    for &holds in Holds::value_variants() {
        let [resident, bytes, count] = in_a_process(holds, sessions)?;
        allocated.push(bytes);
        table.row([
            holds.name().to_owned(),
            number(resident, 0),
            number(bytes, 0),
            number(count, 1),
        ]);
    }
    table.note(format!("{} sessions each.", number(sessions as f64, 0)));
    let more = allocated[1] - allocated[0];
    table.target(
        "a hot session takes at most 600 bytes, as they were asked of the allocator",
        &number(allocated[0], 0),
        allocated[0] <= 600.0,
    );
    table.target(
        "a foreign key at most 300 more",
        &number(more, 0),
        more <= 300.0,
    );
    Ok(table)
}

fn in_a_process(holds: Holds, sessions: usize) -> Result<[f64; 3], Failure> {
    let name = holds.to_possible_value().ok_or("none is skipped")?;
    let output = Command::new(env::current_exe()?)
        .args(["hold", name.get_name(), &sessions.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said.split_whitespace().flat_map(str::parse).collect();
    let numbers: [f64; 3] = numbers.try_into().map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("the process that holds sessions says: {said}{complaint}")
    })?;
    Ok(numbers.map(|number| number / sessions as f64))
}

/// What the process does: says how many bytes it holds more with the sessions than without, how
/// many of them it asked for, and by how many allocations.
pub(crate) fn hold(holds: Holds, sessions: usize) -> Result<(), Failure> {
    // One thread, so that all is counted and comes from one arena.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut config = TierConfig::default();
    // As is needed; a quarter of it is for the keys.
    config.hot.capacity = match holds {
        Holds::OursByKey => ByteSize::mib(1280),
        _ => ByteSize::mib(640),
    };
    config.hot.ttl = Duration::from_secs(12 * 60 * 60);
    match holds {
        Holds::Ours => {
            // What is held beforehand is held to the end.
            let (sessions, _tokens) = Sessions::with_tokens(sessions);
            count(|| runtime.block_on(sessions.cached(config)))
        }
        Holds::OursByKey => {
            let (sessions, _keys) = Sessions::with_foreign_keys(sessions);
            count(|| runtime.block_on(sessions.cached(config)))
        }
        Holds::Moka => count(|| Ok(apps::known(sessions).0)),
        Holds::TowerSessions => count(|| {
            runtime.block_on(async {
                let store = MokaStore::new(None);
                for number in 0..sessions {
                    store.create(&mut apps::record(number)).await?;
                }
                Ok(Arc::new(store))
            })
        }),
    }
}

fn count<T>(make: impl FnOnce() -> Result<T, Failure>) -> Result<(), Failure> {
    let before = resident();
    let mut made = None;
    let counted = allocation_counter::measure(|| made = Some(make()));
    let resident = resident().saturating_sub(before);
    let _made = made.ok_or("it is made")??;
    println!(
        "{resident} {} {}",
        counted.bytes_current, counted.count_current
    );
    Ok(())
}
