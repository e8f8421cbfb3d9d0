//! Shows that the servers are private, exact in what they count, and gone afterwards.

mod dependencies;
mod postgres;
mod redis;
mod relay;
mod retired_names;
mod sqlite;
mod standby;

use std::panic::{UnwindSafe, catch_unwind};

/// The message with which `action` panics.
fn panic_of(action: impl FnOnce() + UnwindSafe) -> String {
    let panic = catch_unwind(action).expect_err("the action was to panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic
            .downcast::<&str>()
            .map(|it| it.to_string())
            .unwrap_or_default(),
    }
}
