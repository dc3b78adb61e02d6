//! Sessions that an export holds, read while they come. Memory holds a batch of them.

use super::Answer;
use super::backup::turn;
use crate::entry::Visit;
use crate::failure::{Failure, ImportedSoFar};
use crate::forms::counted;
use crate::render;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::StatusCode;
use cloakroom::{ImportSettings, Imported, OnDuplicate};
use serde_json::json;
use std::future::poll_fn;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

pub(crate) const PATH: &str = "/maintenance/import";

/// How many parts of the content wait until they are read.
const WAITING: usize = 4;
/// How long a line of an import may be.
const LONGEST_LINE: usize = 64 << 20;
/// How long nothing may come.
const STALLED: Duration = Duration::from_secs(60);

/// Reads the content of a request on a thread that may block.
struct Content {
    part: Bytes,
    parts: Receiver<io::Result<Bytes>>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.blocking_recv() {
                None => return Ok(0),
                Some(part) => self.part = part?,
            }
        }
        let count = buffer.len().min(self.part.len());
        let (Some(to), read) = (buffer.get_mut(..count), self.part.split_to(count)) else {
            return Ok(0);
        };
        to.copy_from_slice(&read);
        Ok(count)
    }
}

/// Imports the content of the request: `on_duplicate` is `skip`, `replace` or `fail`.
pub(super) async fn receive(visit: Visit, request: Request) -> Answer {
    let turn = turn(&visit, "An import")?;
    let settings = settings(&visit)?;
    let (to, parts) = channel(WAITING);
    let reading = tokio::spawn(read_parts(request.into_body(), to));
    let store = visit.app.store.clone();
    let work = async move {
        let importing = tokio::task::spawn_blocking(move || {
            let mut content = Content {
                part: Bytes::new(),
                parts,
            };
            let mut so_far = Imported::default();
            let imported = store.import_with(&mut content, settings, |done| {
                so_far = *done;
                ControlFlow::Continue(())
            });
            if imported.is_err() {
                // A client that still sends would not see the answer.
                drop(io::copy(&mut content, &mut io::sink()));
            }
            (imported, so_far)
        });
        let done = importing.await;
        reading.abort();
        drop(turn);
        done
    };
    let who = visit.access.who().unwrap_or_default().to_owned();
    let of_task = visit.clone();
    // It is recorded, also if the client goes away meanwhile.
    let recording = tokio::spawn(async move {
        let fault = |error: tokio::task::JoinError| Failure::bad_request(error.to_string());
        let (imported, so_far) = work.await.map_err(fault)?;
        let sessions = |done: &Imported| counted(done.sessions, "session");
        let outcome = match &imported {
            Ok(done) => Ok(format!("{}, {} skipped", sessions(done), done.skipped)),
            Err(error) => Err(format!("{} before this: {error}", sessions(&so_far))),
        };
        of_task.record_as(&who, "import", outcome).await;
        imported.map_err(|error| {
            Failure::from(error).after(ImportedSoFar {
                sessions: so_far.sessions,
                lines: so_far.lines,
            })
        })
    });
    let fault = |error: tokio::task::JoinError| Failure::bad_request(error.to_string());
    let imported = recording.await.map_err(fault)??;
    let result = json!({
        "containers": imported.containers, "sessions": imported.sessions, "skipped": imported.skipped,
        "damaged": imported.damaged, "lines": imported.lines,
    });
    Ok(render::json(StatusCode::OK, &json!({ "result": result })))
}

fn settings(visit: &Visit) -> Result<ImportSettings, Failure> {
    let on_duplicate = match visit.fields.get("on_duplicate").unwrap_or("fail") {
        "skip" => OnDuplicate::Skip,
        "replace" => OnDuplicate::Replace,
        "fail" => OnDuplicate::Fail,
        _ => {
            return Err(Failure::bad_request(
                "on_duplicate is skip, replace or fail.",
            ));
        }
    };
    let mut settings = ImportSettings::new(on_duplicate);
    let number = |name: &str| {
        let text = visit.fields.get(name);
        let number = text.map(str::parse::<u64>).transpose();
        number.map_err(|_| Failure::bad_request(format!("{name} is a whole number.")))
    };
    if let Some(line) = number("after_line")? {
        settings = settings.after_line(line);
    }
    if let Some(bytes) = number("max_line")? {
        // It is the application's memory: no more than a line may have by default.
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        settings = settings.max_line(bytes.min(LONGEST_LINE));
    }
    Ok(settings)
}

/// Hands the content on as it comes.
async fn read_parts(mut body: Body, to: Sender<io::Result<Bytes>>) {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let part = match tokio::time::timeout(STALLED, frame).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(part) => Ok(part),
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client has sent nothing for a minute",
            )),
        };
        let is_last = part.is_err();
        if to.send(part).await.is_err() || is_last {
            return;
        }
    }
}
