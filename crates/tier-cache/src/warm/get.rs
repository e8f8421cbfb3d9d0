//! Reading records: those of many sessions by one pipeline.

use std::ops::Range;
use std::{io, vec};

use redis::{Cmd, Pipeline, RedisError, Value, from_redis_value};
use session_core::{Key, Lineage};
use tokio::time::timeout;

use super::content::WarmRecord;
use super::record::{LONGEST, Place, decode};
use super::tier::Warm;

/// Where a key leads, and how that is written in Redis: as this part of all that is written.
struct Spot {
    place: Place,
    written: Range<usize>,
}

/// What stands there, if anything does.
type Answer = Result<Option<Vec<u8>>, RedisError>;

/// What Redis has of several sessions, in the order in which they were asked for. Each record is
/// decoded when it is its turn, so that who waits for the first may go on, on another thread, while
/// the others' are.
pub(crate) struct Records<'w> {
    warm: &'w Warm,
    lineage: Lineage,
    /// Keys, one after the other.
    written: Vec<u8>,
    spots: vec::IntoIter<Option<Spot>>,
    answers: vec::IntoIter<Answer>,
}

impl Iterator for Records<'_> {
    /// Whatever goes wrong is a miss.
    type Item = Option<WarmRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let spot = self.spots.next()?;
        Some(spot.and_then(|spot| {
            let answer = self.answers.next()?;
            let key = &self.written[spot.written];
            self.warm.read(spot.place, key, answer, self.lineage)
        }))
    }
}

impl Warm {
    /// What each of these keys leads to in this lineage, by one `GET` for each.
    ///
    /// A foreign key may lead to a session that has another key by now: the caller compares.
    pub(crate) async fn get(&self, keys: &[Key], lineage: Lineage) -> Records<'_> {
        let mut written = Vec::with_capacity(keys.len() * (self.prefix.len() + LONGEST));
        let spot = |&key| {
            let (place, begin) = (Place::of(key)?, written.len());
            place.write_key(&self.prefix, &mut written);
            let written = begin..written.len();
            Some(Spot { place, written })
        };
        let spots: Vec<Option<Spot>> = keys.iter().map(spot).collect();
        let asked = spots.iter().flatten();
        let asked = asked.map(|spot| &written[spot.written.clone()]);
        let answers = self.answers(asked, keys.len()).await;
        Records {
            warm: self,
            lineage,
            written,
            spots: spots.into_iter(),
            answers: answers.unwrap_or_default().into_iter(),
        }
    }

    /// One for each of so many of them at most; `None` if Redis is not asked, or does not answer.
    async fn answers<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        most: usize,
    ) -> Option<Vec<Answer>> {
        let mut gets = Pipeline::with_capacity(most);
        for key in keys {
            let mut get = Cmd::with_capacity(2, "GET".len() + key.len());
            get.arg("GET").arg(key);
            gets.add_command(get);
        }
        if gets.is_empty() {
            return None;
        }
        let mut connection = self.health.connection()?;
        self.sent.get.increment(gets.len() as u64);
        let answers = connection.send_packed_commands(&gets, 0, gets.len());
        let answers = match timeout(self.command_timeout, answers).await {
            Ok(answers) => answers,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        };
        let fail = |error: &RedisError| {
            self.failed(error);
            // All of them have.
            self.metrics.warm_errors.increment(gets.len() as u64 - 1);
        };
        let answers = answers.inspect_err(fail).ok()?;
        // One that is no answer leaves the others what they are.
        let answers: Vec<Answer> = answers.into_iter().map(answer).collect();
        if answers.iter().any(Result::is_ok) {
            self.health.answered();
        }
        // At once, since how many fail together tells no more than one.
        let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
        errors
            .filter(|error| !is_wrong_type(error))
            .for_each(|error| self.failed(error));
        Some(answers)
    }

    fn read(
        &self,
        place: Place,
        key: &[u8],
        answer: Answer,
        lineage: Lineage,
    ) -> Option<WarmRecord> {
        let record = match answer {
            Ok(bytes) => decode(&bytes?, place, key, lineage, &self.keys),
            Err(error) if is_wrong_type(&error) => None,
            Err(_) => return None,
        };
        if record.is_none() {
            self.metrics.warm_unreadable.increment(1);
        }
        record
    }
}

/// Whether something stands there that is no record.
fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

fn answer(value: Value) -> Answer {
    Ok(from_redis_value(value.extract_error()?)?)
}
