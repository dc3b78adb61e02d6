//! The answer of an engine: there at once, or a future.

use crate::block_on::block_on;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The answer of an engine. An engine in this process answers at once, without an allocation. An engine over a network
/// gives a future.
#[must_use = "an answer that is not awaited may never come"]
pub(crate) enum Answer<'a, T> {
    Now(Ready<T>),
    #[allow(dead_code, reason = "the engine in this crate answers at once")]
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    pub(crate) fn now(answer: T) -> Self {
        Self::Now(ready(answer))
    }

    #[allow(dead_code, reason = "the engine in this crate answers at once")]
    pub(crate) fn later(answer: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(answer))
    }

    /// What `change` makes of the answer, once it is there.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'a) -> Answer<'a, U>
    where
        T: 'a,
    {
        match self {
            Self::Now(answer) => Answer::now(change(answer.into_inner())),
            Self::Later(answer) => Answer::later(async move { change(answer.await) }),
        }
    }

    /// Blocks this thread until the answer is there. Not to be called on a thread of an engine.
    pub(crate) fn wait(self) -> T {
        match self {
            Self::Now(answer) => answer.into_inner(),
            Self::Later(answer) => block_on(answer),
        }
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Self::Now(answer) => Pin::new(answer).poll(context),
            Self::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_channel::oneshot;
    use std::thread;

    #[test]
    fn an_answer_that_comes_late_is_waited_for() {
        assert_eq!(Answer::now(7).wait(), 7);
        assert_eq!(block_on(Answer::now(7)), 7);
        for awaited in [false, true] {
            let (reply, answer) = oneshot::channel();
            let replying = thread::spawn(move || reply.send(7));
            let answer = Answer::later(answer);
            let answer = if awaited {
                block_on(answer)
            } else {
                answer.wait()
            };
            assert_eq!(answer, Ok(7));
            replying.join().unwrap().unwrap();
        }
    }
}
