//! How long to wait before a server is tried again.

use std::time::Duration;

use crate::warm::random_part;

/// How long to wait before the next attempt: doubled each time, and spread, so that nodes that
/// lost their server together do not come back together.
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }

    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + 0.5 * random_part());
        self.0 = (2 * self.0).min(Self::LAST);
        pause
    }
}
