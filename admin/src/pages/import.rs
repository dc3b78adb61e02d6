//! Sessions that an export holds, read while they come. Memory holds a batch of them.

use super::Answer;
use super::backup::turn;
use crate::entry::Visit;
use crate::failure::{Failure, ImportedSoFar};
use crate::forms::counted;
use crate::render;
use crate::tasks::{Shown, Work};
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::StatusCode;
use cloakroom::{ImportSettings, Imported, OnDuplicate};
use serde_json::json;
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

pub(crate) const PATH: &str = "/maintenance/import";

/// How many parts of the content wait until they are read.
const WAITING: usize = 4;
/// How long a line of an import may be.
const LONGEST_LINE: usize = 64 << 20;
/// How much of its content is read after an import has failed, and for how long.
const DRAINED: usize = 16 << 20;
const DRAINING: Duration = Duration::from_secs(5);
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

/// What became of an import, what was done by then, and the content that it has not read.
type Ended = (
    cloakroom::Result<Imported>,
    Imported,
    Option<Receiver<io::Result<Bytes>>>,
);

/// Imports the content of the request: `on_duplicate` is `skip`, `replace` or `fail`.
pub(super) async fn receive(visit: Visit, request: Request) -> Answer {
    let turn = turn(&visit, "An import").await?;
    let settings = settings(&visit)?;
    let of_task = visit.clone();
    let body = request.into_body();
    // It is kept, also if the client goes away meanwhile. Nothing is imported that cannot be kept.
    let importing = tokio::spawn(async move {
        let begun = of_task.begin("import", String::new()).await?;
        let who = of_task.access.who().unwrap_or_default();
        let task = Arc::new(of_task.app.tasks.show(Work::Import, who));
        let (to, parts) = channel(WAITING);
        let reading = tokio::spawn(read_parts(body, to));
        let (imported, so_far, rest) = import(&of_task, &task, settings, parts).await?;
        let sessions = |done: &Imported| counted(done.sessions, "session");
        let outcome = match &imported {
            Ok(done) => Ok(format!("{}, {} skipped", sessions(done), done.skipped)),
            Err(error) => Err(format!("{} before this: {error}", sessions(&so_far))),
        };
        let recorded = of_task.end(begun, outcome.clone()).await;
        task.end(outcome);
        drop(turn);
        if let Some(rest) = rest {
            drain(rest).await;
        }
        reading.abort();
        let so_far = ImportedSoFar {
            sessions: so_far.sessions,
            lines: so_far.lines,
        };
        let imported = imported.map_err(|error| Failure::from(error).after(so_far))?;
        recorded.map_err(|failure| failure.after(so_far))?;
        Ok::<_, Failure>(imported)
    });
    let imported = importing.await.map_err(|_| Failure::fault())??;
    let result = json!({
        "containers": imported.containers, "sessions": imported.sessions, "skipped": imported.skipped,
        "damaged": imported.damaged, "lines": imported.lines,
    });
    Ok(render::json(StatusCode::OK, &json!({ "result": result })))
}

async fn import(
    visit: &Visit,
    task: &Arc<Shown>,
    settings: ImportSettings,
    parts: Receiver<io::Result<Bytes>>,
) -> Result<Ended, Failure> {
    let (store, task) = (visit.app.store.clone(), task.clone());
    let importing = tokio::task::spawn_blocking(move || {
        let mut content = Content {
            part: Bytes::new(),
            parts,
        };
        let mut so_far = Imported::default();
        let imported = store.import_with(&mut content, settings, |done| {
            so_far = *done;
            let text = format!("{} so far", counted(done.sessions, "session"));
            task.progress(done.sessions, None, text)
        });
        let rest = imported.is_err().then_some(content.parts);
        if let Ok(done) = &imported {
            so_far = *done;
        }
        (imported, so_far, rest)
    });
    importing.await.map_err(|_| Failure::fault())
}

/// Reads a part of the rest: a client that still sends would not see the answer.
async fn drain(mut rest: Receiver<io::Result<Bytes>>) {
    let draining = async {
        let mut left = DRAINED;
        while let Some(Ok(part)) = rest.recv().await {
            match left.checked_sub(part.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    drop(timeout(DRAINING, draining).await);
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
        let part = match timeout(STALLED, frame).await {
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
