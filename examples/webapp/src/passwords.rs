//! Passwords by argon2, which is slow and takes memory on purpose: so only a few at a time.

use std::sync::Arc;
use std::thread;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

use crate::Failure;

/// Hashes, checks and judges passwords, on threads of their own and a bounded number at a time.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    /// One for each core: more would not be faster, and each takes 19 MiB.
    running: Arc<Semaphore>,
    /// Those that run or wait; whoever finds no place is sent away at once.
    places: Arc<Semaphore>,
    /// The hash of nobody's password, to be checked in place of an unknown user's.
    decoy: Arc<str>,
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("too many passwords are being hashed already")]
    Busy,
    #[error("cannot hash a password: {0}")]
    Failed(String),
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, Failure> {
        /// Waiting for each one that runs: about a second's worth.
        const WAITING: usize = 16;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let mut nobody = [0; 16];
        getrandom::fill(&mut nobody)?;
        Ok(Self {
            running: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores * (1 + WAITING))),
            decoy: hash(&nobody)?.into(),
        })
    }

    /// The hash to store of a password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.in_turn(move || hash(password.as_bytes())).await?
    }

    /// Whether the password is the one that was hashed. With no hash it never is, after the same
    /// work, so that the time taken does not tell who has an account.
    pub(crate) async fn check(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, PasswordError> {
        let decoy = Arc::clone(&self.decoy);
        self.in_turn(move || {
            let known = stored.is_some();
            let matches = verify(&password, stored.as_deref().unwrap_or(&decoy));
            known && matches
        })
        .await
    }

    /// Whether a password is one of those that are tried first: a common one, a word, a date, a row of
    /// keys, or made of what is known of its user (NIST SP 800-63B-4 §3.1.1.2).
    pub(crate) async fn is_common(
        &self,
        password: String,
        known: [String; 2],
    ) -> Result<bool, PasswordError> {
        self.in_turn(move || is_common(&password, &[&known[0], &known[1]]))
            .await
    }

    /// Does the slow work once it is its turn, if there is a place to wait for that.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| PasswordError::Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Busy)?;
        // The work goes on when the client goes away, and so it keeps its permits until its end.
        let held: [OwnedSemaphorePermit; 2] = [place, turn];
        let done = task::spawn_blocking(move || {
            let _held = held;
            work()
        });
        let done = done.await;
        done.map_err(|error| PasswordError::Failed(error.to_string()))
    }
}

/// Takes milliseconds, also of a long password: it looks at a hundred characters.
fn is_common(password: &str, known: &[&str]) -> bool {
    // Under a million guesses.
    zxcvbn::zxcvbn(password, known).score() < zxcvbn::Score::Two
}

fn hash(password: &[u8]) -> Result<String, PasswordError> {
    let hashed = Argon2::default().hash_password(password);
    let hashed = hashed.map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(hashed.to_string())
}

fn verify(password: &str, stored: &str) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else {
        tracing::error!("a stored password hash is not in the PHC format; nobody can log in by it");
        return false;
    };
    Argon2::default()
        .verify_password(password.as_bytes(), &stored)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_matches() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("demo".into()).await.unwrap();
        let check = async |password: &str, stored: Option<&str>| {
            let checked = passwords.check(password.into(), stored.map(Into::into));
            checked.await.unwrap()
        };
        assert!(check("demo", Some(&stored)).await);
        assert!(!check("Demo", Some(&stored)).await);
        assert!(!check("", Some(&stored)).await);
        assert!(!check("demo", Some("not a hash")).await);
        assert!(!check("demo", None).await);
    }

    #[test]
    fn what_is_tried_first_is_common() {
        let ada = ["ada", "ada@example.com"];
        for common in [
            "password",
            "12345678",
            "qwertyuiop",
            "letmein1",
            "P@ssw0rd",
            "aaaaaaaaaaaa",
            "iloveyou",
            "ada@example.com",
            "19841984",
        ] {
            assert!(is_common(common, &ada), "{common}");
        }
        for good in [
            "correct horse",
            "pässwörd🦀",
            "mine, all mine",
            &"tea, milk and 7 ginger biscuits; ".repeat(15),
        ] {
            assert!(!is_common(good, &ada), "{good}");
        }
    }

    #[tokio::test]
    async fn whoever_finds_no_place_is_sent_away() {
        let passwords = Passwords::new().unwrap();
        let all = passwords.places.available_permits() as u32;
        let taken = passwords.places.acquire_many(all).await.unwrap();
        assert!(passwords.check("demo".into(), None).await.is_err());
        assert!(passwords.hash("demo".into()).await.is_err());
        drop(taken);
        assert!(passwords.check("demo".into(), None).await.is_ok());
    }
}
