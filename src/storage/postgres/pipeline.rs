//! Sends several requests on one connection before the first is answered.

use super::failure::Failure;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// A request whose answer is only whether it succeeded.
pub(super) type Request<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Runs requests, which are sent in their order and answered in this order. Returns the failure that says the most: a refusal by the server rather
/// than a lost connection, and the first of them.
pub(super) async fn all(mut requests: Vec<Request<'_>>) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    let mut left: VecDeque<_> = requests.drain(..).map(Some).collect();
    let mut are_sent = false;
    poll_fn(move |cx| {
        // At first all are polled, which sends them. Later the first that has no answer: the others come after it.
        for slot in &mut left {
            let Some(request) = slot else { continue };
            let Poll::Ready(answer) = request.as_mut().poll(cx) else {
                match are_sent {
                    true => break,
                    false => continue,
                }
            };
            *slot = None;
            let Err(failure) = answer else { continue };
            let is_clearer = |known: &Failure| {
                matches!(known, Failure::Lost(_) | Failure::NotSent(_))
                    && matches!(failure, Failure::Again(_) | Failure::Refused(_))
            };
            if failed.as_ref().is_none_or(is_clearer) {
                failed = Some(failure);
            }
        }
        are_sent = true;
        while left.front().is_some_and(Option::is_none) {
            left.pop_front();
        }
        match left.is_empty() {
            true => Poll::Ready(failed.take().map_or(Ok(()), Err)),
            false => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use crate::error::{Error, ErrorKind};

    fn error() -> Error {
        Error::new(ErrorKind::Unavailable, "no")
    }

    // C10.2
    #[test]
    fn requests_are_sent_in_order_and_a_refusal_counts_for_more_than_a_loss() {
        let sent = std::sync::Mutex::new(Vec::new());
        let request = |n: u8, answer: Result<(), Failure>| -> Request<'_> {
            let sent = &sent;
            Box::pin(async move {
                sent.lock().unwrap().push(n);
                answer
            })
        };
        let lost = || Err(Failure::Lost(error()));
        assert!(block_on(all(vec![request(1, Ok(())), request(2, Ok(()))])).is_ok());
        let both = vec![request(3, lost()), request(4, Err(Failure::Again(error())))];
        assert!(matches!(block_on(all(both)), Err(Failure::Again(_))));
        let both = vec![request(5, Ok(())), request(6, lost())];
        assert!(matches!(block_on(all(both)), Err(Failure::Lost(_))));
        assert_eq!(*sent.lock().unwrap(), [1, 2, 3, 4, 5, 6]);
    }
}
