//! How long a record stays in Redis, and when it is renewed.

use std::time::Duration;

use session_core::Timestamp;

use crate::config::WarmConfig;

/// The time to live of a record, and the hint of its end that the record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordTtl {
    pub(crate) ttl: Duration,
    /// The hint that the record carries.
    pub(crate) ends: ExpiryHint,
}

impl RecordTtl {
    /// The term of a record that is written now: `config.ttl` less a random part of it, so that records
    /// filled together do not end together, and not beyond the session's expiry. `None` if that has
    /// passed.
    pub(crate) fn from_now(
        expires_at: Timestamp,
        now: Timestamp,
        config: &WarmConfig,
    ) -> Option<Self> {
        let kept = 1.0 - config.jitter.clamp(0.0, 0.9) * fastrand::f64();
        let ttl = config.ttl.mul_f64(kept);
        let rest = expires_at.since(now);
        if rest <= ttl {
            return (!rest.is_zero()).then_some(Self {
                ttl: rest,
                ends: ExpiryHint::WITH_SESSION,
            });
        }
        Some(Self {
            ttl,
            ends: ExpiryHint::at(now + ttl, config.ttl),
        })
    }
}

/// When a record ends, as well as six bits can tell, so that whoever reads it late has it renewed:
/// in parts of `warm.ttl`, counted from 1970, modulo two terms and a part; and from one, since zero
/// says nothing. (Redis knows it to the millisecond, but only if asked by a command of its own.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryHint(u8);

impl ExpiryHint {
    /// No renewal would make it last longer.
    pub(crate) const WITH_SESSION: Self = Self(0);
    const PARTS: i64 = 31;
    const CYCLE: i64 = 2 * Self::PARTS + 1;

    fn at(end: Timestamp, ttl: Duration) -> Self {
        // Less than a cycle, so it fits.
        Self(part(end, ttl).rem_euclid(Self::CYCLE) as u8 + 1)
    }

    /// Whether the record is to be renewed. By chance, and the more likely the nearer the end is, so
    /// that not all who read it do so (XFetch, see `Shared::renew`), but for certain in the last part.
    /// A part stands for the time that a load takes, so that it has begun to be likely when three or
    /// four of 31 parts are left.
    pub(crate) fn is_due(self, now: Timestamp, ttl: Duration) -> bool {
        if self == Self::WITH_SESSION {
            return false;
        }
        // More than a term is left of none: where it seems so, its writer has another clock or another
        // term, and Redis, which has the record, knows better.
        let left = (i64::from(self.0) - 1 - part(now, ttl)).rem_euclid(Self::CYCLE);
        left as f64 <= -fastrand::f64().max(f64::MIN_POSITIVE).ln()
    }
}

#[cfg(feature = "redis")]
impl ExpiryHint {
    pub(super) const BITS: u32 = 6;

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// How many parts of terms like this have passed since 1970.
fn part(instant: Timestamp, ttl: Duration) -> i64 {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let length = millis.div_ceil(ExpiryHint::PARTS as u64).max(1);
    instant.unix_millis().div_euclid(length as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

    fn config(ttl: Duration, jitter: f64) -> WarmConfig {
        WarmConfig {
            ttl,
            jitter,
            ..WarmConfig::default()
        }
    }

    #[test]
    fn a_term_is_spread_and_ends_with_the_session() {
        let second = Duration::from_secs(1);
        let config = config(1000 * second, 0.2);
        let begin = |expires_at, now| RecordTtl::from_now(expires_at, now, &config);
        let far = NOW + 1_000_000 * second;
        let drawn: Vec<Duration> = (0..100).map(|_| begin(far, NOW).unwrap().ttl).collect();
        let allowed = 800 * second..=1000 * second;
        assert!(drawn.iter().all(|ttl| allowed.contains(ttl)));
        assert!(drawn.iter().any(|ttl| *ttl != drawn[0]));

        let soon = begin(NOW + 3 * second, NOW).unwrap();
        assert_eq!(soon.ttl, 3 * second);
        assert_eq!(soon.ends, ExpiryHint::WITH_SESSION);
        assert_eq!(begin(NOW, NOW), None);
        assert_eq!(begin(NOW, NOW + second), None);
    }

    #[test]
    fn a_record_is_due_shortly_before_its_end() {
        // Also where a part is shorter than a millisecond, and where it is weeks.
        for millis in [10, 1000, 3_600_000, 86_400_000 * 366] {
            let ttl = Duration::from_millis(millis);
            let term = RecordTtl::from_now(NOW + 10 * ttl, NOW, &config(ttl, 0.0)).unwrap();
            let due = |part: f64| {
                let now = NOW + ttl.mul_f64(part);
                let due = |_: &i32| term.ends.is_due(now, ttl);
                (0..1000).filter(due).count()
            };
            assert!(due(0.0) < 5, "{ttl:?}: {}", due(0.0));
            if millis > 100 {
                assert!(due(0.5) < 5, "{ttl:?}: {}", due(0.5));
                assert!((10..700).contains(&due(0.93)), "{ttl:?}: {}", due(0.93));
                assert_eq!(due(0.999), 1000, "{ttl:?}");
            }
        }
        assert!(!ExpiryHint::WITH_SESSION.is_due(NOW, Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_that_is_behind_makes_nothing_due() {
        for seconds in [60, 3600] {
            let ttl = Duration::from_secs(seconds);
            let due = |_: &i32| {
                let written = NOW + ttl / 10;
                let term = RecordTtl::from_now(NOW + 10 * ttl, written, &config(ttl, 0.1)).unwrap();
                term.ends.is_due(NOW, ttl)
            };
            let due = (0..1000).filter(due).count();
            assert!(due < 50, "{due} of 1000 with {ttl:?}");
        }
    }

    #[test]
    fn another_ttl_makes_few_due() {
        let (old, new) = (Duration::from_secs(3600), Duration::from_secs(7200));
        for (writes, reads) in [(old, new), (new, old)] {
            let due = |&at: &u64| {
                let written = NOW + Duration::from_secs(97 * at);
                let read = written + Duration::from_secs(at % 1800);
                let term =
                    RecordTtl::from_now(written + 10 * writes, written, &config(writes, 0.1));
                term.unwrap().ends.is_due(read, reads)
            };
            let due = (0..10_000).filter(due).count();
            assert!(due < 1000, "{due} of 10,000");
        }
    }

    #[test]
    fn a_record_is_not_due_at_once_however_short_its_term() {
        for millis in 33..2000 {
            let ttl = Duration::from_millis(millis);
            let term = RecordTtl::from_now(NOW + 10 * ttl, NOW, &config(ttl, 0.0)).unwrap();
            assert!((0..50).filter(|_| term.ends.is_due(NOW, ttl)).count() < 5);
        }
    }
}
