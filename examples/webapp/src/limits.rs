//! How often something may be tried: logins per account and address, guests per address.
//!
//! Kept in memory by each instance: with several, an attacker has as many tries more.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, counter, describe_counter};
use moka::sync::Cache;

/// Keys that are remembered at most, some hundred bytes each.
const REMEMBERED: u64 = 100_000;
/// After so long without a try all failures are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// After so long without a login an address is a stranger's.
const STRANGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Wrong passwords are answered at once a few times, then after longer and longer pauses.
#[derive(Clone)]
pub(crate) struct Attempts {
    failures: Cache<(Of, u64), Arc<Mutex<Failures>>>,
    /// Accounts and the addresses they were logged in to from.
    known: Cache<u64, ()>,
    hasher: RandomState,
    failed: Counter,
    slowed: Counter,
}

/// Who is counted: names are kept as hashes, since anybody may send any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    /// One account, from one address.
    Both,
    /// One account, from wherever. An address that it was logged in to from is not made to wait, so
    /// that others cannot keep its owner out.
    Account,
    /// All accounts, from one address. An office may share one.
    Address,
}

impl Of {
    /// Failures without a pause, and the longest pause.
    const fn allows(self) -> (u32, Duration) {
        match self {
            Self::Both => (5, Duration::from_secs(5 * 60)),
            Self::Account => (20, Duration::from_secs(10)),
            Self::Address => (50, Duration::from_secs(60)),
        }
    }
}

#[derive(Debug)]
struct Failures {
    count: u32,
    /// When the next try is answered.
    pause_until: Instant,
}

/// A try that counts as failed until it is told to have succeeded.
pub(crate) struct Attempt {
    attempts: Attempts,
    both: u64,
    keys: Vec<(Of, u64)>,
}

/// Too many were tried; none is answered before this is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slowed(pub(crate) Duration);

impl Attempts {
    /// Call it after the recorder of the metrics is there.
    pub(crate) fn new() -> Self {
        describe_counter!("webapp_failed_logins_total", "Passwords that were wrong.");
        describe_counter!(
            "webapp_slowed_logins_total",
            "Logins that were not tried, since too many before had failed."
        );
        Self {
            failures: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(FORGOTTEN)
                .build(),
            known: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(STRANGE)
                .build(),
            hasher: RandomState::new(),
            failed: counter!("webapp_failed_logins_total"),
            slowed: counter!("webapp_slowed_logins_total"),
        }
    }

    /// Begins a try of a password. It counts as failed from here on, so that many at once are
    /// slowed down too.
    pub(crate) fn begin(&self, account: &str, address: Option<IpAddr>) -> Result<Attempt, Slowed> {
        let address = address.map(network);
        let both = self.hasher.hash_one((account, address));
        let mut keys = vec![
            (Of::Both, both),
            (Of::Address, self.hasher.hash_one(address)),
        ];
        if !self.known.contains_key(&both) {
            keys.push((Of::Account, self.hasher.hash_one(account)));
        }
        let now = Instant::now();
        let pause = |key: &(Of, u64)| {
            let failures = self.failures.get(key)?;
            let until = failures.lock().unwrap_or_else(PoisonError::into_inner);
            let left = until.pause_until.saturating_duration_since(now);
            (!left.is_zero()).then_some(left)
        };
        if let Some(left) = keys.iter().filter_map(pause).max() {
            self.slowed.increment(1);
            return Err(Slowed(left));
        }
        for &key in &keys {
            let none = || {
                Arc::new(Mutex::new(Failures {
                    count: 0,
                    pause_until: now,
                }))
            };
            let failures = self.failures.get_with(key, none);
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.count += 1;
            let (free, longest) = key.0.allows();
            if let Some(over) = failures.count.checked_sub(free) {
                let pause = Duration::from_secs(1 << over.min(10)).min(longest);
                failures.pause_until = now + pause;
            }
        }
        Ok(Attempt {
            attempts: self.clone(),
            both,
            keys,
        })
    }
}

impl Attempt {
    /// The password was right.
    pub(crate) fn succeeded(self) {
        self.attempts.known.insert(self.both, ());
        for key in self.keys {
            // What others have tried is not made good by it.
            let Some(failures) = self.attempts.failures.get(&key) else {
                continue;
            };
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.count = match key.0 {
                Of::Both => 0,
                _ => failures.count.saturating_sub(1),
            };
            failures.pause_until = Instant::now();
        }
    }

    /// The password was wrong: logged with the account's id, if there is such an account. Never with
    /// the name that was typed, which may be a password.
    pub(crate) fn failed(self, account: Option<i64>, address: Option<IpAddr>) {
        self.attempts.failed.increment(1);
        let address = address.map(tracing::field::display);
        tracing::warn!(target: "session_audit", user = account, address, "login failed");
    }
}

/// Guests may be begun by anyone, so they are counted.
#[derive(Clone)]
pub(crate) struct Guests {
    begun: Cache<Option<IpAddr>, Arc<Mutex<u32>>>,
    refused: Counter,
    each: u32,
    all: u32,
}

impl Guests {
    /// Guests per address within the life of one.
    const EACH: u32 = 100;
    /// Guests of all addresses of an instance within the life of one: so many rows at most.
    const ALL: u32 = 20_000;

    /// Call it after the recorder of the metrics is there.
    pub(crate) fn new(life: Duration) -> Self {
        describe_counter!(
            "webapp_refused_guests_total",
            "Guests' sessions that were not begun."
        );
        Self {
            begun: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(life)
                .build(),
            refused: counter!("webapp_refused_guests_total"),
            each: Self::EACH,
            all: Self::ALL,
        }
    }

    /// Whether one more may begin; it is counted then.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> bool {
        // Those without an address stand for all of them; a request has one.
        let places = [(address.map(network), self.each), (None, self.all)];
        let admitted = places.iter().all(|&(key, most)| {
            let begun = self.begun.get_with(key, Arc::default);
            *begun.lock().unwrap_or_else(PoisonError::into_inner) < most
        });
        if !admitted {
            self.refused.increment(1);
            return false;
        }
        for (key, _) in places {
            let begun = self.begun.get_with(key, Arc::default);
            *begun.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        true
    }
}

/// Whom an address belongs to: of IPv6 one customer has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    /// How many failures are answered at once.
    fn tries(attempts: &Attempts, name: impl Fn(u32) -> (String, Option<IpAddr>)) -> u32 {
        (0..1000)
            .take_while(|&n| {
                let (name, address) = name(n);
                attempts.begin(&name, address).is_ok()
            })
            .count() as u32
    }

    #[test]
    fn failures_are_slowed_down_per_account_and_address() {
        let attempts = Attempts::new();
        assert_eq!(tries(&attempts, |_| ("ada".into(), at(HERE))), 5);
        let Err(Slowed(left)) = attempts.begin("ada", at(HERE)) else {
            panic!("it is slowed down");
        };
        assert!(left <= Duration::from_secs(1));
        // Neither from elsewhere, nor for others here.
        assert!(attempts.begin("ada", at("192.0.2.2")).is_ok());
        assert!(attempts.begin("bob", at(HERE)).is_ok());

        let attempts = Attempts::new();
        let from_many = |n: u32| ("ada".into(), Some(IpAddr::from(n.to_be_bytes())));
        assert_eq!(tries(&attempts, from_many), 20);
        let attempts = Attempts::new();
        assert_eq!(tries(&attempts, |n| (format!("user {n}"), at(HERE))), 50);
        let attempts = Attempts::new();
        let of_one_customer = |n: u32| ("ada".into(), at(&format!("2001:db8::{n:x}")));
        assert_eq!(tries(&attempts, of_one_customer), 5);
    }

    #[test]
    fn a_success_forgets_the_failures_of_that_account_there() {
        let attempts = Attempts::new();
        for _ in 0..6 {
            for _ in 0..3 {
                let attempt = attempts.begin("ada", at(HERE));
                attempt.expect("it is answered").failed(None, at(HERE));
            }
            let attempt = attempts.begin("ada", at(HERE));
            attempt.expect("it is answered").succeeded();
        }
        // Those of others have happened all the same.
        let attempts = Attempts::new();
        for n in 0..18_u32 {
            let begun = attempts.begin("ada", Some(IpAddr::from(n.to_be_bytes())));
            begun.expect("it is answered").failed(None, at(HERE));
        }
        let begun = attempts.begin("ada", at(HERE));
        begun.expect("it is answered").succeeded();
        assert!(attempts.begin("ada", at("192.0.2.7")).is_ok());
        assert!(attempts.begin("ada", at("192.0.2.8")).is_ok());
        assert!(attempts.begin("ada", at("192.0.2.9")).is_err());
    }

    #[test]
    fn strangers_keep_nobody_out_who_logged_in_from_there_before() {
        let attempts = Attempts::new();
        let begun = attempts.begin("ada", at(HERE));
        begun.expect("it is answered").succeeded();
        let from_many = |n: u32| ("ada".into(), Some(IpAddr::from(n.to_be_bytes())));
        assert!(tries(&attempts, from_many) < 30);
        let begun = attempts.begin("ada", at(HERE));
        begun.expect("it is answered").succeeded();
        // Her success gives no stranger another try, and she too has but a few.
        assert!(attempts.begin("ada", at("192.0.2.9")).is_err());
        assert_eq!(tries(&attempts, |_| ("ada".into(), at(HERE))), 5);
    }

    #[test]
    fn guests_are_capped_per_address_and_in_all() {
        let mut guests = Guests::new(Duration::from_secs(60));
        (guests.each, guests.all) = (3, 5);
        let admitted = |address: &str| (0..10).filter(|_| guests.admit(at(address))).count();
        assert_eq!(admitted(HERE), 3);
        assert_eq!(admitted("2001:db8::1"), 2);
        assert_eq!(admitted("192.0.2.3"), 0);
    }
}
