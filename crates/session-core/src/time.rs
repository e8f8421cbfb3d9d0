use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// An instant of the wall clock, in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Displayed and serialised as RFC 3339 in UTC. An `Option` of it is no larger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(
    /// Milliseconds from one before the earliest instant.
    NonZeroU64,
);

impl Timestamp {
    const EPOCH: u64 = 1 << 63;

    /// The instant so many milliseconds after the epoch; the very least, 292 million years before it,
    /// counts as the one after.
    pub const fn from_unix_millis(millis: i64) -> Self {
        match NonZeroU64::new((millis as u64) ^ Self::EPOCH) {
            Some(millis) => Self(millis),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Milliseconds since the epoch.
    pub const fn unix_millis(self) -> i64 {
        (self.0.get() ^ Self::EPOCH) as i64
    }

    /// How long from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.unix_millis().saturating_add(millis))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_millis(self.unix_millis().saturating_sub(millis))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::from_unix_millis(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter covers 1970 to 9999; the rest has no RFC 3339 form.
        const LAST: i64 = 253_402_300_799_999;
        let millis = Duration::from_millis(self.unix_millis().clamp(0, LAST) as u64);
        humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + millis).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
