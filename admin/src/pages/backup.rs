//! A backup as a download, written while it is sent.

use super::Answer;
use crate::entry::Visit;
use crate::failure::Failure;
use crate::forms::{bytes, counted};
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use chrono::Utc;
use futures_core::Stream;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How much is sent at once.
const PART: usize = 64 * 1024;
/// How many parts wait for a client that reads slowly. Then the backup waits, too.
const WAITING: usize = 4;

/// How long a client may read nothing.
const STALLED: Duration = Duration::from_secs(60);

/// What the backup is written to: the parts of the answer.
struct Parts {
    part: Vec<u8>,
    to: Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() {
            return Ok(());
        }
        // A backup keeps the state of its commit: a client that does not read must not keep it for ever.
        let sending = self.to.send_timeout(Ok(part.into()), STALLED);
        match self.runtime.block_on(sending) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => {
                let why = "the client has read nothing for a minute";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
            Err(SendTimeoutError::Closed(_)) => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the client went away",
            )),
        }
    }
}

struct Download(Receiver<io::Result<Bytes>>);

impl Stream for Download {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// Sends a backup. It holds the values of all sessions, and the secrets that sign ids.
pub(super) async fn download(visit: Visit) -> Answer {
    visit.need_change()?;
    if !visit.access.may_see_values() {
        return Err(Failure::forbidden(
            "A backup holds the values of all sessions, which you may not see.",
        ));
    }
    let Ok(turn) = visit.app.backups.clone().try_acquire_owned() else {
        let text = "Another backup is being downloaded. Wait for its end.";
        return Err(Failure::new(StatusCode::CONFLICT, "One at a time", text));
    };
    let who = visit.access.who().unwrap_or_default().to_owned();
    visit
        .record("start backup", String::new(), async {
            Ok("begun".to_owned())
        })
        .await?;
    let (to, parts) = channel(WAITING);
    let failed = to.clone();
    let writer = Parts {
        part: Vec::with_capacity(PART),
        to,
        runtime: Handle::current(),
    };
    let store = visit.app.store.clone();
    let log = visit.clone();
    tokio::spawn(async move {
        let backup = store
            .backup_to_async(writer, |_| ControlFlow::Continue(()))
            .await;
        let outcome = match backup {
            Ok((backup, writer)) => finish(writer, &backup).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &outcome {
            // The client sees that the answer is cut.
            let cut = Err(io::Error::other(error.clone()));
            drop(failed.send_timeout(cut, STALLED).await);
        }
        log.record_as(&who, "backup", outcome).await;
        drop(turn);
    });
    let name = Utc::now().format("sessions-%Y%m%d-%H%M%S.backup");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    Ok((headers, Body::from_stream(Download(parts))).into_response())
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
