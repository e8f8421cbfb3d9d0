//! One reading a request: an instant that counts time asleep, and the wall clock beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use session_core::Timestamp;

use crate::sync::AtomicI64;

/// An instant of a clock that never stands still or goes back while the machine runs, and goes
/// on while it sleeps; in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl Moment {
    /// Before every reading.
    pub const LONG_AGO: Self = Self(i64::MIN);

    /// The instant so many nanoseconds after boot.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// So many microseconds later; a quick sum.
    pub(crate) const fn plus_micros(self, micros: u32) -> Self {
        Self(self.0.saturating_add(micros as i64 * 1000))
    }

    /// How long from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl std::ops::Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

/// What a clock says.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines: trust, receipts, ages.
    pub moment: Moment,
    /// For what is written in records: expiry, revocation.
    pub wall: Timestamp,
}

/// The two clocks that sessions live by, read at once.
///
/// Trust runs on `CLOCK_BOOTTIME`, so that a node that was suspended wakes up distrusting
/// itself. The wall clock is that reading plus an offset taken at each poll of the feed, so a
/// request pays for one reading.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Wall time less boot time, in nanoseconds.
    offset: Arc<AtomicI64>,
    /// A clock that tests move; `None` reads the system's.
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        let clock = Self {
            offset: Arc::default(),
            manual: None,
        };
        clock.calibrate();
        clock
    }

    /// A clock that stands at the present instant until [`advance`](Self::advance) moves it,
    /// for tests of deadlines.
    pub fn manual() -> Self {
        let system = Self::system();
        Self {
            manual: Some(Arc::new(AtomicI64::new(boot_nanos()))),
            ..system
        }
    }

    /// Moves a manual clock; at the end of its range, in 292 years, it stops.
    ///
    /// # Panics
    ///
    /// If it is the system's clock, which nobody moves.
    pub fn advance(&self, by: Duration) {
        let manual = self
            .manual
            .as_ref()
            .expect("only a manual clock can be moved");
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        let moved = |nanos: i64| Some(nanos.saturating_add(by));
        // It always moves, since there is always a sum.
        let _ = manual.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }

    /// Both clocks now.
    pub fn now(&self) -> Now {
        let nanos = match &self.manual {
            None => boot_nanos(),
            Some(manual) => manual.load(Ordering::SeqCst),
        };
        // For a clock that is set to before 1970 it is 1970.
        let wall = nanos.saturating_add(self.offset.load(Ordering::Relaxed));
        let wall = wall.max(0).cast_unsigned();
        Now {
            moment: Moment(nanos),
            wall: Timestamp::from_unix_millis((wall / 1_000_000).cast_signed()),
        }
    }

    /// Follows a step of the wall clock.
    pub(crate) fn calibrate(&self) {
        if self.manual.is_some() {
            return;
        }
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
            });
        self.offset
            .store(wall.saturating_sub(boot_nanos()), Ordering::Relaxed);
    }
}

fn boot_nanos() -> i64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    // macOS counts time asleep in its monotonic clock.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

    let time = rustix::time::clock_gettime(CLOCK);
    // Enough for 292 years.
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
