//! Long work that must not run on a thread of an async runtime: scans, checks and sweeps.

use crate::error::{Error, ErrorKind, Result};
use crate::transaction::env::Env;
use futures_channel::oneshot;
use std::io;
use std::sync::Arc;
use std::thread;

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

/// Runs `work` on a thread of its own, once the future is polled for the first time: work that may wait for somebody
/// else, such as a reader of a backup, or that must not wait for such work. It runs to its end even if the future is
/// dropped.
pub(crate) async fn on_own_thread<T, W>(env: Arc<Env>, work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce(&Arc<Env>) -> Result<T> + Send + 'static,
{
    env.process.check()?;
    let (reply, answer) = oneshot::channel();
    let worker = env.clone();
    let thread = thread::Builder::new().name("cloakroom-task".to_owned());
    let started = thread.spawn(move || drop(reply.send(work(&worker))));
    started.map_err(no_thread)?;
    answer.await.unwrap_or_else(|_| Err(Error::stopped()))
}

fn no_thread(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "no thread can be started").with_source(error)
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
    env.background.try_run(Box::new(task)).map_err(no_thread)?;
    answer.await.unwrap_or_else(|_| Err(Error::stopped()))
}
