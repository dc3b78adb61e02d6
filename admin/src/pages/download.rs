//! Answers that are written while they are sent.

use axum::body::{Body, Bytes};
use futures_core::Stream;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How much is sent at once.
const PART: usize = 64 * 1024;
/// How many parts wait for a client that reads slowly. Then the writer waits, too.
const WAITING: usize = 4;

/// How long a client may read nothing.
const STALLED: Duration = Duration::from_secs(60);

/// What is written: the parts of the answer.
pub(super) struct Parts {
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
        // The writer keeps the state of its commit: a client that does not read must not keep it for ever.
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

/// Tells the client that the answer is cut.
pub(super) struct Cut(Sender<io::Result<Bytes>>);

impl Cut {
    pub(super) async fn tell(self, why: &str) {
        let cut = Err(io::Error::other(why.to_owned()));
        drop(self.0.send_timeout(cut, STALLED).await);
    }
}

/// What is written, where a failure is told, and the answer. Must be called in a runtime; writing blocks.
pub(super) fn download() -> (Parts, Cut, Body) {
    let (to, parts) = channel(WAITING);
    let cut = Cut(to.clone());
    let writer = Parts {
        part: Vec::with_capacity(PART),
        to,
        runtime: Handle::current(),
    };
    (writer, cut, Body::from_stream(Download(parts)))
}
