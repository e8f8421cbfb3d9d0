//! Eager spawning: a future is polled once by its caller, and moves to a task of its own only if it
//! has to wait.

use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task;

/// Runs `work` to its end, also if the caller is cancelled. If the caller is a task of `runtime`, the
/// first poll happens here, and a task is spawned when the future is woken for the first time.
/// Otherwise a task is spawned at once.
///
/// The first poll sends what `work` asks of a server before this function returns. A spawned task would
/// wait for its turn first, and the runtime may wake another thread for it.
///
/// # What `work` must not do
///
/// - Its first part must not block, and must not rely on running in a task of its own.
/// - While the runtime shuts down, `work` is dropped by whatever wakes it. It must not wait for
///   something that then neither wakes nor drops its wakers. It must not wait for something that wakes
///   them under a lock which dropping `work` takes too.
///
/// A panic in `work` drops it, like that of a task without a `JoinHandle`.
pub(crate) fn spawn_eager(mut work: BoxFuture<'static, ()>, runtime: &Handle) {
    if !is_in_task_of(runtime) {
        runtime.spawn(work);
        return;
    }
    let suspended = Arc::new(Suspended {
        rest: Mutex::new(Rest::Polling),
        runtime: runtime.clone(),
    });
    let waker = Waker::from(Arc::clone(&suspended));
    let poll = || work.as_mut().poll(&mut Context::from_waker(&waker));
    let polled = catch_unwind(AssertUnwindSafe(poll));
    if polled.is_ok_and(|polled| polled.is_pending()) {
        suspended.suspend(work);
    }
}

/// Returns whether the caller is a task of `runtime`. Other callers may poll nothing for a long time.
fn is_in_task_of(runtime: &Handle) -> bool {
    task::try_id().is_some()
        && Handle::try_current().is_ok_and(|current| current.id() == runtime.id())
}

/// The waker of the first poll: it spawns the rest of the future.
struct Suspended {
    rest: Mutex<Rest>,
    runtime: Handle,
}

/// The state of the future after the first poll.
enum Rest {
    /// The first poll still runs.
    Polling,
    /// It returned `Pending`, and waits to be woken.
    Waiting(BoxFuture<'static, ()>),
    /// It was woken, or spawned.
    Woken,
}

impl Suspended {
    fn suspend(&self, work: BoxFuture<'static, ()>) {
        let mut rest = self.lock();
        if let Rest::Polling = *rest {
            *rest = Rest::Waiting(work);
        } else {
            drop(rest);
            self.runtime.spawn(work);
        }
    }

    fn spawn_rest(&self) {
        let rest = replace(&mut *self.lock(), Rest::Woken);
        if let Rest::Waiting(work) = rest {
            self.runtime.spawn(work);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Suspended {
    fn wake(self: Arc<Self>) {
        self.spawn_rest();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.spawn_rest();
    }
}

impl Drop for Suspended {
    /// All wakers were dropped, so nothing else would wake it.
    fn drop(&mut self) {
        self.spawn_rest();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::hint::spin_loop;
    use std::pin::pin;
    use std::sync::mpsc as mpsc_std;
    use std::task::Poll;
    use std::thread;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::sync::{Notify, mpsc, oneshot};
    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// Begins it in a task of the runtime, and drives that as far as the task is.
    fn spawn_in_task(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
        let task = runtime.spawn(async { spawn_eager(work.boxed(), &Handle::current()) });
        runtime.block_on(task).unwrap();
    }

    #[test]
    fn what_comes_at_once_is_done_when_it_returns() {
        let (done, mut is_done) = oneshot::channel();
        runtime().block_on(async {
            let task = tokio::spawn(async move {
                spawn_eager(async { done.send(7).unwrap() }.boxed(), &Handle::current());
                is_done.try_recv()
            });
            assert_eq!(task.await.unwrap(), Ok(7));
        });
    }

    #[test]
    fn what_waits_has_begun_and_goes_on_by_itself() {
        let runtime = runtime();
        let (steps, mut seen) = mpsc::unbounded_channel();
        spawn_in_task(&runtime, async move {
            for step in 0..3 {
                steps.send(step).unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(seen.try_recv(), Ok(0));
        assert!(seen.try_recv().is_err());
        runtime.block_on(async {
            assert_eq!(seen.recv().await, Some(1));
            assert_eq!(seen.recv().await, Some(2));
            assert_eq!(seen.recv().await, None);
        });
    }

    #[test]
    fn who_is_in_no_task_of_the_runtime_begins_nothing() {
        let (its, other) = (runtime(), runtime());
        let handle = its.handle().clone();
        let (done, mut is_done) = mpsc::unbounded_channel();
        let work = || {
            let done = done.clone();
            async move { done.send(Handle::current().id()).unwrap() }.boxed()
        };
        spawn_eager(work(), &handle);
        other.block_on(async { spawn_eager(work(), &handle) });
        let task = {
            let (work, handle) = (work(), handle.clone());
            other.spawn(async move { spawn_eager(work, &handle) })
        };
        other.block_on(task).unwrap();
        assert_eq!(is_done.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        its.block_on(async {
            for _ in 0..3 {
                assert_eq!(is_done.recv().await, Some(handle.id()));
            }
        });
    }

    #[tokio::test]
    async fn whom_nobody_would_wake_goes_on_all_the_same() {
        let (done, is_done) = oneshot::channel();
        let mut polled = false;
        let forgets = poll_fn(move |_| match replace(&mut polled, true) {
            false => Poll::Pending,
            true => Poll::Ready(()),
        });
        let work = async {
            forgets.await;
            done.send(()).unwrap();
        };
        let begins = async { spawn_eager(work.boxed(), &Handle::current()) };
        tokio::spawn(begins).await.unwrap();
        is_done.await.unwrap();
    }

    /// Waits for a notification, and keeps a waker meanwhile, as a timer does: so that it is not gone,
    /// and its work not woken, when the notification is.
    async fn kept_until(notified: impl Future<Output = ()>) {
        let (mut notified, mut kept) = (pin!(notified), None);
        poll_fn(|cx| {
            kept = Some(cx.waker().clone());
            notified.as_mut().poll(cx)
        })
        .await;
    }

    #[tokio::test]
    async fn it_may_be_woken_while_it_is_being_polled() {
        let (done, is_done) = oneshot::channel();
        let mut polled = false;
        let twice = poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            match replace(&mut polled, true) {
                false => Poll::Pending,
                true => Poll::Ready(()),
            }
        });
        let work = async {
            kept_until(twice).await;
            done.send(()).unwrap();
        };
        let begins = async { spawn_eager(work.boxed(), &Handle::current()) };
        tokio::spawn(begins).await.unwrap();
        is_done.await.unwrap();
    }

    #[test]
    fn no_waking_is_lost_whenever_it_comes() {
        let (notifies, to_notify) = mpsc_std::channel::<Arc<Notify>>();
        let notifier = thread::spawn(move || {
            for turn in 0.. {
                // It does not sleep, so as to be in time.
                let notify = loop {
                    match to_notify.try_recv() {
                        Ok(notify) => break notify,
                        Err(mpsc_std::TryRecvError::Empty) => thread::yield_now(),
                        Err(mpsc_std::TryRecvError::Disconnected) => return,
                    }
                };
                (0..turn % 512).for_each(|_| spin_loop());
                notify.notify_one();
            }
        });
        let turns = async move {
            for _ in 0..10_000 {
                let notify = Arc::new(Notify::new());
                let (done, is_done) = oneshot::channel();
                let (waits, notifies) = (Arc::clone(&notify), notifies.clone());
                let work = async move {
                    notifies.send(notify).unwrap();
                    (0..128).for_each(|_| spin_loop());
                    kept_until(waits.notified()).await;
                    done.send(()).unwrap();
                };
                spawn_eager(work.boxed(), &Handle::current());
                is_done.await.unwrap();
            }
        };
        let runtime = runtime();
        runtime.block_on(async { tokio::spawn(turns).await.unwrap() });
        notifier.join().unwrap();
    }

    #[tokio::test]
    async fn it_may_panic_here_or_later() {
        for waits in [false, true] {
            let (done, is_done) = oneshot::channel::<()>();
            let work = async move {
                let _done = done;
                if waits {
                    yield_now().await;
                }
                panic!("as planned");
            };
            let begins = async { spawn_eager(work.boxed(), &Handle::current()) };
            tokio::spawn(begins).await.unwrap();
            assert!(is_done.await.is_err());
        }
    }

    #[test]
    fn what_waits_is_dropped_by_a_runtime_that_goes_down() {
        let runtime = runtime();
        let gone = runtime.handle().clone();
        let (done, mut is_done) = oneshot::channel::<()>();
        spawn_in_task(&runtime, async move {
            sleep(Duration::from_secs(60 * 60)).await;
            drop(done);
        });
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Empty));
        drop(runtime);
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Closed));

        let (done, mut is_done) = oneshot::channel();
        spawn_eager(async { done.send(()).unwrap() }.boxed(), &gone);
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Closed));
    }
}
