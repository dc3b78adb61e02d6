//! A backup as a download, written while it is sent.

use super::Answer;
use super::download::{Parts, download};
use crate::csrf;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::{bytes, counted};
use crate::tasks::Work;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use chrono::Utc;
use cloakroom::{BackupMark, BackupProgress};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A client that went away frees its turn when the connection is seen to be gone. It may ask again before that.
const PATIENCE: Duration = Duration::from_secs(2);

/// The turn of who may have everything: one at a time.
pub(super) async fn turn(visit: &Visit, what: &str) -> Result<OwnedSemaphorePermit, Failure> {
    visit.need_change()?;
    if !visit.access.may_see_values() {
        let text = format!("{what} holds the values of all sessions, which you may not see.");
        return Err(Failure::forbidden(text));
    }
    let turn = visit.app.transfers.clone().acquire_owned();
    let turn = tokio::time::timeout(PATIENCE, turn).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let text = "Another backup, export or import is going on. Wait for its end.";
        Failure::new(StatusCode::CONFLICT, "One at a time", text)
    })
}

/// Sends a backup. It holds the values of all sessions, and the secrets that sign ids. With `since`, it has only what
/// changed, if the store remembers that.
pub(super) async fn send(visit: Visit) -> Answer {
    let turn = turn(&visit, "A backup").await?;
    let since = visit
        .fields
        .get("since")
        .map(|text| read_mark(&visit, text));
    let since = since.transpose()?;
    if visit.app.store.statistics()?.is_on_a_server() {
        let text =
            "The sessions are in a database server. Back that up, with pg_dump for instance.";
        let title = "This store cannot do that";
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, title, text));
    }
    let who = visit.access.who().unwrap_or_default().to_owned();
    visit
        .record("start backup", String::new(), async {
            Ok::<_, Failure>("begun".to_owned())
        })
        .await?;
    let (writer, end, body) = download();
    let task = Arc::new(visit.app.tasks.show(Work::Backup, &who));
    let store = visit.app.store.clone();
    let log = visit.clone();
    tokio::spawn(async move {
        let of_task = task.clone();
        let progress = move |so_far: BackupProgress| {
            let of = Some(so_far.of_sessions).filter(|it| *it > 0);
            let sessions = counted(so_far.sessions, "session");
            let text = format!("{sessions}, {} sent", bytes(so_far.bytes));
            of_task.progress(so_far.sessions, of, text)
        };
        let backup = match &since {
            None => store.backup_to_async(writer, progress).await,
            Some(since) => store.backup_to_since_async(since, writer, progress).await,
        };
        let outcome = match backup {
            Ok((backup, writer)) => finish(writer, &backup).await,
            Err(error) => Err(error.to_string()),
        };
        log.record_as(&who, "backup", outcome.clone()).await;
        task.end(outcome.clone());
        // Who has the whole may begin the next one.
        drop(turn);
        end.tell(&outcome).await;
    });
    let name = Utc::now().format("sessions-%Y%m%d-%H%M%S.backup");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok((headers, body).into_response())
}

/// The backup that an incremental one is to continue: its header, in hexadecimal digits.
fn read_mark(visit: &Visit, text: &str) -> Result<BackupMark, Failure> {
    let digits = text.as_bytes().chunks(2);
    let bytes = digits.map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2);
        u8::from_str_radix(pair?, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    let wrong = "“since” is the header of a backup in hexadecimal digits.";
    let bytes = bytes.ok_or_else(|| Failure::bad_request(wrong))?;
    let mark = BackupMark::from_bytes(&bytes).map_err(|_| Failure::bad_request(wrong))?;
    if mark.store != csrf::hex(&visit.app.store.identity()) {
        let text = "The backup that is to be continued is of another store.";
        return Err(Failure::bad_request(text));
    }
    Ok(mark)
}

/// Sends the rest.
async fn finish(mut writer: Parts, backup: &cloakroom::Backup) -> Result<String, String> {
    let size = bytes(backup.bytes);
    let sessions = counted(backup.sessions, "session");
    let flushing = tokio::task::spawn_blocking(move || writer.flush());
    match flushing.await {
        Ok(Ok(())) => Ok(format!("{sessions}, {size}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
