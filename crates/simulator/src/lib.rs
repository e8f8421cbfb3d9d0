//! Predicts what sessions cost, for a configuration of the tiers and a workload: hit rates, statements,
//! commands and memory.
//!
//! It does so in two ways, which agree with each other: by playing a [`Trace`] through tiers that hold no
//! sessions ([`replay`]), and by formulas ([`estimate`]). `docs/scaling.md` says what comes of it.
//!
//! ```
//! use simulator::{Setting, Workload, estimate};
//!
//! let mut config = tier_cache::TierConfig::default();
//! config.warm.url = Some("redis://…".into());
//! let few = estimate(&Setting::new(config.clone(), Workload::of(10_000, 10)));
//! let many = estimate(&Setting::new(config, Workload::of(100_000_000, 10)));
//! assert!(few.lookups.hot / few.lookups.all() > many.lookups.hot / many.lookups.all());
//! ```
//!
//! | file | what it says |
//! |---|---|
//! | `workload.rs`, `trace.rs` | what users do: as rates, and as events |
//! | `setting.rs`, `sizes.rs` | what a prediction is made of; how many bytes things take |
//! | `replay.rs` | a trace, event by event |
//! | `node.rs`, `shelf.rs`, `reads.rs`, `feed.rs` | a node: what is hot, how loads go together, what it hears of changes |
//! | `record.rs` | a record in Redis |
//! | `formula.rs` | the same by formulas |
//! | `upkeep.rs` | what nodes cost that nobody uses |
//! | `prediction.rs`, `plots.rs` | what is predicted, in words and as pictures |

mod feed;
mod formula;
mod node;
pub mod plots;
mod prediction;
mod reads;
mod record;
mod replay;
mod setting;
mod shelf;
mod sizes;
mod trace;
mod upkeep;
mod workload;

pub use formula::estimate;
pub use prediction::{Held, Lookups, Prediction, Redis, Sql};
pub use replay::{Counts, Replay, replay};
pub use setting::Setting;
pub use trace::{Event, Trace, What};
pub use workload::{Routing, Workload};
