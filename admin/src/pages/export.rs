//! All sessions as lines of JSON, as the export format has them, written while they are sent.

use super::Answer;
use super::backup::turn;
use super::download::download;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::counted;
use crate::tasks::Work;
use axum::http::header;
use axum::response::IntoResponse as _;
use std::io::Write as _;
use std::sync::Arc;

/// Sends an export. It holds the values of all sessions.
pub(super) async fn send(visit: Visit) -> Answer {
    let turn = turn(&visit, "An export").await?;
    let who = visit.access.who().unwrap_or_default().to_owned();
    visit
        .record("start export", String::new(), async {
            Ok::<_, Failure>("begun".to_owned())
        })
        .await?;
    let (mut writer, end, body) = download();
    let task = Arc::new(visit.app.tasks.show(Work::Export, &who));
    let store = visit.app.store.clone();
    tokio::spawn(async move {
        let of_task = task.clone();
        let exporting = tokio::task::spawn_blocking(move || {
            let exported = store.export_with(&mut writer, |so_far| {
                let text = format!("{} sent", counted(so_far.sessions, "session"));
                of_task.progress(so_far.sessions, None, text)
            });
            let exported = exported.map_err(|error| error.to_string())?;
            writer.flush().map_err(|error| error.to_string())?;
            let damaged = counted(exported.damaged, "damaged part");
            let sessions = counted(exported.sessions, "session");
            Ok(format!("{sessions}, {damaged}"))
        });
        let outcome = exporting
            .await
            .unwrap_or_else(|error| Err(error.to_string()));
        visit.record_as(&who, "export", outcome.clone()).await;
        task.end(outcome.clone());
        // Who has the whole may begin the next one.
        drop(turn);
        end.tell(&outcome).await;
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"sessions.jsonl\"",
        ),
    ];
    Ok((headers, body).into_response())
}
