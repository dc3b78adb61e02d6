//! Long work that the maintenance page starts: it goes on when the page is closed.

use crate::audit::{Action, AuditLog};
use crate::failure::Failure;
use crate::forms::{counted, number};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use cloakroom::{Check, Store};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod counting;
mod work;

use counting::check_result;
pub(crate) use work::Work;

/// How many tasks that ended are shown.
const KEPT: usize = 20;

/// Work that was begun.
#[derive(Debug)]
pub(crate) struct Task {
    number: u64,
    work: Work,
    who: String,
    began: DateTime<Utc>,
    is_stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    progress: String,
    /// How much is done, in the unit of the work, and of how much if that is known.
    done: (u64, Option<u64>),
    /// What it has found or done, for programs.
    result: Option<Value>,
    outcome: Option<(Result<String, String>, DateTime<Utc>)>,
}

/// A task as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TaskView {
    pub(crate) number: u64,
    pub(crate) work: Work,
    pub(crate) label: &'static str,
    pub(crate) who: String,
    pub(crate) began: DateTime<Utc>,
    pub(crate) ended: Option<DateTime<Utc>>,
    /// What has been done so far.
    pub(crate) progress: String,
    /// How much that is, in sessions or rows, and of how much if that is known.
    pub(crate) done: u64,
    pub(crate) of: Option<u64>,
    pub(crate) outcome: Option<String>,
    pub(crate) failed: bool,
    /// Whether it was asked to stop.
    pub(crate) stopped: bool,
    /// What it has found or done, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    /// Whether it can be stopped.
    pub(crate) can_stop: bool,
}

/// All tasks, running ones and the last that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    inner: Arc<Mutex<VecDeque<Arc<Task>>>>,
}

impl Tasks {
    /// Begins this work. Returns its number, or that of the same work that runs already and does as well. Must be called
    /// in a runtime.
    pub(crate) fn begin(
        &self,
        work: Work,
        who: &str,
        store: Store,
        log: AuditLog,
    ) -> Result<u64, Failure> {
        let mut tasks = self.lock();
        let mut running = tasks.iter().filter(|task| !task.has_ended());
        match running.find(|task| task.work == work) {
            Some(task) if work.can_be_joined() => return Ok(task.number),
            Some(task) => {
                let (label, number) = (work.label(), task.number);
                let text = format!("“{label}” goes on as task {number}. Wait for its end.");
                return Err(Failure::new(StatusCode::CONFLICT, "One at a time", text));
            }
            None => {}
        }
        let task = add(&mut tasks, work, who);
        drop(tasks);
        let number = task.number;
        tokio::spawn(async move {
            let mut outcome = task.run(&store).await;
            let action = Action {
                who: task.who.clone(),
                action: task.work.label(),
                subject: String::new(),
            };
            let recorded = outcome.clone();
            let record = tokio::task::spawn_blocking(move || log.record(action, recorded));
            if !matches!(record.await, Ok(Ok(_))) {
                // That it was begun is kept.
                let (Ok(text) | Err(text)) = &mut outcome;
                text.push_str("; this outcome cannot be kept in the audit log");
            }
            task.end(outcome);
        });
        Ok(number)
    }

    /// Shows work that a page does itself.
    pub(crate) fn show(&self, work: Work, who: &str) -> Shown {
        Shown(add(&mut self.lock(), work, who))
    }

    /// All tasks, the newest first.
    pub(crate) fn list(&self) -> Vec<TaskView> {
        self.lock().iter().rev().map(|task| task.view()).collect()
    }

    /// The task with this number, if it is kept.
    pub(crate) fn view(&self, number: u64) -> Option<TaskView> {
        self.find(number).map(|task| task.view())
    }

    /// Whether the newest check that has read everything found damage.
    pub(crate) fn last_check_found_damage(&self) -> bool {
        let tasks = self.lock();
        let checks = tasks.iter().rev().filter(|it| it.work == Work::Check);
        let mut found = checks.filter_map(|it| it.found_damage());
        found.next().unwrap_or(false)
    }

    /// Asks a task to stop as soon as it can.
    pub(crate) fn stop(&self, number: u64) -> Option<TaskView> {
        let task = self.find(number)?;
        task.is_stopping.store(true, Ordering::Relaxed);
        Some(task.view())
    }

    fn find(&self, number: u64) -> Option<Arc<Task>> {
        let tasks = self.lock();
        tasks.iter().find(|task| task.number == number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Task>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a task, and forgets an old one.
fn add(tasks: &mut VecDeque<Arc<Task>>, work: Work, who: &str) -> Arc<Task> {
    let number = tasks.back().map_or(1, |task| task.number + 1);
    let task = Arc::new(Task::new(number, work, who));
    tasks.push_back(task.clone());
    if tasks.len() > KEPT
        && let Some(oldest) = tasks.iter().position(|task| task.has_ended())
    {
        tasks.remove(oldest);
    }
    task
}

/// Work that a page does itself, as the list of tasks shows it.
pub(crate) struct Shown(Arc<Task>);

impl Shown {
    /// Tells how far it is, in sessions, and whether it is to go on.
    pub(crate) fn progress(&self, done: u64, of: Option<u64>, text: String) -> ControlFlow<()> {
        self.0.change(|state| {
            state.done = (done, of);
            state.progress = text;
        });
        self.0.flow()
    }

    pub(crate) fn end(&self, outcome: Result<String, String>) {
        self.0.end(outcome);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if !self.0.has_ended() {
            self.0.end(Err("it ended by a fault".to_owned()));
        }
    }
}

impl Task {
    fn new(number: u64, work: Work, who: &str) -> Self {
        Self {
            number,
            work,
            who: who.to_owned(),
            began: Utc::now(),
            is_stopping: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    async fn run(self: &Arc<Self>, store: &Store) -> Result<String, String> {
        let words = |error: cloakroom::Error| error.to_string();
        match self.work {
            Work::Sweep => self.sweep(store).await,
            Work::Check => {
                let task = self.clone();
                let check = store.check_with_async(move |so_far| {
                    task.change(|state| {
                        let of = Some(so_far.of).filter(|rows| *rows > 0);
                        state.done = (so_far.rows, of);
                        let rows = counted(so_far.of, "row");
                        state.progress = format!("{} of about {rows} read", number(so_far.rows));
                    });
                    task.flow()
                });
                let check = check.await.map_err(words)?;
                let file = store.statistics().map_or(0, |it| it.file_len());
                self.give(check_result(&check, file));
                outcome_of(&check)
            }
            Work::Checkpoint => {
                self.change(|state| state.progress = "writing to the file".to_owned());
                store.checkpoint_async().await.map_err(words)?;
                Ok("the file holds all commits".to_owned())
            }
            Work::RotateSecret => {
                let name = store.rotate_secret_async().await.map_err(words)?;
                self.give(json!({ "number": name }));
                Ok(format!("new ids are signed with secret {name}"))
            }
            Work::Measure => self.measure(store).await,
            Work::EndAll => self.end_all(store).await,
            // Their pages do them.
            Work::Backup | Work::Export | Work::Import => Err("it is no task".to_owned()),
        }
    }

    fn end(&self, outcome: Result<String, String>) {
        self.change(|state| state.outcome = Some((outcome, Utc::now())));
    }

    async fn sweep(self: &Arc<Self>, store: &Store) -> Result<String, String> {
        let (mut scanned, mut removed, mut unreadable) = (0, 0, 0);
        for container in store.containers() {
            let (task, name) = (self.clone(), container.name().to_owned());
            let swept = container.sweep_with_async(move |so_far| {
                task.change(|state| {
                    state.done = (scanned + so_far.scanned, None);
                    let scanned = counted(scanned + so_far.scanned, "session");
                    let removed = number(removed + so_far.removed);
                    state.progress = format!(
                        "container “{name}”, {scanned} examined and {removed} removed so far"
                    );
                });
                task.flow()
            });
            let swept = swept.await.map_err(|error| error.to_string())?;
            (scanned, removed) = (scanned + swept.scanned, removed + swept.removed);
            unreadable += swept.unreadable;
            self.change(|state| state.done = (scanned, None));
            if !swept.is_complete {
                self.give(
                    json!({ "removed": removed, "unreadable": unreadable, "complete": false }),
                );
                let removed = counted(removed, "removed session");
                return Err(format!("stopped after {removed}"));
            }
        }
        self.give(json!({ "removed": removed, "unreadable": unreadable, "complete": true }));
        let scanned = counted(scanned, "session");
        Ok(format!("{scanned} examined, {} removed", number(removed)))
    }

    /// Whether the work is to go on.
    fn flow(&self) -> ControlFlow<()> {
        match self.is_stopping.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn view(&self) -> TaskView {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = state.outcome.as_ref();
        TaskView {
            number: self.number,
            work: self.work,
            label: self.work.label(),
            who: self.who.clone(),
            began: self.began,
            ended: outcome.map(|(_, ended)| *ended),
            progress: state.progress.clone(),
            done: state.done.0,
            of: state.done.1,
            outcome: outcome.map(|(Ok(text) | Err(text), _)| text.clone()),
            failed: outcome.is_some_and(|(outcome, _)| outcome.is_err()),
            stopped: self.is_stopping.load(Ordering::Relaxed),
            result: state.result.clone(),
            can_stop: outcome.is_none() && self.work.can_be_stopped(),
        }
    }

    /// Keeps the result for programs.
    fn give(&self, result: Value) {
        self.change(|state| state.result = Some(result));
    }

    /// What a check has found, if it has read everything.
    fn found_damage(&self) -> Option<bool> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_complete = (state.result.as_ref()?).get("complete")?.as_bool()?;
        let (outcome, _) = state.outcome.as_ref()?;
        is_complete.then_some(outcome.is_err())
    }

    fn has_ended(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcome.is_some()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a check found, in words.
fn outcome_of(check: &Check) -> Result<String, String> {
    let sessions = counted(check.sessions, "session");
    let packages = counted(check.packages, "package");
    let mut text = format!("{sessions} and {packages} read, ");
    if !check.is_complete {
        text.insert_str(0, "stopped early: ");
    }
    if check.is_clean() {
        text.push_str("no damage found");
    } else {
        let records = counted(check.damaged, "damaged record");
        let pages = counted(check.damaged_pages, "damaged part");
        // Writing to a string cannot fail.
        let _ = write!(text, "{records}, {pages} of the structure");
        for error in check.errors.iter().take(10) {
            let _ = write!(text, "; {error}");
        }
    }
    match check.is_clean() && check.is_complete {
        true => Ok(text),
        false => Err(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(work: Work) -> Arc<Task> {
        Arc::new(Task::new(1, work, "ann"))
    }

    // C9.4
    #[tokio::test]
    async fn a_sweep_and_a_check_tell_their_progress_and_stop_when_asked() {
        let store = Store::in_memory().unwrap();
        for work in [Work::Sweep, Work::Check] {
            let task = task(work);
            assert!(task.view().can_stop);
            task.run(&store).await.unwrap();
            assert!(task.view().progress.contains("0"), "{work:?}");

            task.is_stopping.store(true, Ordering::Relaxed);
            let stopped = task.run(&store).await.unwrap_err();
            assert!(stopped.starts_with("stopped"), "{stopped}");
        }
        assert!(!task(Work::Checkpoint).view().can_stop);
    }

    #[tokio::test]
    async fn work_about_this_moment_is_not_joined() {
        let store = Store::in_memory().unwrap();
        for work in Work::ALL.into_iter().chain([Work::EndAll]) {
            let tasks = Tasks::default();
            let running = add(&mut tasks.lock(), work, "bob");
            let begun = tasks.begin(work, "ann", store.clone(), AuditLog::in_memory());
            match work {
                Work::Sweep | Work::Check | Work::Measure => assert_eq!(begun.unwrap(), 1),
                _ => assert_eq!(begun.unwrap_err().status, StatusCode::CONFLICT, "{work:?}"),
            }
            assert_eq!(tasks.list().len(), 1);
            running.end(Ok(String::new()));
            let begun = tasks.begin(work, "ann", store.clone(), AuditLog::in_memory());
            assert_eq!(begun.unwrap(), 2);
        }
    }

    #[test]
    fn work_that_a_page_drops_has_ended() {
        let tasks = Tasks::default();
        let shown = tasks.show(Work::Backup, "ann");
        assert!(
            shown
                .progress(1, Some(2), "1 of 2".to_owned())
                .is_continue()
        );
        assert_eq!(tasks.view(1).unwrap().progress, "1 of 2");
        tasks.stop(1).unwrap();
        assert!(shown.progress(2, None, String::new()).is_break());
        drop(shown);
        assert!(tasks.view(1).unwrap().failed);
    }
}
