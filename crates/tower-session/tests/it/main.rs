//! The layer as a service uses it; with SQLite beneath, but where both databases are named.

mod allocations;
mod bad_input;
mod binding;
mod cookie;
mod errors;
mod extractors;
mod known;
mod layer;
mod log_in;
mod lost_change;
mod outbound;
mod roots;
mod rotation;
mod several;
mod step_up;
mod support;
mod times;
