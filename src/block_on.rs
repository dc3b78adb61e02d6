//! Blocks a thread on a future, and detects threads that run async tasks and must not block.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Wakes all threads that wait for the same event with one system call.
#[derive(Default)]
pub(crate) struct WakeGroup {
    rung: AtomicU64,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

thread_local! {
    static OWN: Arc<WakeGroup> = Arc::default();
    /// The wake groups that this thread wakes at the end of its current `WakeGroup::once`.
    static LATER: RefCell<Option<Vec<Arc<WakeGroup>>>> = const { RefCell::new(None) };
    /// How many nested futures this thread polls now.
    static POLLED: Cell<usize> = const { Cell::new(0) };
    /// How often this thread has slept for a future.
    #[cfg(feature = "torture")]
    static SLEPT: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has slept for a future so far.
#[cfg(feature = "torture")]
pub(crate) fn times_slept() -> u64 {
    SLEPT.get()
}

#[cfg(all(test, feature = "torture"))]
thread_local! {
    static BLOCKED: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread slept until a future was ready.
#[cfg(all(test, feature = "torture"))]
pub(crate) fn times_blocked() -> usize {
    BLOCKED.get()
}

/// Wraps a future so that `is_task` is true in the code that it runs.
pub(crate) fn polled<F: Future>(mut future: Pin<&mut F>) -> impl Future<Output = F::Output> {
    struct Polling;
    impl Drop for Polling {
        fn drop(&mut self) {
            POLLED.set(POLLED.get().saturating_sub(1));
        }
    }
    poll_fn(move |cx| {
        POLLED.set(POLLED.get() + 1);
        let _polling = Polling;
        future.as_mut().poll(cx)
    })
}

/// Whether this thread is known to run an async task, so that blocking it would delay other tasks.
pub(crate) fn is_task() -> bool {
    POLLED.get() > 0
}

impl WakeGroup {
    /// Runs `work`, and wakes each group that it wants to wake once, after `work` has returned.
    pub(crate) fn once<T>(work: impl FnOnce() -> T) -> T {
        struct Ring;
        impl Drop for Ring {
            fn drop(&mut self) {
                let wake_groups = LATER.try_with(|later| later.take()).ok().flatten();
                wake_groups
                    .iter()
                    .flatten()
                    .for_each(|wake_group| wake_group.ring());
            }
        }
        let is_first = LATER.try_with(|later| {
            let is_first = later.borrow().is_none();
            is_first.then(|| later.replace(Some(Vec::new()))).is_some()
        });
        let _ring = is_first.unwrap_or(false).then_some(Ring);
        work()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let sleepers = self.lock();
        self.rung.fetch_add(1, Ordering::Release);
        let any = *sleepers > 0;
        drop(sleepers);
        if any {
            self.wake.notify_all();
        }
    }

    /// How often it was rung.
    #[cfg(test)]
    pub(crate) fn times(&self) -> u64 {
        self.rung.load(Ordering::Relaxed)
    }

    /// Sleeps until it is rung for the time after `heard`.
    fn wait(&self, heard: u64) {
        #[cfg(feature = "torture")]
        SLEPT.set(SLEPT.get() + 1);
        let mut sleepers = self.lock();
        *sleepers += 1;
        while self.rung.load(Ordering::Relaxed) == heard {
            let woken = self.wake.wait(sleepers);
            sleepers = woken.unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }
}

impl Wake for WakeGroup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let is_later = LATER.try_with(|later| {
            let mut later = later.borrow_mut();
            let Some(wake_groups) = &mut *later else {
                return false;
            };
            if !wake_groups
                .iter()
                .any(|wake_group| Arc::ptr_eq(wake_group, self))
            {
                wake_groups.push(self.clone());
            }
            true
        });
        if !is_later.unwrap_or(false) {
            self.ring();
        }
    }
}

/// Runs a future to its end on this thread, which sleeps while the future is pending.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    // A thread that ends has none any more.
    let wake_group = OWN.try_with(Arc::clone).unwrap_or_default();
    block_on_leading(future, &wake_group, || false)
}

/// Runs a future that is ready at once, as a rule. Only if it is not, this thread sleeps.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => block_on(future),
    }
}

/// Like `block_on`, with this wake group as the waker. Before it sleeps, the thread calls `help`, which returns whether
/// it advanced the work that the future waits for.
pub(crate) fn block_on_leading<F: Future>(
    future: F,
    wake_group: &Arc<WakeGroup>,
    lead: impl Fn() -> bool,
) -> F::Output {
    let waker = Waker::from(wake_group.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        let heard = wake_group.rung.load(Ordering::Acquire);
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // It may be rung for others; then the future is asked again.
            Poll::Pending if lead() => {}
            Poll::Pending => {
                #[cfg(all(test, feature = "torture"))]
                BLOCKED.set(BLOCKED.get() + 1);
                wake_group.wait(heard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_channel::oneshot;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    #[test]
    fn all_who_wait_for_one_bell_go_on_when_it_is_rung_once() {
        let wake_group = Arc::new(WakeGroup::default());
        let (replies, answers): (Vec<_>, Vec<_>) = (0..8).map(|_| oneshot::channel()).unzip();
        let waiting = answers.into_iter().map(|answer| {
            let wake_group = wake_group.clone();
            thread::spawn(move || block_on_leading(answer, &wake_group, || false))
        });
        let waiting: Vec<_> = waiting.collect();
        while *wake_group.lock() < 8 {
            thread::yield_now();
        }
        WakeGroup::once(|| {
            for (n, reply) in replies.into_iter().enumerate() {
                reply.send(n).unwrap();
            }
            assert_eq!(wake_group.times(), 0);
        });
        for (n, thread) in waiting.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), Ok(n));
        }
        assert_eq!(wake_group.times(), 1);
        assert_eq!(*wake_group.lock(), 0);
    }

    #[test]
    fn a_thread_that_is_woken_while_it_leads_does_not_sleep() {
        let (reply, answer) = oneshot::channel();
        let reply = RefCell::new(Some(reply));
        let answered = block_on_leading(answer, &Arc::default(), || {
            reply.take().map(|reply| reply.send(7));
            false
        });
        assert_eq!(answered, Ok(7));
    }

    #[test]
    fn what_a_bell_is_not_rung_for_goes_on_waiting() {
        let wake_group = Arc::new(WakeGroup::default());
        let (reply, answer) = oneshot::channel();
        let waiting = {
            let wake_group = wake_group.clone();
            thread::spawn(move || block_on_leading(answer, &wake_group, || false))
        };
        for _ in 0..100 {
            while *wake_group.lock() == 0 {
                thread::yield_now();
            }
            wake_group.wake_by_ref();
        }
        assert!(!waiting.is_finished());
        reply.send(7).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(7));
    }

    #[test]
    fn bells_are_rung_by_the_outermost_and_after_a_panic_too() {
        let (one, other) = (
            Arc::new(WakeGroup::default()),
            Arc::new(WakeGroup::default()),
        );
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            WakeGroup::once(|| {
                one.wake_by_ref();
                WakeGroup::once(|| other.wake_by_ref());
                assert_eq!((one.times(), other.times()), (0, 0));
                panic!("a panic");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!((one.times(), other.times()), (1, 1));
        one.wake_by_ref();
        assert_eq!(one.times(), 2);
    }
}
