//! Answers that are written while they are sent.

use axum::body::{Body, Bytes};
use futures_core::Stream;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
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

/// What is sent. An answer that was not ended is cut: the writer has panicked or was dropped.
struct Download {
    parts: Receiver<io::Result<Bytes>>,
    is_ended: Arc<AtomicBool>,
}

impl Stream for Download {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = ready!(self.parts.poll_recv(context));
        if part.is_none() && !self.is_ended.swap(true, Ordering::AcqRel) {
            let cut = io::Error::other("the answer was cut");
            return Poll::Ready(Some(Err(cut)));
        }
        Poll::Ready(part)
    }
}

/// Tells the client whether the answer is whole.
pub(super) struct End {
    to: Sender<io::Result<Bytes>>,
    is_ended: Arc<AtomicBool>,
}

impl End {
    pub(super) async fn tell<T>(self, outcome: &Result<T, String>) {
        if let Err(why) = outcome {
            let cut = Err(io::Error::other(why.clone()));
            if self.to.send_timeout(cut, STALLED).await.is_err() {
                return;
            }
        }
        self.is_ended.store(true, Ordering::Release);
    }
}

/// What is written, where its end is told, and the answer. Must be called in a runtime; writing blocks.
pub(super) fn download() -> (Parts, End, Body) {
    let (to, parts) = channel(WAITING);
    let is_ended = Arc::new(AtomicBool::new(false));
    let end = End {
        to: to.clone(),
        is_ended: is_ended.clone(),
    };
    let writer = Parts {
        part: Vec::with_capacity(PART),
        to,
        runtime: Handle::current(),
    };
    let download = Download { parts, is_ended };
    (writer, end, Body::from_stream(download))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    /// Writes and ends as `work` does, and returns what a client gets.
    async fn received(
        work: impl FnOnce(Parts, End) + Send + 'static,
    ) -> Result<Bytes, axum::Error> {
        let (writer, end, body) = download();
        drop(tokio::task::spawn_blocking(move || work(writer, end)));
        let receiving = tokio::time::timeout(STALLED, to_bytes(body, usize::MAX));
        receiving.await.unwrap()
    }

    fn write(writer: &mut Parts) {
        writer.write_all(&[7; 3 * PART]).unwrap();
        writer.flush().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_that_was_not_ended_is_cut() {
        let whole = received(|mut writer, end| {
            write(&mut writer);
            Handle::current().block_on(end.tell(&Ok(())));
        });
        assert_eq!(whole.await.unwrap().len(), 3 * PART);
        let failed = received(|mut writer, end| {
            write(&mut writer);
            Handle::current().block_on(end.tell::<()>(&Err("the disk is broken".to_owned())));
        });
        assert!(failed.await.unwrap_err().to_string().contains("broken"));
        let panicked = received(|mut writer, _end| {
            write(&mut writer);
            panic!("on purpose");
        });
        assert!(panicked.await.is_err());
        assert!(received(|_, _| {}).await.is_err());
    }
}
