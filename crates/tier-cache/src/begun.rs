//! Work that is begun in the turn of whoever asks for it, and goes on in a task of its own.

use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// Runs `work`, whoever goes away meanwhile: here as far as it comes at once, and from where it is
/// woken first in a task of the runtime.
///
/// What it asks of a server is on its way when this returns. A task would take another turn of the
/// runtime for that; and the runtime wakes another thread where more than a few tasks follow one
/// another in a turn, as they do where somebody has an answer and asks for the next thing.
///
/// If it panics it is dropped, as a task is that nobody joins. A runtime that is going down drops it
/// when it is woken, so it must not wait for what is neither woken nor dropped then.
pub(crate) fn begin(mut work: BoxFuture<'static, ()>, runtime: &Handle) {
    let begun = Arc::new(Begun {
        rest: Mutex::new(Rest::Unknown),
        runtime: runtime.clone(),
    });
    let waker = Waker::from(Arc::clone(&begun));
    let polled = {
        let _entered = runtime.enter();
        let poll = || work.as_mut().poll(&mut Context::from_waker(&waker));
        catch_unwind(AssertUnwindSafe(poll))
    };
    if polled.is_ok_and(|polled| polled.is_pending()) {
        begun.leave(work);
    }
}

/// What wakes the work for the first time.
struct Begun {
    rest: Mutex<Rest>,
    runtime: Handle,
}

/// What there is left to do.
enum Rest {
    /// It is being polled here.
    Unknown,
    Waits(BoxFuture<'static, ()>),
    /// It was woken.
    Goes,
}

impl Begun {
    fn leave(&self, work: BoxFuture<'static, ()>) {
        let mut rest = self.lock();
        if let Rest::Unknown = *rest {
            *rest = Rest::Waits(work);
        } else {
            drop(rest);
            self.runtime.spawn(work);
        }
    }

    fn go(&self) {
        let rest = replace(&mut *self.lock(), Rest::Goes);
        if let Rest::Waits(work) = rest {
            self.runtime.spawn(work);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Begun {
    fn wake(self: Arc<Self>) {
        self.go();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.go();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::runtime::Builder;
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::sync::{Notify, mpsc, oneshot};
    use tokio::task::yield_now;
    use tokio::time::sleep;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn what_comes_at_once_is_done_when_it_returns() {
        let runtime = runtime();
        let (done, mut is_done) = oneshot::channel();
        // Nobody drives the runtime.
        let work = async move { done.send(7).unwrap() };
        begin(work.boxed(), runtime.handle());
        assert_eq!(is_done.try_recv(), Ok(7));
        assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    }

    #[test]
    fn what_waits_has_begun_and_goes_on_by_itself() {
        let runtime = runtime();
        let (steps, mut seen) = mpsc::unbounded_channel();
        let work = async move {
            for step in 0..3 {
                steps.send(step).unwrap();
                // There is a clock, though nobody is in the runtime.
                sleep(Duration::from_millis(1)).await;
            }
        };
        begin(work.boxed(), runtime.handle());
        assert_eq!(seen.try_recv(), Ok(0));
        assert!(seen.try_recv().is_err());
        runtime.block_on(async {
            assert_eq!(seen.recv().await, Some(1));
            assert_eq!(seen.recv().await, Some(2));
            assert_eq!(seen.recv().await, None);
        });
    }

    #[tokio::test]
    async fn it_may_be_woken_while_it_is_being_polled() {
        let (done, is_done) = oneshot::channel();
        let mut polls = 0;
        let twice = poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            match polls {
                1 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        let work = async move {
            twice.await;
            yield_now().await;
            done.send(()).unwrap();
        };
        begin(work.boxed(), &Handle::current());
        is_done.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_waking_is_lost_whenever_it_comes() {
        for _ in 0..10_000 {
            let notify = Arc::new(Notify::new());
            let (done, is_done) = oneshot::channel();
            let waits = Arc::clone(&notify);
            // By another thread, since this one is none of the runtime's.
            tokio::spawn(async move { notify.notify_one() });
            let work = async move {
                waits.notified().await;
                done.send(()).unwrap();
            };
            begin(work.boxed(), &Handle::current());
            is_done.await.unwrap();
        }
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
            begin(work.boxed(), &Handle::current());
            assert!(is_done.await.is_err());
        }
    }

    #[test]
    fn what_waits_is_dropped_by_a_runtime_that_goes_down() {
        let runtime = runtime();
        let gone = runtime.handle().clone();
        let (done, mut is_done) = oneshot::channel::<()>();
        let work = async move {
            sleep(Duration::from_secs(60 * 60)).await;
            drop(done);
        };
        begin(work.boxed(), runtime.handle());
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Empty));
        drop(runtime);
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Closed));

        let (done, mut is_done) = oneshot::channel::<()>();
        let work = async move {
            yield_now().await;
            drop(done);
        };
        begin(work.boxed(), &gone);
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn it_goes_on_in_its_runtime_whichever_it_was_begun_in() {
        let (its, other) = (runtime(), runtime());
        let (done, mut is_done) = oneshot::channel();
        let handle = its.handle().clone();
        other.block_on(async {
            let work = async move {
                yield_now().await;
                done.send(Handle::current().id()).unwrap();
            };
            begin(work.boxed(), &handle);
            yield_now().await;
        });
        assert_eq!(is_done.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(its.block_on(is_done), Ok(handle.id()));
    }
}
