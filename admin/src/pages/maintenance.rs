//! Long work: begun, followed, and stopped.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::tasks::{TaskView, Work};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect};
use serde::Serialize;
use serde_json::json;

#[derive(Serialize)]
struct Page {
    works: Vec<WorkView>,
    /// Whether it can be backed up here: a store in a server is not.
    can_back_up: bool,
    tasks: Vec<TaskView>,
    /// The task that is followed, if the address names one.
    followed: Option<TaskView>,
}

#[derive(Serialize)]
struct WorkView {
    path: &'static str,
    label: &'static str,
    effect: &'static str,
    /// Whether it needs the right to change something.
    changes: bool,
}

pub(super) async fn show(visit: Visit) -> Answer {
    visit.show("maintenance.html", "Maintenance", &page(&visit, None)?)
}

pub(super) async fn begin(visit: Visit, Path(work): Path<String>) -> Answer {
    let work = Work::at(&work).ok_or_else(|| Failure::not_found("There is no such work."))?;
    if work.changes() {
        visit.need_change()?;
    }
    let who = visit.access.who().unwrap_or_default().to_owned();
    let app = visit.app.clone();
    let begin = async move {
        let number = (app.tasks).begin(work, &who, app.store.clone(), app.log.clone())?;
        let words = format!("{} is task {number}", work.label());
        Ok::<_, Failure>((words, json!(number)))
    };
    let (_, begun) = (visit.record("start work", work.label().to_owned(), begin)).await?;
    let number = begun.result.and_then(|number| number.as_u64());
    follow(&visit, number.unwrap_or_default(), StatusCode::ACCEPTED)
}

pub(super) async fn task(visit: Visit, Path(number): Path<u64>) -> Answer {
    let task = visit.app.tasks.view(number).ok_or_else(no_such_task)?;
    if visit.format == Format::Json {
        return Ok(render::json(StatusCode::OK, &task));
    }
    let title = format!(
        "{} {}",
        task.label,
        if task.ended.is_some() {
            "ended"
        } else {
            "is running"
        }
    );
    visit.show("maintenance.html", &title, &page(&visit, Some(task))?)
}

pub(super) async fn stop(visit: Visit, Path(number): Path<u64>) -> Answer {
    let task = visit.app.tasks.view(number).ok_or_else(no_such_task)?;
    if task.work.changes() {
        visit.need_change()?;
    }
    let app = visit.app.clone();
    let stop = async move {
        app.tasks.stop(number).ok_or_else(no_such_task)?;
        Ok::<_, Failure>("it is asked to stop".to_owned())
    };
    let subject = format!("{}, task {number}", task.label);
    visit.record("stop work", subject, stop).await?;
    follow(&visit, number, StatusCode::OK)
}

fn follow(visit: &Visit, number: u64, status: StatusCode) -> Answer {
    if visit.format == Format::Json {
        return Ok(render::json(status, &visit.app.tasks.view(number)));
    }
    let url = visit.url(&format!("/maintenance/tasks/{number}"));
    Ok(Redirect::to(&url).into_response())
}

fn page(visit: &Visit, followed: Option<TaskView>) -> Result<Page, Failure> {
    let keeps_files = !visit.app.store.statistics()?.is_on_a_server();
    let works = Work::ALL.into_iter();
    let works = works.filter(|work| keeps_files || *work != Work::Checkpoint);
    let works = works.map(|work| WorkView {
        path: work.path(),
        label: work.label(),
        effect: work.effect(),
        changes: work.changes(),
    });
    Ok(Page {
        works: works.collect(),
        can_back_up: keeps_files,
        tasks: visit.app.tasks.list(),
        followed,
    })
}

fn no_such_task() -> Failure {
    Failure::not_found(
        "There is no such task. The list keeps the last ones; the audit log has all.",
    )
}
