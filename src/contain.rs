//! Runs code of the application on threads of the store, and contains its panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "postgres")]
use std::task::Poll;

/// Runs code of the application. Returns `None` if it panicked. A panic in the `Drop` of the panic's payload, which is
/// code of the application too, is also contained.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

/// Runs a future, and contains its panics. Returns `None` if it panicked.
#[cfg(feature = "postgres")]
pub(crate) async fn contain_future<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match contain(|| future.as_mut().poll(context)) {
        Some(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Some(Poll::Pending) => Poll::Pending,
        None => Poll::Ready(None),
    })
    .await
}

fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Dropping this one may panic again, and so on.
        std::mem::forget(another);
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    // C2.13
    #[test]
    fn a_future_that_panics_ends() {
        let panics = async {
            std::future::ready(()).await;
            panic!("of the application");
        };
        let mut context = Context::from_waker(Waker::noop());
        let ended = pin!(contain_future(panics)).poll(&mut context);
        assert_eq!(ended, Poll::Ready(None::<()>));
        let mut is_second = false;
        let ends = std::future::poll_fn(move |_| match std::mem::replace(&mut is_second, true) {
            true => Poll::Ready(7),
            false => Poll::Pending,
        });
        let mut ends = pin!(contain_future(ends));
        assert_eq!(ends.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(ends.as_mut().poll(&mut context), Poll::Ready(Some(7)));
    }
}
