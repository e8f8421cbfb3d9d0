//! What a hot hit costs over the service alone.

mod curve;
mod layers;
mod recipe;
mod threads;

use std::time::Duration;

use clap::ValueEnum as _;
use tokio::runtime::{Builder, Runtime};

use self::recipe::Recipe;
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::{Measured, measure as in_turn, uncounted};
use crate::report::{Section, Table};
use crate::spread::Spread;

/// Sessions, where nothing else is said.
const SESSIONS: usize = 1000;
/// Many short rounds, since the machine's speed may change at any time.
const ROUNDS: usize = 151;
const SLICE: Duration = Duration::from_millis(10);

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    let runtime = runtime()?;
    let _guard = runtime.enter();
    Ok(one_by_one(&runtime, effort)?
        .and(layers::measure(&runtime, effort)?)
        .and(threads::measure(&runtime, effort)?)
        .and(curve::measure(&runtime, effort)?))
}

/// Runs one contender, and nothing else.
pub(crate) fn once(name: &str, times: u64) -> Result<(), Failure> {
    let recipe = Recipe::from_str(name, false).map_err(|_| {
        let names: Vec<_> = Recipe::value_variants().iter().map(|it| it.key()).collect();
        format!("there is no {name:?}, but: {}", names.join(", "))
    })?;
    let runtime = runtime()?;
    let _guard = runtime.enter();
    let mut run = runtime.block_on(recipe.prepare(SESSIONS))?();
    uncounted(|| (0..times).for_each(|_| run()));
    Ok(())
}

/// One thread for what goes on behind requests; these are made by the thread that measures.
fn runtime() -> Result<Runtime, Failure> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(1).enable_all().build()?)
}

fn one_by_one(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    let recipes = Recipe::value_variants();
    let mut contenders = Vec::new();
    for recipe in recipes {
        contenders.push(runtime.block_on(recipe.prepare(SESSIONS))?());
    }
    let rounds = effort.of(ROUNDS, 3);
    let slice = effort.slice(SLICE);
    let measured = in_turn(&mut contenders, rounds, slice);

    let of = |recipe: Recipe| {
        let at = recipes.iter().position(|it| *it == recipe);
        &measured[at.expect("each is measured")]
    };

    let mut table = Table::new([
        "",
        "ns a request",
        "over the bare one",
        "as a multiple of ours",
        "allocations",
        "over the bare one's",
    ]);
    for recipe in recipes {
        let (mine, base, ours) = (of(*recipe), of(recipe.base()), of(recipe.ours()));
        let mut cells = vec![recipe.name().to_owned(), mine.spread().to_string()];
        match *recipe == recipe.base() {
            true => cells.extend(["", ""].map(str::to_owned)),
            false => cells.extend([
                Spread::of(mine.over(base)).to_string(),
                ratio(mine, ours, base).shown(2, ""),
            ]),
        }
        let allocations = mine.allocations;
        cells.push(allocations.to_string());
        cells.push(match *recipe == recipe.base() {
            true => String::new(),
            false => allocations.saturating_sub(base.allocations).to_string(),
        });
        table.row(cells);
    }
    targets(&mut table, of);
    Ok(Section::default().table("hot", table))
}

fn targets<'a>(table: &mut Table, of: impl Fn(Recipe) -> &'a Measured) {
    let allocations = |recipe: Recipe| {
        let base = of(recipe.base()).allocations;
        of(recipe).allocations.saturating_sub(base)
    };
    let bare = &of(Recipe::AxumBare).nanos;
    let mut nanos = |aim: &str, most: f64, measured: Vec<f64>| {
        /// What bare axum took on the machine for which the targets were set: 500 to 700.
        const BARE: f64 = 600.0;
        let there = Spread::of_pairs(&measured, bare, |mine, bare| mine * BARE / bare);
        let here = Spread::of(measured);
        table.target(aim, &format!("{here} ns"), here.median <= most);
        table.target(
            "the same where the bare router takes 600 ns, as it did where the target was set",
            &format!("{there} ns"),
            there.median <= most,
        );
    };
    nanos(
        "in tower at most 350 ns over the bare service",
        350.0,
        of(Recipe::Tower).over(of(Recipe::TowerBare)),
    );
    nanos(
        "in axum at most 250 ns over `Extension`",
        250.0,
        of(Recipe::Axum).over(of(Recipe::AxumExtension)),
    );
    let count = allocations(Recipe::Tower);
    table.target(
        "in tower at most 3 allocations more",
        &count.to_string(),
        count <= 3,
    );
    let [ours, extension] = [Recipe::Axum, Recipe::AxumExtension].map(allocations);
    table.target(
        "in axum no more allocations than `Extension`",
        &format!("{ours} and {extension}"),
        ours <= extension,
    );
    let [theirs, ours, base] = [Recipe::AxumTowerSessions, Recipe::Axum, Recipe::AxumBare].map(&of);
    let around = of(Recipe::AxumAround);
    for (place, ours) in [("", ours), (" around the router", around)] {
        let times = ratio(theirs, ours, base);
        table.target(
            &format!(
                "tower-sessions costs at least 5 times as much over the bare router as ours{place}"
            ),
            &times.shown(1, " times"),
            times.median >= 5.0,
        );
    }
}

/// What one costs over the base, as a multiple of what another does.
fn ratio(mine: &Measured, other: &Measured, base: &Measured) -> Spread {
    Spread::ratio(&mine.over(base), &other.over(base))
}
