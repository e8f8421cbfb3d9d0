//! How long to wait before a server is tried again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// How long to wait before the next attempt: doubled each time, and spread, so that nodes that
/// lost their server together do not come back together.
pub(crate) struct Backoff(<ExponentialBuilder as BackoffBuilder>::Backoff);

impl Backoff {
    /// Each pause has a random part of itself added: the first is from 50 ms to 100 ms, the last ones
    /// are from 1 s to 2 s.
    const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times()
        .with_jitter();

    pub(crate) fn new() -> Self {
        Self(Self::PAUSES.build())
    }

    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn pause(&mut self) -> Duration {
        self.0.next().expect("there is no last attempt")
    }
}
