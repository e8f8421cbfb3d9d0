//! The layer as a service uses it, with SQLite beneath.

mod allocations;
mod bad_input;
mod extractors;
mod layer;
mod support;
