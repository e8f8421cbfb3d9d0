//! `simulate`: predicts what sessions cost.

mod cli;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::json;
use simulator::{Setting, estimate, plots, replay};

use cli::{By, Cli};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = &cli.plots {
        return plots::write(folder);
    }
    let (workload, config) = (cli.workload()?, cli.tiers()?);
    let (by, before, seconds) = cli.way(&workload, &config);
    let setting = Setting {
        statement: cli.statement,
        ..Setting::new(config, workload)
    };
    let mut predictions = Vec::new();
    if by != By::Formula {
        predictions.push(("trace", replay(&setting, cli.seed, before, seconds)));
    }
    if by != By::Trace {
        predictions.push(("formula", estimate(&setting)));
    }
    for (by, prediction) in &predictions {
        if !cli.json {
            println!("by a {by}:\n\n{prediction}");
        }
    }
    if cli.json {
        let by: serde_json::Map<_, _> = predictions
            .into_iter()
            .map(|(by, prediction)| (by.to_owned(), json!(prediction)))
            .collect();
        let all = json!({ "workload": setting.workload, "by": by });
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}
