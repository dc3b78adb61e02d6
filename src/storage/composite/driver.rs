//! A thread that runs futures to completion, so that they advance even if their callers no longer poll them.

use crate::error::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{JoinHandle, Thread};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Driver {
    shared: Arc<DriverShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    handle: Thread,
}

#[derive(Default)]
struct DriverShared {
    new: Mutex<NewTasks>,
}

#[derive(Default)]
struct NewTasks {
    tasks: Vec<Task>,
    is_closed: bool,
}

/// Wakes the thread. The thread polls all its futures, which are few.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Driver {
    pub(super) fn start() -> Result<Self> {
        let shared = Arc::<DriverShared>::default();
        let thread = std::thread::Builder::new()
            .name("cloakroom-composite".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })
            .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))?;
        Ok(Self {
            shared,
            handle: thread.thread().clone(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs a future, unless the driver is closed.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut new = self.shared.lock();
        if !new.is_closed {
            new.tasks.push(Box::pin(task));
        }
        drop(new);
        self.handle.unpark();
    }

    /// Ends the thread, and drops the unfinished futures.
    pub(super) fn close(&self) {
        self.shared.lock().is_closed = true;
        self.handle.unpark();
        let mut slot = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = slot.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl DriverShared {
    fn lock(&self) -> std::sync::MutexGuard<'_, NewTasks> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut tasks = Vec::new();
        loop {
            let mut new = self.lock();
            if new.is_closed {
                return;
            }
            tasks.append(&mut new.tasks);
            drop(new);
            tasks.retain_mut(|task: &mut Task| task.as_mut().poll(&mut context).is_pending());
            // If the thread was unparked since the poll, this returns at once.
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_channel::oneshot;
    use std::sync::mpsc;

    #[test]
    fn a_future_that_nobody_polls_comes_to_its_end() {
        let driver = Driver::start().unwrap();
        let (tell, told) = mpsc::channel();
        let (replies, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        for answer in answers {
            let tell = tell.clone();
            driver.run(async move { tell.send(answer.await.unwrap()).unwrap() });
        }
        for (n, reply) in replies.into_iter().enumerate().rev() {
            reply.send(n).unwrap();
        }
        let mut all: Vec<_> = (0..3).map(|_| told.recv().unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        driver.close();
    }
}
