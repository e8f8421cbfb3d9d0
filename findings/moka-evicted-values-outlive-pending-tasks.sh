#!/usr/bin/env bash
# What moka has evicted is still in memory after run_pending_tasks, and stays for as long as nothing happens.
#
# What one expects: run_pending_tasks makes room, weighted_size is within max_capacity afterwards, and the values
# that went are dropped.
# What happens (moka 0.12.16, crossbeam-epoch 0.9.21): the values are handed to crossbeam, which keeps up to 64 things
# for each thread until that thread does something else with it. The number counts, not the bytes: of sixty values of
# which one fits, more than thirty are still held seconds later. A cache that is filled by few heavy values, and then
# only read elsewhere, takes many times its capacity. Flushing crossbeam's own default collector drops them at once.
# Seen: "weighted size 1 of 1; values still in memory: 60; after a second: 60; after a flush: 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
moka = { version = "=0.12.16", features = ["sync"] }
crossbeam-epoch = "=0.9.21"
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::sync::{Arc, Weak};
use std::time::Duration;

fn main() {
    let cache = moka::sync::Cache::builder().max_capacity(1).build();
    let mut values: Vec<Weak<Vec<u8>>> = Vec::new();
    for key in 0..60 {
        let value = Arc::new(vec![0; 1000]);
        values.push(Arc::downgrade(&value));
        cache.insert(key, value);
    }
    let held = || values.iter().filter(|value| value.strong_count() > 0).count();
    cache.run_pending_tasks();
    let (size, at_first) = (cache.weighted_size(), held());
    std::thread::sleep(Duration::from_secs(1));
    let later = held();
    for _ in 0..3 {
        crossbeam_epoch::pin().flush();
    }
    let flushed = held();
    println!(
        "weighted size {size} of 1; values still in memory: {at_first}; after a second: {later}; \
         after a flush: {flushed}"
    );
    assert_eq!(size, 1);
    assert!(at_first > 30 && later > 30, "they are freed by now");
    assert!(flushed <= 1, "a flush does not free them");
}
RUST
CARGO_TARGET_DIR="$folder/target" cargo run --quiet --manifest-path "$folder/Cargo.toml"
