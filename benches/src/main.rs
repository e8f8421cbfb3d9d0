//! What sessions cost, beside the peers, in one run; `docs/results.md` is written from it.
//!
//! ```console
//! $ cargo run --release -p testbed -- cargo run --release -p benches                  # all chapters
//! $ cargo run --release -p testbed -- cargo run --release -p benches -- hot warm      # these, and only their sections
//! $ cargo run --release -p testbed -- cargo run --release -p benches -- --quick       # a smoke run, which writes nothing
//! $ cargo run --release -p benches -- once tower 20000                            # for counting instructions
//! ```
//!
//! | file | what it says |
//! |---|---|
//! | `cli.rs`, `chapter.rs` | what it is told; the chapters |
//! | `measure.rs`, `crowd.rs`, `spread.rs` | contenders in turn; many tasks at once; what many rounds say |
//! | `processor.rs` | processor time and memory, as the system counts them |
//! | `report/` | tables, the machine, and how the document is rewritten |
//! | `apps/` | the same application over each contender |
//! | `made_up.rs`, `sessions.rs` | a cold store that makes sessions up; the sessions of a measurement |

mod apps;
mod chapter;
mod cli;
mod cold;
mod crowd;
mod hot;
mod http;
mod made_up;
mod measure;
mod memory;
mod processor;
mod report;
mod revocation;
mod scale;
mod sessions;
mod spread;
mod tail;
mod warm;

use clap::Parser as _;

use crate::chapter::{Chapter, Effort};
use crate::cli::{Cli, Task};
use crate::report::Document;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    match cli.task {
        Some(task) => carry_out(task),
        None => run(cli.quick, &cli.chapters()),
    }
}

fn carry_out(task: Task) -> Result<(), Failure> {
    match task {
        Task::Once { contender, times } => hot::once(&contender, times),
        Task::Serve {
            kind,
            sessions,
            cookies,
        } => http::serve(kind, sessions, &cookies),
        Task::Node { place } => scale::serve(&place),
        Task::Hold { holds, sessions } => memory::hold(holds, sessions),
    }
}

/// Measures each chapter, and writes it into the document as soon as it is measured.
fn run(quick: bool, chapters: &[Chapter]) -> Result<(), Failure> {
    let document = (!quick).then(Document::find);
    for chapter in chapters {
        eprintln!("{chapter} …");
        let section = chapter.measure(Effort { quick })?;
        print!("{section}");
        if let Some(document) = &document {
            document.put(section)?;
        }
    }
    Ok(())
}
