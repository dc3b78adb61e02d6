//! A thread for the application's own code: hooks, and closures that a commit must run again. It is started when it is
//! first needed. A panic in this code does no harm to others (C2.6). Where a task may wait for a later task, spare
//! threads run the tasks that the thread leaves waiting.

use crate::contain::contain;
use crate::process::Process;
use crate::throttle::Throttle;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) type WorkerTask = Box<dyn FnOnce() + Send>;

/// If this many tasks wait, no commit is accepted that would add tasks.
const MANY: usize = 65_536;

/// A spare thread runs a task that has waited this long.
const LONG_WAIT: Duration = Duration::from_millis(100);

pub(crate) struct Worker {
    name: &'static str,
    line: Arc<TaskQueue>,
    #[cfg(test)]
    pub(crate) no_threads: std::sync::atomic::AtomicBool,
}

/// The waiting tasks, in order.
#[derive(Default)]
struct TaskQueue {
    state: Mutex<WorkerState>,
    changed: Condvar,
    /// Notifies the spare threads of a task that may have to wait.
    left_waiting: Condvar,
    /// The largest number of spare threads.
    max_spares: usize,
    process: Process,
}

#[derive(Default)]
struct WorkerState {
    /// Each with the time since which it waits.
    tasks: VecDeque<(Instant, WorkerTask)>,
    has_thread: bool,
    /// The thread runs a task.
    is_busy: bool,
    spares: usize,
    /// The idle spare threads.
    idle_spares: usize,
    /// A spare thread sleeps until the first task has waited long enough.
    is_watched: bool,
    /// An idle spare thread was told to watch the first task.
    call: bool,
    closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ThreadRole {
    Regular,
    Spare,
}

/// The first duty of a spare thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SpareDuty {
    /// Watch the first task until it has waited long enough.
    Watch,
    /// Wait until it is told to watch.
    Idle,
}

impl Worker {
    pub(crate) fn new(name: &'static str) -> Self {
        Self::with_spares(name, 0)
    }

    /// Creates a worker that starts at most this many spare threads while its tasks wait too long.
    pub(crate) fn with_spares(name: &'static str, max_spares: usize) -> Self {
        Self {
            name,
            line: Arc::new(TaskQueue {
                max_spares,
                ..TaskQueue::default()
            }),
            #[cfg(test)]
            no_threads: false.into(),
        }
    }

    /// Runs a task after the tasks given before. If no thread can be started, the task waits until the next task tries
    /// again. The thread ends when the worker is dropped and the last task has run.
    pub(crate) fn run(&self, task: WorkerTask) {
        let mut state = self.line.lock();
        let started = self.start(&mut state);
        self.line.push(state, task);
        if let Err(error) = started {
            static FAILURES: Throttle = Throttle::new(1);
            if let Some(left_out) = FAILURES.pass() {
                let thread = self.name;
                tracing::error!(%error, left_out, thread, "no thread can be started; tasks wait");
            }
        }
    }

    /// The number of tasks that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.line.lock().tasks.len()
    }

    /// Whether too many tasks wait.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting() >= MANY
    }

    /// As [`run`](Self::run), but drops the task if no thread can be started.
    pub(super) fn try_run(&self, task: WorkerTask) -> io::Result<()> {
        let mut state = self.line.lock();
        self.start(&mut state)?;
        self.line.push(state, task);
        Ok(())
    }

    /// Starts the thread, if it does not run.
    fn start(&self, state: &mut WorkerState) -> io::Result<()> {
        if state.has_thread {
            return Ok(());
        }
        #[cfg(test)]
        if self.no_threads.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.line.start(self.name, ThreadRole::Regular)?;
        state.has_thread = true;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.line.process.is_this() {
            return std::mem::forget(self.line.clone());
        }
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
        self.line.left_waiting.notify_all();
        for (_, task) in lost {
            contain(|| drop(task));
        }
    }
}

impl TaskQueue {
    fn lock(&self) -> MutexGuard<'_, WorkerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, name: &str, role: ThreadRole) -> io::Result<()> {
        let line = self.clone();
        let work = move || {
            let presence = ThreadGuard(&line, role);
            if !line.work(role) {
                std::mem::forget(presence);
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(())
    }

    fn push(self: &Arc<Self>, mut state: MutexGuard<'_, WorkerState>, task: WorkerTask) {
        state.tasks.push_back((Instant::now(), task));
        if state.is_busy {
            self.watch(&mut state);
        } else {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Makes sure that a spare thread watches the waiting tasks while the thread is busy.
    fn watch(self: &Arc<Self>, state: &mut WorkerState) {
        if state.is_watched || state.tasks.is_empty() {
            return;
        }
        if state.idle_spares > 0 {
            state.idle_spares -= 1;
            (state.call, state.is_watched) = (true, true);
            self.left_waiting.notify_one();
        } else if state.spares < self.max_spares
            && self.start("cloakroom-spare", ThreadRole::Spare).is_ok()
        {
            state.spares += 1;
            state.is_watched = true;
        }
    }

    /// Runs tasks until the worker is dropped. Returns false in a process that a task has forked: the tasks that wait
    /// belong to the other process.
    fn work(self: &Arc<Self>, role: ThreadRole) -> bool {
        // The spare thread begins by watching.
        let mut duty = SpareDuty::Watch;
        let mut next = || match role {
            ThreadRole::Regular => self.next(),
            ThreadRole::Spare => {
                self.next_that_waits(std::mem::replace(&mut duty, SpareDuty::Idle))
            }
        };
        while let Some(task) = next() {
            if contain(task).is_none() {
                static PANICS: Throttle = Throttle::new(1);
                if let Some(left_out) = PANICS.pass() {
                    tracing::error!(left_out, "a hook or closure of the application panicked");
                }
            }
            if !self.process.is_this() {
                return false;
            }
        }
        true
    }

    fn next(self: &Arc<Self>) -> Option<WorkerTask> {
        let mut state = self.lock();
        state.is_busy = false;
        let waited = self
            .changed
            .wait_while(state, |state| state.tasks.is_empty() && !state.closing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let (_, task) = state.tasks.pop_front()?;
        state.is_busy = true;
        self.watch(&mut state);
        Some(task)
    }

    /// For a spare thread: returns the first task once it has waited long enough.
    fn next_that_waits(self: &Arc<Self>, duty: SpareDuty) -> Option<WorkerTask> {
        let mut watches = duty == SpareDuty::Watch;
        let mut state = self.lock();
        loop {
            if !watches {
                state.idle_spares += 1;
                self.watch(&mut state);
                let is_idle = |state: &mut WorkerState| !state.call && !state.closing;
                let called = self.left_waiting.wait_while(state, is_idle);
                state = called.unwrap_or_else(PoisonError::into_inner);
                if !std::mem::take(&mut state.call) {
                    state.idle_spares -= 1;
                    return None;
                }
            }
            let since = state.tasks.front().map(|(since, _)| *since);
            watches = since.is_some();
            let left = since.map(|since| LONG_WAIT.saturating_sub(since.elapsed()));
            match left {
                None => state.is_watched = false,
                Some(Duration::ZERO) => {
                    let task = state.tasks.pop_front();
                    state.is_watched = false;
                    self.watch(&mut state);
                    return task.map(|(_, task)| task);
                }
                Some(left) => {
                    let waited = self.left_waiting.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

/// Registers the thread as alive while this value lives.
struct ThreadGuard<'a>(&'a TaskQueue, ThreadRole);

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        match self.1 {
            ThreadRole::Regular => (state.has_thread, state.is_busy) = (false, false),
            ThreadRole::Spare => state.spares -= 1,
        }
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
        let task = |n: u8| -> WorkerTask {
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

    #[test]
    fn tasks_that_wait_for_later_ones_take_on_a_bounded_number_of_spare_threads() {
        let worker = Worker::with_spares("test", 2);
        let together = Arc::new(std::sync::Barrier::new(3));
        let (tell, told) = mpsc::channel();
        let (block, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        for round in 0..3 {
            for n in 0..3 {
                let (together, tell) = (together.clone(), tell.clone());
                let blocked = blocked.clone();
                worker.run(Box::new(move || {
                    together.wait();
                    tell.send(n).unwrap();
                    let _ = blocked.lock().unwrap().recv_timeout(LONG);
                }));
            }
            let mut got: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect();
            got.sort_unstable();
            assert_eq!(got, [0, 1, 2], "round {round}");
            let tell = tell.clone();
            worker.run(Box::new(move || tell.send(3).unwrap()));
            assert_eq!(worker.line.lock().spares, 2);
            assert_eq!(worker.waiting(), 1);
            for _ in 0..3 {
                block.send(()).unwrap();
            }
            assert_eq!(told.recv_timeout(LONG), Ok(3));
        }
        let line = worker.line.clone();
        drop(worker);
        while line.lock().has_thread || line.lock().spares > 0 {
            std::thread::yield_now();
        }
        assert_eq!(line.lock().idle_spares, 0);
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
