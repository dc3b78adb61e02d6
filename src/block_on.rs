//! Waiting for a future on a thread that has nothing else to do.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread, which sleeps while there is nothing to do. Waking it takes no
/// lock: whoever answers a group of commits wakes a whole crowd.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    block_on_helping(future, || false)
}

/// The same; before it sleeps, the thread asks `help` whether it has done something for what it waits for.
pub(crate) fn block_on_helping<F: Future>(future: F, help: impl Fn() -> bool) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // It may return for no reason, or for another's; then the future is asked again.
            Poll::Pending if help() => {}
            Poll::Pending => thread::park(),
        }
    }
}
