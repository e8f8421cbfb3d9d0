//! Passwords by argon2, which is slow and takes memory on purpose: so only a few at a time.

use std::sync::Arc;
use std::thread;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

use crate::Failure;

/// Hashes and checks passwords, on threads of their own and a bounded number at a time.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    /// One for each core: more would not be faster, and each takes 19 MiB.
    running: Arc<Semaphore>,
    /// Those that run or wait; whoever finds no place is sent away at once.
    places: Arc<Semaphore>,
    /// The hash of nobody's password, to be checked in place of an unknown user's.
    decoy: Arc<str>,
}

/// Too many passwords are being checked already.
#[derive(Debug)]
pub(crate) struct Busy;

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
    pub(crate) async fn hash(&self, password: &'static str) -> Result<String, Failure> {
        task::spawn_blocking(|| hash(password.as_bytes())).await?
    }

    /// Whether the password is the one that was hashed. With no hash it never is, after the same
    /// work, so that the time taken does not tell who has an account.
    pub(crate) async fn check(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, Busy> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.map_err(|_| Busy)?;
        let decoy = Arc::clone(&self.decoy);
        // The work goes on when the client goes away, and so it keeps its permits until its end.
        let held: [OwnedSemaphorePermit; 2] = [place, turn];
        let checked = task::spawn_blocking(move || {
            let _held = held;
            let known = stored.is_some();
            let matches = verify(&password, stored.as_deref().unwrap_or(&decoy));
            known && matches
        });
        Ok(checked.await.unwrap_or(false))
    }
}

fn hash(password: &[u8]) -> Result<String, Failure> {
    Ok(Argon2::default()
        .hash_password(password)
        .map_err(|error| format!("cannot hash a password: {error}"))?
        .to_string())
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
        let stored = passwords.hash("demo").await.unwrap();
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

    #[tokio::test]
    async fn whoever_finds_no_place_is_sent_away() {
        let passwords = Passwords::new().unwrap();
        let all = passwords.places.available_permits() as u32;
        let taken = passwords.places.acquire_many(all).await.unwrap();
        assert!(passwords.check("demo".into(), None).await.is_err());
        drop(taken);
        assert!(passwords.check("demo".into(), None).await.is_ok());
    }
}
