//! Input and output that may never come to an end: a pipe that nobody writes to, or reads from. They are read and written
//! on threads of their own, so that Ctrl-C ends the waiting.

use crate::interrupt::Interrupt;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// How often it is looked whether the command is to stop.
const LOOKED: Duration = Duration::from_millis(50);
/// How much is handed over at once, and how many parts may wait.
const PART: usize = 64 * 1024;
const WAITING: usize = 4;

/// Ctrl-C came while something was waited for.
#[derive(Debug)]
struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was broken off")
    }
}

impl std::error::Error for BrokenOff {}

fn broken_off() -> io::Error {
    io::Error::other(BrokenOff)
}

/// Whether an error says that Ctrl-C came.
pub(crate) fn is_broken_off(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<BrokenOff>())
}

/// Waits for an answer of a thread.
fn wait<T>(answers: &Receiver<T>, interrupt: &Interrupt) -> io::Result<Option<T>> {
    loop {
        match answers.recv_timeout(LOOKED) {
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if interrupt.has_come() => return Err(broken_off()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reads ahead.
pub(crate) struct StoppableReader {
    parts: Receiver<io::Result<Vec<u8>>>,
    part: io::Cursor<Vec<u8>>,
    interrupt: Interrupt,
}

impl StoppableReader {
    pub(crate) fn new(
        mut from: impl Read + Send + 'static,
        interrupt: &Interrupt,
    ) -> io::Result<Self> {
        let (to, parts) = sync_channel(WAITING);
        thread::Builder::new().spawn(move || read_parts(&mut from, &to))?;
        Ok(Self {
            parts,
            part: io::Cursor::default(),
            interrupt: interrupt.clone(),
        })
    }
}

/// Ends when nobody reads any more.
fn read_parts(from: &mut dyn Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut part = vec![0; PART];
        let read = match from.read(&mut part) {
            Ok(0) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read,
        };
        let part = read.map(|count| {
            part.truncate(count);
            part
        });
        let is_last = part.is_err();
        if to.send(part).is_err() || is_last {
            return;
        }
    }
}

impl Read for StoppableReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match wait(&self.parts, &self.interrupt)? {
                Some(part) => self.part = io::Cursor::new(part?),
                None => return Ok(0),
            }
        }
    }
}

/// Writes one part after the other.
pub(crate) struct StoppableWriter {
    parts: Sender<Vec<u8>>,
    written: Receiver<io::Result<()>>,
    interrupt: Interrupt,
}

impl StoppableWriter {
    /// Writes to the standard output.
    pub(crate) fn stdout(interrupt: &Interrupt) -> io::Result<impl Write + Send> {
        let (parts, from) = channel::<Vec<u8>>();
        let (to, written) = channel();
        thread::Builder::new().spawn(move || {
            for part in from {
                let mut out = io::stdout().lock();
                let result = out.write_all(&part).and_then(|()| out.flush());
                if to.send(result).is_err() {
                    return;
                }
            }
        })?;
        let writer = Self {
            parts,
            written,
            interrupt: interrupt.clone(),
        };
        Ok(io::BufWriter::with_capacity(PART, writer))
    }
}

impl Write for StoppableWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.parts.send(bytes.to_owned()).map_err(|_| gone())?;
        match wait(&self.written, &self.interrupt)? {
            Some(written) => written.map(|()| bytes.len()),
            None => Err(gone()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
