//! Batches questions to the database. While fewer statements run than may, a question is asked at once.
//! Questions that come while all of them run are collected, and share the next statement.
//!
//! There is no timer. The busier the database is, the longer its statements take, and the more questions
//! share one: so it gets fewer statements.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

/// A question that waits for a statement.
pub(super) struct Pending<Q, A> {
    pub(super) question: Q,
    pub(super) answer: oneshot::Sender<A>,
}

/// When a question is asked.
pub(super) enum Turn<Q: Send + 'static, A: Send + 'static> {
    /// Now, by the caller's own statement, under this permit.
    Now(Permit<Q, A>),
    /// With others, by a statement that has not started yet. A closed channel says that the batch failed.
    Later(oneshot::Receiver<A>),
}

type Batch<Q, A> = Vec<Pending<Q, A>>;

/// Collects questions, and limits the statements that run at a time.
pub(super) struct Batcher<Q, A> {
    state: Mutex<State<Q, A>>,
    /// The limit of statements that run at a time.
    statements: usize,
    /// The limit of questions in one statement.
    most: usize,
    read: Box<dyn Fn(Batch<Q, A>) -> BoxFuture<'static, ()> + Send + Sync>,
    tasks: TaskTracker,
    /// Where statements are spawned: a permit may be dropped outside of any runtime.
    runtime: Handle,
}

struct State<Q, A> {
    running: usize,
    /// Empty while fewer statements run than may. Bounded, since each is a load: `cold.max_waiting` at most.
    waiting: VecDeque<Pending<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// Creates a batcher that runs `read` in `tasks`: at most `statements` at a time, each for at most
    /// `most` questions.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub(super) fn new<F>(
        statements: usize,
        most: usize,
        tasks: TaskTracker,
        read: impl Fn(Batch<Q, A>) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self {
            state: Mutex::new(State {
                running: 0,
                waiting: VecDeque::new(),
            }),
            statements,
            most,
            read: Box::new(move |batch| read(batch).boxed()),
            tasks,
            runtime: Handle::current(),
        })
    }

    /// Says when `question` is asked. For [`Turn::Now`] the caller must ask it itself, at once.
    pub(super) fn turn(self: &Arc<Self>, question: Q) -> Turn<Q, A> {
        let mut state = self.lock();
        if state.running < self.statements {
            state.running += 1;
            return Turn::Now(Permit(Arc::clone(self)));
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push_back(Pending { question, answer });
        Turn::Later(answered)
    }

    /// Yields to callers that are ready to ask, as long as more questions come.
    async fn let_callers_join(&self) {
        let mut waiting = self.lock().waiting.len();
        loop {
            yield_now().await;
            let before = std::mem::replace(&mut waiting, self.lock().waiting.len());
            if waiting <= before || waiting >= self.most {
                return;
            }
        }
    }

    /// Takes the next batch. If no question waits, releases the permit and returns `None`.
    fn next(&self) -> Option<Batch<Q, A>> {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            state.running -= 1;
            return None;
        }
        let count = self.most.min(state.waiting.len());
        Some(state.waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit for one statement. When it is dropped, waiting questions get it.
pub(super) struct Permit<Q: Send + 'static, A: Send + 'static>(Arc<Batcher<Q, A>>);

impl<Q: Send + 'static, A: Send + 'static> Drop for Permit<Q, A> {
    fn drop(&mut self) {
        let batcher = &self.0;
        let mut state = batcher.lock();
        if state.waiting.is_empty() {
            state.running -= 1;
            return;
        }
        drop(state);
        let drain = Drain(Some(Arc::clone(batcher)));
        batcher.tasks.spawn_on(drain.run(), &batcher.runtime);
    }
}

/// Runs statements for waiting questions, one after the other, until no question waits.
struct Drain<Q: Send + 'static, A: Send + 'static>(Option<Arc<Batcher<Q, A>>>);

impl<Q: Send + 'static, A: Send + 'static> Drain<Q, A> {
    async fn run(mut self) {
        while let Some(batcher) = &self.0 {
            batcher.let_callers_join().await;
            match batcher.next() {
                // A panic drops the answers of its batch, whose callers notice. The other batches go on.
                Some(batch) => drop(AssertUnwindSafe((batcher.read)(batch)).catch_unwind().await),
                None => self.0 = None,
            }
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for Drain<Q, A> {
    /// A runtime that shuts down drops it before its end. Then all waiting questions fail.
    fn drop(&mut self) {
        if let Some(batcher) = self.0.take() {
            let mut state = batcher.lock();
            state.running -= 1;
            let lost = std::mem::take(&mut state.waiting);
            drop(state);
            drop(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{JoinHandle, JoinSet};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const READING: Duration = Duration::from_millis(100);

    /// A database that takes its time, and two statements at the same time.
    #[derive(Clone)]
    struct Bed {
        batcher: Arc<Batcher<u32, u32>>,
        /// How many questions each statement answered, and when it began.
        statements: Statements,
        tasks: TaskTracker,
    }

    #[derive(Clone)]
    struct Statements(Arc<Mutex<Vec<(usize, Duration)>>>, Instant);

    impl Statements {
        async fn read(&self, questions: usize) {
            let begun = (questions, self.1.elapsed());
            self.0.lock().unwrap().push(begun);
            sleep(READING).await;
        }

        fn begun(&self) -> Vec<(usize, Duration)> {
            self.0.lock().unwrap().clone()
        }

        fn sizes(&self) -> Vec<usize> {
            self.begun().iter().map(|(size, _)| *size).collect()
        }
    }

    impl Bed {
        fn new() -> Self {
            let statements = Statements(Arc::default(), Instant::now());
            let tasks = TaskTracker::new();
            let read = {
                let statements = statements.clone();
                move |batch: Batch<u32, u32>| {
                    let statements = statements.clone();
                    async move {
                        statements.read(batch.len()).await;
                        for Pending { question, answer } in batch {
                            assert_ne!(question, 13, "as planned");
                            let _ = answer.send(question);
                        }
                    }
                }
            };
            Self {
                batcher: Batcher::new(2, 10, tasks.clone(), read),
                statements,
                tasks,
            }
        }

        async fn ask(&self, question: u32) -> Option<u32> {
            match self.batcher.turn(question) {
                Turn::Later(answered) => answered.await.ok(),
                Turn::Now(_room) => {
                    self.statements.read(1).await;
                    Some(question)
                }
            }
        }

        /// Has begun to wait when this returns.
        async fn begin(&self, question: u32) -> JoinHandle<Option<u32>> {
            let bed = self.clone();
            let asking = tokio::spawn(async move { bed.ask(question).await });
            tokio::task::yield_now().await;
            asking
        }

        async fn becomes_idle(&self) {
            self.tasks.close();
            self.tasks.wait().await;
            assert_eq!(self.batcher.lock().running, 0);
        }

        /// So many tasks that each ask `times` times, one after the other.
        async fn ask_in_turn(&self, tasks: u32, times: u32) {
            let mut asking = JoinSet::new();
            for task in 0..tasks {
                let bed = self.clone();
                asking.spawn(async move {
                    for n in 0..times {
                        let question = 100 + task * times + n;
                        assert_eq!(bed.ask(question).await, Some(question));
                    }
                });
            }
            asking.join_all().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_there_is_room_for_go_at_once_again_and_again() {
        for tasks in [1, 2] {
            let bed = Bed::new();
            bed.ask_in_turn(tasks, 50).await;
            assert_eq!(bed.statements.1.elapsed(), 50 * READING, "{tasks} tasks");
            assert_eq!(bed.statements.sizes(), vec![1; 50 * tasks as usize]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_find_no_room_wait_for_a_statement_to_end_and_for_nothing_else() {
        for tasks in [3, 4, 16] {
            let bed = Bed::new();
            bed.ask_in_turn(tasks, 50).await;
            assert!(bed.statements.1.elapsed() <= 100 * READING, "{tasks} tasks");
            for (_, begun) in bed.statements.begun() {
                assert_eq!(begun.as_nanos() % READING.as_nanos(), 0, "{begun:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_while_all_run_goes_together() {
        let bed = Bed::new();
        let mut asking = Vec::new();
        for question in 100..127 {
            asking.push(bed.begin(question).await);
        }
        for (asked, question) in asking.into_iter().zip(100..) {
            assert_eq!(asked.await.unwrap(), Some(question));
        }
        assert_eq!(bed.statements.sizes(), [1, 1, 10, 10, 5]);
        assert_eq!(bed.statements.1.elapsed(), 3 * READING);
    }

    #[tokio::test(start_paused = true)]
    async fn an_asker_who_goes_away_leaves_its_room_to_the_others() {
        let bed = Bed::new();
        let leaving = [bed.begin(1).await, bed.begin(2).await];
        let waits = bed.begin(3).await;
        for asker in leaving {
            asker.abort();
        }
        assert_eq!(waits.await.unwrap(), Some(3));
        assert_eq!(bed.ask(4).await, Some(4));
        bed.becomes_idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_that_panics_loses_its_own_questions_and_no_room() {
        let bed = Bed::new();
        let (_one, _two) = (bed.begin(1).await, bed.begin(2).await);
        let lost = bed.begin(13).await;
        assert_eq!(lost.await.unwrap(), None);
        bed.ask_in_turn(4, 10).await;
        bed.becomes_idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_all_tasks_waits_for_what_has_gathered() {
        let bed = Bed::new();
        let mut asking = Vec::new();
        for question in 100..130 {
            asking.push(bed.begin(question).await);
        }
        sleep(READING).await;
        bed.tasks.close();
        let ended = timeout(10 * READING, bed.tasks.wait()).await;
        ended.expect("it ends by itself");
        for asked in asking {
            assert!(asked.await.unwrap().is_some());
        }
    }

    #[test]
    fn nobody_waits_for_a_runtime_that_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let bed = runtime.block_on(async { Bed::new() });
        let (one, _two) = (bed.batcher.turn(1), bed.batcher.turn(2));
        let Turn::Later(mut waits) = bed.batcher.turn(3) else {
            panic!("there is no room");
        };
        drop(runtime);
        drop(one);
        let lost = waits.try_recv().unwrap_err();
        assert_eq!(lost, oneshot::error::TryRecvError::Closed);
    }
}
