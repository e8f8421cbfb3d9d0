use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a log line through once a second, and counts those that it leaves out.
///
/// Use one for each line that a request may write while a server is down. Else the log grows with the
/// traffic just then.
///
/// ```
/// use tier_cache::LogLimit;
///
/// static FAILED: LogLimit = LogLimit::new();
///
/// assert_eq!(FAILED.admit(), Some(0), "the first line is written at once");
/// if let Some(left_out) = FAILED.admit() {
///     tracing::warn!(left_out, "answered 503");
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    const PERIOD: Duration = Duration::from_secs(1);

    /// A limit that has seen no line yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Lines {
            last: None,
            left_out: 0,
        }))
    }

    /// Whether a line is to be written now: then how many were left out since the last one, which the line
    /// should tell. `None` if this one is to be left out.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        // Whatever a thread that panicked has left is as good as any.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |last| now.saturating_duration_since(last);
        if lines.last.is_some_and(|last| since(last) < Self::PERIOD) {
            lines.left_out = lines.left_out.saturating_add(1);
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_and_one_a_second_are_written_and_the_others_are_counted() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let at = |millis| limit.admit_at(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(0), at(500), at(999)), (None, None, None));
        assert_eq!(at(1000), Some(3));
        assert_eq!((at(1999), at(7000)), (None, Some(1)));
        assert_eq!(at(9000), Some(0));
        // Another thread may have read the clock before.
        assert_eq!(at(8999), None);
    }
}
