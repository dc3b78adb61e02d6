//! Long content that is received or sent on a thread of its own, so that a command can be broken off while nothing comes.

use super::client::{Answered, Client, Fields};
use super::interface::Step;
use super::wire::ImportWire;
use crate::failure::{Failure, Outcome};
use crate::stoppable::is_broken_off;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How often a command looks whether it is to stop.
const LOOKED: Duration = Duration::from_millis(50);
/// How much is handed over at once, and how many parts may wait.
const PART: usize = 64 * 1024;
const WAITING: usize = 4;

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    BrokenOff,
}

enum Received {
    Part(Vec<u8>),
    End,
    Failed(Failure),
}

/// Writes the answer to a request. The step is told the bytes so far.
pub(crate) fn receive(
    client: &Client,
    (path, form): (&'static str, Vec<(&'static str, String)>),
    to: &mut dyn Write,
    step: Step<'_>,
) -> Outcome<End> {
    let (sender, parts) = sync_channel(WAITING);
    let of_thread = client.clone();
    thread::Builder::new()
        .spawn(move || read_parts(&of_thread, (path, &form), &sender))
        .map_err(|error| no_thread(&error))?;
    let mut bytes = 0;
    loop {
        match parts.recv_timeout(LOOKED) {
            Ok(Received::Part(part)) => {
                to.write_all(&part)?;
                bytes += part.len() as u64;
            }
            Ok(Received::End) => return Ok(End::Whole),
            Ok(Received::Failed(failure)) => return Err(failure),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::defect()),
        }
        if step(bytes, None).is_break() {
            return Ok(End::BrokenOff);
        }
    }
}

/// Ends when nobody receives any more.
fn read_parts(client: &Client, (path, form): (&str, Fields<'_>), to: &SyncSender<Received>) {
    let last = match client.download(path, form) {
        Err(trouble) => Received::Failed(trouble.into()),
        Ok(body) => {
            let mut reader = body.into_with_config().limit(u64::MAX).reader();
            loop {
                let mut part = vec![0; PART];
                match reader.read(&mut part) {
                    Ok(0) => break Received::End,
                    Ok(count) => {
                        part.truncate(count);
                        if to.send(Received::Part(part)).is_err() {
                            return;
                        }
                    }
                    Err(error) => break Received::Failed(client.cut_short(&error)),
                }
            }
        }
    };
    drop(to.send(last));
}

/// What is sent, counted. It ends early when it is to stop.
struct Sent {
    reader: Box<dyn Read + Send>,
    state: Arc<SentState>,
}

#[derive(Default)]
struct SentState {
    bytes: AtomicU64,
    is_stopping: AtomicBool,
    /// Why the reader has failed.
    has_failed: AtomicBool,
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state.is_stopping.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let read = self.reader.read(buffer);
        match &read {
            Err(error) if is_broken_off(error) => {
                self.state.is_stopping.store(true, Ordering::SeqCst);
                return Ok(0);
            }
            Ok(count) => {
                self.state.bytes.fetch_add(*count as u64, Ordering::SeqCst);
            }
            Err(_) => self.state.has_failed.store(true, Ordering::SeqCst),
        }
        read
    }
}

/// Sends content. The step is told the bytes so far. If it breaks off, the content ends there, and the answer tells what
/// came of it.
pub(crate) fn send(
    client: &Client,
    (path, query): (&'static str, Vec<(&'static str, String)>),
    reader: Box<dyn Read + Send>,
    of: Option<u64>,
    step: Step<'_>,
) -> Outcome<(Answered<ImportWire>, End)> {
    let state = Arc::new(SentState::default());
    let mut sent = Sent {
        reader,
        state: state.clone(),
    };
    let (sender, answer): (_, Receiver<Answered<ImportWire>>) = sync_channel(1);
    let of_thread = client.clone();
    thread::Builder::new()
        .spawn(move || {
            let query: Fields<'_> = &query;
            let answer = of_thread.upload(path, query, &mut sent);
            drop(sender.send(answer));
        })
        .map_err(|error| no_thread(&error))?;
    loop {
        match answer.recv_timeout(LOOKED) {
            Ok(answer) => {
                if state.has_failed.load(Ordering::SeqCst) {
                    let advice = "Check the file and the disk. --after-line goes on after the lines that are imported.";
                    return Err(Failure::unusable(
                        "io",
                        "what is imported cannot be read",
                        advice,
                    ));
                }
                let end = match state.is_stopping.load(Ordering::SeqCst) {
                    true => End::BrokenOff,
                    false => End::Whole,
                };
                return Ok((answer, end));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::defect()),
        }
        if step(state.bytes.load(Ordering::SeqCst), of).is_break() {
            state.is_stopping.store(true, Ordering::SeqCst);
        }
    }
}

fn no_thread(error: &io::Error) -> Failure {
    Failure::file("no thread can be started".to_owned(), error)
}

/// Hands lines on, and keeps the end of the last one.
pub(crate) struct Lines<'a> {
    to: &'a mut dyn Write,
    pub(crate) bytes: u64,
    /// The last bytes.
    tail: Vec<u8>,
}

/// The last line of an export is shorter.
const TAIL: usize = 1024;

impl<'a> Lines<'a> {
    pub(crate) fn new(to: &'a mut dyn Write) -> Self {
        Self {
            to,
            bytes: 0,
            tail: Vec::new(),
        }
    }

    /// The last line, if it is whole and short.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        let lines = self.tail.strip_suffix(b"\n")?;
        lines.rsplit(|byte| *byte == b'\n').next()
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.to.write(part)?;
        self.bytes += written as u64;
        let part = part.get(..written).unwrap_or_default();
        self.tail.extend_from_slice(
            part.get(part.len().saturating_sub(TAIL)..)
                .unwrap_or_default(),
        );
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
