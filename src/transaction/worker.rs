//! A thread for the application's own code, started when it is first needed: hooks, and closures
//! that a commit must run again. What panics there harms nobody else (C2.6).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};

pub(crate) type Task = Box<dyn FnOnce() + Send>;

pub(crate) struct Worker {
    name: &'static str,
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
}

impl Worker {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            tasks: Mutex::new(None),
        }
    }

    /// Runs a task after those given before. The thread ends when the worker is dropped and the
    /// last task is done.
    pub(crate) fn run(&self, task: Task) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match tasks.take() {
            Some(sender) => sender,
            None => match self.start() {
                Ok(sender) => sender,
                Err(e) => {
                    tracing::error!(error = %e, thread = self.name, "no thread can be started");
                    return;
                }
            },
        };
        // The thread lives as long as its sender.
        let _ = sender.send(task);
        *tasks = Some(sender);
    }

    fn start(&self) -> std::io::Result<mpsc::Sender<Task>> {
        let (sender, tasks) = mpsc::channel::<Task>();
        std::thread::Builder::new()
            .name(self.name.into())
            .spawn(move || {
                for task in tasks {
                    if catch_unwind(AssertUnwindSafe(task)).is_err() {
                        tracing::error!("a hook or closure of the application panicked");
                    }
                }
            })?;
        Ok(sender)
    }
}
