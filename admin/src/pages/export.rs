//! All sessions as lines of JSON, as the export format has them, written while they are sent.

use super::Answer;
use super::backup::turn;
use super::download::download;
use crate::entry::Visit;
use crate::forms::counted;
use axum::http::header;
use axum::response::IntoResponse as _;
use std::io::Write as _;

/// Sends an export. It holds the values of all sessions.
pub(super) async fn send(visit: Visit) -> Answer {
    let turn = turn(&visit, "An export")?;
    let who = visit.access.who().unwrap_or_default().to_owned();
    visit
        .record("start export", String::new(), async {
            Ok("begun".to_owned())
        })
        .await?;
    let (mut writer, cut, body) = download();
    let store = visit.app.store.clone();
    tokio::spawn(async move {
        let exporting = tokio::task::spawn_blocking(move || {
            let exported = store
                .export(&mut writer)
                .map_err(|error| error.to_string())?;
            writer.flush().map_err(|error| error.to_string())?;
            let damaged = counted(exported.damaged, "damaged part");
            let sessions = counted(exported.sessions, "session");
            Ok(format!("{sessions}, {damaged}"))
        });
        let outcome = exporting
            .await
            .unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = &outcome {
            cut.tell(error).await;
        }
        visit.record_as(&who, "export", outcome).await;
        drop(turn);
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
