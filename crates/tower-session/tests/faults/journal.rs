//! What the clients saw, and what of it was wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tower_session::Tier;

use crate::bed::Held;
use crate::service::{Answer, Ask, Told};

#[derive(Default)]
pub(crate) struct Journal {
    /// Of sessions that are hot.
    pub(crate) hot: Tally,
    /// Of sessions that were never hot where they are asked for.
    pub(crate) misses: Tally,
    /// Of many such sessions at once.
    pub(crate) crowd: Tally,
    /// Of changes: those acknowledged are `cold`.
    pub(crate) writes: Tally,
    /// Of sessions that are about to be revoked.
    pub(crate) ending: Tally,
    /// Of tokens that nobody should be let in with.
    pub(crate) foreign: Tally,
    pub(crate) revoked: AtomicU64,
    /// The longest that a revoked session was served, in microseconds.
    latest: AtomicU64,
    /// Whether a session may be undecidable just now: the database is out of order.
    undecidable: AtomicBool,
    written: Mutex<Vec<Written>>,
    wrong: Mutex<Vec<String>>,
}

/// What one who counted ended with.
pub(crate) struct Written {
    pub(crate) held: Held,
    pub(crate) acknowledged: u64,
    /// Changes that may have been made since.
    pub(crate) in_doubt: u64,
}

/// Answers to one class of requests.
#[derive(Default)]
pub(crate) struct Tally {
    hot: AtomicU64,
    warm: AtomicU64,
    cold: AtomicU64,
    refused: AtomicU64,
    undecided: AtomicU64,
}

/// A tally at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tallied {
    pub(crate) hot: u64,
    pub(crate) warm: u64,
    pub(crate) cold: u64,
    pub(crate) refused: u64,
    pub(crate) undecided: u64,
}

impl Tally {
    pub(crate) fn now(&self) -> Tallied {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Tallied {
            hot: read(&self.hot),
            warm: read(&self.warm),
            cold: read(&self.cold),
            refused: read(&self.refused),
            undecided: read(&self.undecided),
        }
    }

    fn count(&self, answer: &Answer) {
        let counter = match (answer.shown(), answer.status) {
            (Some(shown), _) => match shown.tier {
                Tier::Hot => &self.hot,
                Tier::Warm => &self.warm,
                Tier::Cold => &self.cold,
            },
            (None, StatusCode::SERVICE_UNAVAILABLE) => &self.undecided,
            (None, _) => &self.refused,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl Tallied {
    pub(crate) fn served(&self) -> u64 {
        self.hot + self.warm + self.cold
    }

    pub(crate) fn answered(&self) -> u64 {
        self.served() + self.refused + self.undecided
    }
}

impl std::ops::Sub for Tallied {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            hot: self.hot - earlier.hot,
            warm: self.warm - earlier.warm,
            cold: self.cold - earlier.cold,
            refused: self.refused - earlier.refused,
            undecided: self.undecided - earlier.undecided,
        }
    }
}

impl Journal {
    /// From now on a 503 is no fault.
    pub(crate) fn allow_undecided(&self) {
        self.undecidable.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_written(&self, written: Written) {
        lock(&self.written).push(written);
    }

    pub(crate) fn written(&self) -> Vec<Written> {
        std::mem::take(&mut lock(&self.written))
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) {
        lock(&self.wrong).push(what.into());
    }

    pub(crate) fn must_be_clean(&self) {
        let wrong = lock(&self.wrong);
        let first: Vec<_> = wrong.iter().take(5).collect();
        assert!(wrong.is_empty(), "{} went wrong: {first:#?}", wrong.len());
    }

    /// Notes the answer to whoever holds a session. Whoever is admitted must be admitted as who they
    /// are.
    pub(crate) fn note(&self, tally: &Tally, held: &Held, ask: Ask, answer: &Answer) {
        tally.count(answer);
        self.check_refusal(ask, answer);
        let Some(shown) = answer.shown() else { return };
        let other = (shown.id != held.id).then(|| shown.id.to_string());
        let other = other.or_else(|| (shown.user != held.user).then(|| shown.user.clone()));
        let basket = shown.basket.as_ref().filter(|it| it.owner != held.user);
        let other = other.or_else(|| basket.map(|basket| basket.owner.clone()));
        if let Some(other) = other {
            self.wrong(format!(
                "{} of {} was taken for {other}",
                held.id, held.user
            ));
        }
    }

    /// Notes the answer to somebody who must not be admitted.
    pub(crate) fn note_foreign(&self, token: &str, answer: &Answer) {
        self.foreign.count(answer);
        self.check_refusal(Ask::Me, answer);
        if answer.status != StatusCode::UNAUTHORIZED
            && answer.status != StatusCode::SERVICE_UNAVAILABLE
        {
            self.wrong(format!("{} for {token:.30}…", answer.status));
        }
    }

    /// Notes for how long a revoked session was served, which is not to be longer than was promised.
    pub(crate) fn note_revoked(&self, served: Duration, promised: Duration, session: &Held) {
        self.revoked.fetch_add(1, Ordering::SeqCst);
        let micros = u64::try_from(served.as_micros()).unwrap_or(u64::MAX);
        self.latest.fetch_max(micros, Ordering::SeqCst);
        if served > promised {
            self.wrong(format!(
                "{} was served {served:?} after it was revoked",
                session.id
            ));
        }
    }

    pub(crate) fn latest(&self) -> Duration {
        Duration::from_micros(self.latest.load(Ordering::SeqCst))
    }

    fn check_refusal(&self, ask: Ask, answer: &Answer) {
        match answer.status {
            StatusCode::OK | StatusCode::UNAUTHORIZED => {}
            StatusCode::SERVICE_UNAVAILABLE if self.undecidable.load(Ordering::SeqCst) => {
                if answer.retry_after.is_none() {
                    self.wrong(format!(
                        "{ask:?}: a 503 that does not say when to come again"
                    ));
                }
                if let Told::Failure(words) = &answer.told
                    && words.is_empty()
                {
                    self.wrong(format!("{ask:?} failed without a word"));
                }
            }
            status => self.wrong(format!("{ask:?}: {status}, {:?}", answer.told)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
