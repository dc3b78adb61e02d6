//! The thread on which the engine talks to the server. So every thread may wait for an answer, in a runtime or not.

use super::shared::{closed, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long the tasks of a closed engine may take to end.
const ENDING: Duration = Duration::from_millis(200);

pub(super) struct Runtime {
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    process: Process,
}

impl Runtime {
    pub(super) fn start() -> Result<Self> {
        let failed = |e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("cloakroom-postgres".into())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(ENDING);
            });
        Ok(Self {
            handle,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread.map_err(failed)?)),
            process: Process::this(),
        })
    }

    /// Runs a future on the thread, whether or not its answer is awaited.
    pub(super) fn ask<T: Send + 'static, R: Future<Output = Result<T>> + Send + 'static>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<T>> + Send + use<T, R> {
        let checked = self.process.check();
        let running = checked.map(|()| self.handle.spawn(request));
        async move { running?.await.unwrap_or_else(|_| Err(closed())) }
    }

    /// Runs a future on the thread.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.process.is_this() {
            drop(self.handle.spawn(task));
        }
    }

    /// Whether this is the thread.
    pub(super) fn is_this_thread(&self) -> bool {
        let thread = lock(&self.thread);
        let thread = thread.as_ref().map(JoinHandle::thread);
        thread.is_some_and(|thread| thread.id() == std::thread::current().id())
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        drop(lock(&self.stop).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A forked process has no such thread.
        if self.process.is_this() {
            self.stop();
        }
    }
}
