//! What was done on the pages, and by whom (C9.3).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many entries are kept in memory and shown.
const KEPT: usize = 1000;
/// A longer line of a file is none of ours.
const MAX_LINE: usize = 64 * 1024;
/// A longer subject or outcome is cut, so that a line stays below that.
const MAX_TEXT: usize = 2 * 1024;

/// One action of an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Counts from 1.
    pub number: u64,
    /// When it ended, or began if it has not ended.
    pub at: DateTime<Utc>,
    /// The name that the resolver gave.
    pub who: String,
    /// What was done, in words that do not change: `end session`, `configure container`, `show values`, …
    pub action: String,
    /// To what: a key, an owner, a container.
    pub subject: String,
    /// What came of it, in words.
    pub outcome: String,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it has ended. If not, it goes on, or the program stopped meanwhile.
    #[serde(default = "yes")]
    pub ended: bool,
}

/// Of lines from before there was the member.
fn yes() -> bool {
    true
}

/// The record of all that was done on the pages: the last thousand entries in memory, and all of them in a file, if one is
/// given. Each is also an event of `tracing`, with the target `cloakroom_admin::audit`.
///
/// ```
/// use cloakroom_admin::AuditLog;
///
/// let folder = tempfile::tempdir()?;
/// let log = AuditLog::in_file(folder.path().join("audit.jsonl"))?;
/// assert!(log.entries().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Held while an entry is written: entries come into the file in the order of their numbers.
    file: Mutex<Option<LogFile>>,
    /// Held for moments only.
    entries: Mutex<Entries>,
    is_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    kept: VecDeque<AuditEntry>,
}

struct LogFile {
    target: Target,
    /// Whether the last line ends where it should. After a failure, the next entry begins a line of its own.
    is_ended: bool,
}

enum Target {
    File(File),
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match self.target {
            Target::File(_) => "file",
            Target::Writer(_) => "writer",
        };
        f.debug_struct("LogFile")
            .field("target", &target)
            .finish_non_exhaustive()
    }
}

/// What an entry says of an action that has not ended.
const BEGUN: &str = "begun";

/// An action that is kept in the log, and may be done now.
#[derive(Debug)]
pub(crate) struct Begun(AuditEntry);

/// What is known of an action when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) who: String,
    pub(crate) action: &'static str,
    pub(crate) subject: String,
}

impl AuditLog {
    /// A log that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// A log that goes on in a file: one JSON object a line, appended and synced. An action has a line when it begins, and
    /// another one with the same number and its outcome before its answer is sent. The file is made if it is missing, for
    /// its owner alone. Lines that cannot be read are skipped and stay.
    ///
    /// While the file cannot be written, every action is refused and the overview warns; people can sign in and out. An
    /// action whose outcome alone cannot be written is done, and its answer says so.
    ///
    /// # Errors
    ///
    /// Those of opening and reading the file; [`InvalidInput`](io::ErrorKind::InvalidInput) if it is none, but a device or
    /// a pipe.
    pub fn in_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = path.as_ref();
        if path.exists() && !path.metadata()?.is_file() {
            let why = "the audit log is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let file = options.open(path)?;
        let mut entries = Entries::default();
        let mut reader = BufReader::new(&file);
        let (mut line, mut is_ended) = (Vec::new(), true);
        while (&mut reader)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?
            > 0
        {
            is_ended = line.ends_with(b"\n");
            if let Ok(entry) = serde_json::from_slice(&line) {
                entries.keep(entry);
            }
            line.clear();
        }
        let target = Target::File(file);
        Ok(Self::with(LogFile { target, is_ended }, entries))
    }

    /// A log that is written to a writer, one JSON object a line, as in [`in_file`](Self::in_file). Each line is flushed.
    ///
    /// ```
    /// let log = cloakroom_admin::AuditLog::to_writer(std::io::stderr());
    /// # drop(log);
    /// ```
    #[must_use]
    pub fn to_writer(writer: impl Write + Send + 'static) -> Self {
        let file = LogFile {
            target: Target::Writer(Box::new(writer)),
            is_ended: true,
        };
        Self::with(file, Entries::default())
    }

    fn with(file: LogFile, entries: Entries) -> Self {
        let inner = Inner {
            file: Mutex::new(Some(file)),
            entries: Mutex::new(entries),
            is_failing: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The entries that are kept, the newest first.
    #[must_use]
    pub fn entries(&self) -> Vec<AuditEntry> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    /// At most `limit` entries with smaller numbers, the newest first, and where the next page goes on.
    pub(crate) fn page(&self, before: u64, limit: usize) -> (Vec<AuditEntry>, Option<u64>) {
        let entries = self.lock();
        let mut earlier = entries.kept.iter().rev().filter(|it| it.number < before);
        let page: Vec<_> = earlier.by_ref().take(limit).cloned().collect();
        let has_more = earlier.next().is_some();
        let last = page.last().map(|it| it.number);
        (page, last.filter(|_| has_more))
    }

    /// The entry with this number, if it is kept.
    pub(crate) fn entry(&self, number: u64) -> Option<AuditEntry> {
        let entries = self.lock();
        let found = entries.kept.iter().rev().find(|it| it.number == number);
        found.cloned()
    }

    /// Whether the last entry did not come into the file.
    pub(crate) fn is_failing(&self) -> bool {
        self.inner.is_failing.load(Ordering::Relaxed)
    }

    /// Keeps that an action begins. If that fails, it must not be done. Waits for the disk.
    pub(crate) fn begin(&self, action: Action) -> io::Result<Begun> {
        let mut file = self.file();
        let mut entry = self.entry_of(action, Ok(BEGUN.to_owned()));
        entry.ended = false;
        let written = self.write(&mut file, &entry);
        if let Err(error) = &written {
            entry.outcome = format!("refused, as it cannot be kept in the log: {error}");
            (entry.failed, entry.ended) = (true, true);
            tell(&entry);
        }
        self.lock().keep(entry.clone());
        written.map(|()| Begun(entry))
    }

    /// Keeps the outcome of an action, and returns the number of its entry. Waits for the disk.
    pub(crate) fn end(&self, begun: Begun, outcome: Result<String, String>) -> io::Result<u64> {
        let failed = outcome.is_err();
        let (Ok(outcome) | Err(outcome)) = outcome;
        let entry = AuditEntry {
            at: Utc::now(),
            outcome: cut(outcome),
            failed,
            ended: true,
            ..begun.0
        };
        self.keep(&mut self.file(), entry)
    }

    /// Records an action that is done with its outcome, and returns the number of the entry. Waits for the disk.
    pub(crate) fn record(
        &self,
        action: Action,
        outcome: Result<String, String>,
    ) -> io::Result<u64> {
        let mut file = self.file();
        let entry = self.entry_of(action, outcome);
        self.keep(&mut file, entry)
    }

    /// The next entry. The lock of the file is held.
    fn entry_of(&self, action: Action, outcome: Result<String, String>) -> AuditEntry {
        let failed = outcome.is_err();
        let (Ok(outcome) | Err(outcome)) = outcome;
        AuditEntry {
            number: self.lock().last + 1,
            at: Utc::now(),
            who: cut(action.who),
            action: action.action.to_owned(),
            subject: cut(action.subject),
            outcome: cut(outcome),
            failed,
            ended: true,
        }
    }

    fn keep(&self, file: &mut Option<LogFile>, entry: AuditEntry) -> io::Result<u64> {
        tell(&entry);
        let number = entry.number;
        let written = self.write(file, &entry);
        self.lock().keep(entry);
        written.map(|()| number)
    }

    fn write(&self, file: &mut Option<LogFile>, entry: &AuditEntry) -> io::Result<()> {
        let written = file.as_mut().map_or(Ok(()), |file| file.write(entry));
        (self.inner.is_failing).store(written.is_err(), Ordering::Relaxed);
        if let Err(error) = &written {
            let number = entry.number;
            tracing::error!(%error, number, "an entry of the audit log was not written to its file");
        }
        written
    }

    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        let file = self.inner.file.lock();
        file.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        let entries = self.inner.entries.lock();
        entries.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the application's log of an action that has ended.
fn tell(entry: &AuditEntry) {
    let (who, action, subject) = (&*entry.who, &*entry.action, &*entry.subject);
    let (outcome, failed) = (&*entry.outcome, entry.failed);
    tracing::info!(target: "cloakroom_admin::audit", who, action, subject, outcome, failed, "administration");
}

impl LogFile {
    fn write(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let mut line = Vec::new();
        if !self.is_ended {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, entry)?;
        line.push(b'\n');
        self.is_ended = false;
        match &mut self.target {
            Target::File(file) => file.write_all(&line)?,
            Target::Writer(writer) => writer.write_all(&line)?,
        }
        self.is_ended = true;
        match &mut self.target {
            Target::File(file) => file.sync_data(),
            Target::Writer(writer) => writer.flush(),
        }
    }
}

impl Entries {
    fn keep(&mut self, entry: AuditEntry) {
        self.last = self.last.max(entry.number);
        let later = self.kept.iter_mut().rev();
        let mut later = later.take_while(|it| it.number >= entry.number);
        let begun = later.find(|it| is_end_of(&entry, it));
        if let Some(begun) = begun {
            *begun = entry;
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry);
    }
}

/// Whether `entry` has the outcome of what `begun` tells. Several programs may write the same file, and count alike.
fn is_end_of(entry: &AuditEntry, begun: &AuditEntry) -> bool {
    let is_same = begun.who == entry.who && begun.action == entry.action;
    !begun.ended && begun.number == entry.number && is_same && begun.subject == entry.subject
}

/// The text, or its beginning and its length.
fn cut(mut text: String) -> String {
    let bytes = text.len();
    if bytes > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(&format!("… ({bytes} bytes in all)"));
    }
    text
}

#[cfg(test)]
mod tests;
