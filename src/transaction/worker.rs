//! A thread for the application's own code, started when it is first needed: hooks, and closures
//! that a commit must run again. What panics there harms nobody else (C2.6).

use crate::contain::contain;
use crate::throttle::Throttle;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// Once so many tasks wait, no commit is taken that would add to them.
const MANY: usize = 65_536;

pub(crate) struct Worker {
    name: &'static str,
    line: Arc<Line>,
    #[cfg(test)]
    pub(crate) no_threads: std::sync::atomic::AtomicBool,
}

/// The tasks that wait, in order.
#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    has_thread: bool,
    closing: bool,
}

impl Worker {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            line: Arc::default(),
            #[cfg(test)]
            no_threads: false.into(),
        }
    }

    /// Runs a task after those given before. Where no thread can be started, it waits for the next
    /// task, with which that is tried again. The thread ends when the worker is dropped and the last
    /// task is done.
    pub(crate) fn run(&self, task: Task) {
        let mut state = self.line.lock();
        let started = self.start(&mut state);
        state.tasks.push_back(task);
        drop(state);
        self.line.changed.notify_one();
        if let Err(error) = started {
            tracing::error!(%error, thread = self.name, "no thread can be started; tasks wait");
        }
    }

    /// How many tasks wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.line.lock().tasks.len()
    }

    /// Whether more tasks wait than can be good.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting() >= MANY
    }

    /// As [`run`](Self::run), but drops the task where no thread can be started.
    pub(super) fn try_run(&self, task: Task) -> io::Result<()> {
        let mut state = self.line.lock();
        self.start(&mut state)?;
        state.tasks.push_back(task);
        drop(state);
        self.line.changed.notify_one();
        Ok(())
    }

    /// Starts the thread unless there is one.
    fn start(&self, state: &mut State) -> io::Result<()> {
        if state.has_thread {
            return Ok(());
        }
        #[cfg(test)]
        if self.no_threads.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let line = self.line.clone();
        std::thread::Builder::new()
            .name(self.name.into())
            .spawn(move || {
                let presence = Presence(&line);
                presence.0.work();
            })?;
        state.has_thread = true;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.closing = true;
        if !state.tasks.is_empty()
            && let Err(error) = self.start(&mut state)
        {
            tracing::error!(%error, thread = self.name, "tasks are lost");
        }
        let lost = if state.has_thread {
            VecDeque::new()
        } else {
            std::mem::take(&mut state.tasks)
        };
        drop(state);
        self.line.changed.notify_one();
        for task in lost {
            contain(|| drop(task));
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(task) = self.next() {
            if contain(task).is_none() {
                static PANICS: Throttle = Throttle::new(1);
                if let Some(left_out) = PANICS.pass() {
                    tracing::error!(left_out, "a hook or closure of the application panicked");
                }
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let state = self.lock();
        let waited = self
            .changed
            .wait_while(state, |state| state.tasks.is_empty() && !state.closing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.tasks.pop_front()
    }
}

/// That there is a thread, while it lives.
struct Presence<'a>(&'a Line);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.lock().has_thread = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(30);

    /// Panics when dropped, with another such.
    struct Payload(u8);

    impl Drop for Payload {
        fn drop(&mut self) {
            if let Some(left) = self.0.checked_sub(1) {
                std::panic::panic_any(Payload(left));
            }
        }
    }

    // C2.6
    #[test]
    fn a_panic_with_a_payload_that_panics_when_dropped_harms_no_other_task() {
        let worker = Worker::new("test");
        let (tell, told) = mpsc::channel();
        for payload in 0..4 {
            worker.run(Box::new(move || std::panic::panic_any(Payload(payload))));
            let tell = tell.clone();
            worker.run(Box::new(move || tell.send(payload).unwrap()));
            assert_eq!(told.recv_timeout(LONG), Ok(payload));
        }
    }

    // C2.6
    #[test]
    fn tasks_without_a_thread_wait_for_one() {
        let worker = Worker::new("test");
        let (tell, told) = mpsc::channel();
        let task = |n: u8| -> Task {
            let tell = tell.clone();
            Box::new(move || tell.send(n).unwrap())
        };
        worker.no_threads.store(true, Ordering::SeqCst);
        worker.run(task(1));
        worker.run(task(2));
        assert!(worker.try_run(task(3)).is_err());
        worker.no_threads.store(false, Ordering::SeqCst);
        worker.run(task(4));
        let got: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(got, [1, 2, 4]);
    }

    // C2.6
    #[test]
    fn a_thread_that_is_gone_is_replaced() {
        let worker = Worker::new("test");
        let (tell, told) = mpsc::channel();
        for n in 0..2 {
            let tell = tell.clone();
            worker.run(Box::new(move || tell.send(n).unwrap()));
            assert_eq!(told.recv_timeout(LONG), Ok(n));
            // Its thread ends as it does when the worker is dropped.
            worker.line.lock().closing = true;
            worker.line.changed.notify_one();
            while worker.line.lock().has_thread {
                std::thread::yield_now();
            }
            worker.line.lock().closing = false;
        }
    }

    // C2.6
    #[test]
    fn the_last_tasks_are_done_after_the_worker_is_dropped() {
        let worker = Worker::new("test");
        let (tell, told) = mpsc::channel();
        worker.no_threads.store(true, Ordering::SeqCst);
        worker.run(Box::new(move || tell.send(()).unwrap()));
        worker.no_threads.store(false, Ordering::SeqCst);
        drop(worker);
        assert_eq!(told.recv_timeout(LONG), Ok(()));
    }
}
