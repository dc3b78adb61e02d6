//! Long work that must not run on a thread of an async runtime: scans, checks and sweeps.

use crate::error::{Error, ErrorKind, Result};
use crate::transaction::env::Env;
use futures_channel::oneshot;
use std::sync::Arc;

/// The largest number of threads for such work.
pub(crate) const THREADS: usize = 4;

/// What becomes of work that was not begun when its future was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenDropped {
    Run,
    Skip,
}

impl Env {
    /// Runs `work` on a thread of the store, once the future is polled for the first time. The work runs to its end
    /// even if the future is dropped.
    pub(crate) fn in_background<T, W>(
        self: &Arc<Self>,
        work: W,
    ) -> impl Future<Output = Result<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    {
        queue(self.clone(), work, WhenDropped::Run)
    }

    /// As [`in_background`](Self::in_background), for work that only reads: if it has not begun when the future is
    /// dropped, it is left out. So requests that are given up leave no work behind.
    pub(crate) fn read_in_background<T, W>(
        self: &Arc<Self>,
        work: W,
    ) -> impl Future<Output = Result<T>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    {
        queue(self.clone(), work, WhenDropped::Skip)
    }
}

async fn queue<T, W>(env: Arc<Env>, work: W, when_dropped: WhenDropped) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce(&Arc<Env>) -> Result<T> + Send + 'static,
{
    env.process.check()?;
    let (reply, answer) = oneshot::channel();
    let worker = env.clone();
    let task = move || {
        if when_dropped == WhenDropped::Run || !reply.is_canceled() {
            drop(reply.send(work(&worker)));
        }
    };
    env.background.try_run(Box::new(task)).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "no thread can be started").with_source(error)
    })?;
    answer.await.unwrap_or_else(|_| Err(Error::stopped()))
}
