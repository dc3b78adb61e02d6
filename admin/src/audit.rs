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
    /// When it ended.
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

    /// A log that goes on in a file: one JSON object a line, appended and synced before the action's answer is sent. The
    /// file is made if it is missing, for its owner alone. Lines that cannot be read are skipped and stay.
    ///
    /// While the file cannot be written, values of sessions are not shown, the answers to other actions say that these
    /// were done and not kept, and the overview warns.
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

    /// Records an action with its outcome, and returns the number of the entry. Waits for the disk.
    pub(crate) fn record(
        &self,
        action: Action,
        outcome: Result<String, String>,
    ) -> io::Result<u64> {
        let failed = outcome.is_err();
        let (Ok(outcome) | Err(outcome)) = outcome;
        let Action {
            who,
            action,
            subject,
        } = action;
        let (subject, outcome) = (cut(subject), cut(outcome));
        tracing::info!(target: "cloakroom_admin::audit", who, action, subject, outcome, failed, "administration");
        let file = self.inner.file.lock();
        let mut file = file.unwrap_or_else(PoisonError::into_inner);
        let entry = AuditEntry {
            number: self.lock().last + 1,
            at: Utc::now(),
            who: cut(who),
            action: action.to_owned(),
            subject,
            outcome,
            failed,
        };
        let number = entry.number;
        let written = file.as_mut().map_or(Ok(()), |file| file.write(&entry));
        (self.inner.is_failing).store(written.is_err(), Ordering::Relaxed);
        self.lock().keep(entry);
        if let Err(error) = &written {
            tracing::error!(%error, number, "an entry of the audit log was not written to its file");
        }
        written.map(|()| number)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        let entries = self.inner.entries.lock();
        entries.unwrap_or_else(PoisonError::into_inner)
    }
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
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry);
    }
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
mod tests {
    use super::*;

    fn action(subject: &str) -> Action {
        Action {
            who: "ann".to_owned(),
            action: "end session",
            subject: subject.to_owned(),
        }
    }

    #[test]
    fn a_file_keeps_what_was_done_over_a_restart_and_a_line_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path).unwrap();
        assert_eq!(
            log.record(action("a"), Ok("ended 1".to_owned())).unwrap(),
            1
        );
        assert_eq!(
            log.record(action("b\n<"), Err("disk full".to_owned()))
                .unwrap(),
            2
        );
        drop(log);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(br#"{"number": 3, "at": "#);
        std::fs::write(&path, bytes).unwrap();

        let log = AuditLog::in_file(&path).unwrap();
        assert_eq!(log.record(action("c"), Ok(String::new())).unwrap(), 3);
        let log = AuditLog::in_file(&path).unwrap();
        let entries = log.entries();
        let subjects: Vec<_> = entries.iter().map(|it| &*it.subject).collect();
        assert_eq!(subjects, ["c", "b\n<", "a"]);
        let failed: Vec<_> = entries.iter().map(|it| it.failed).collect();
        assert_eq!(failed, [false, true, false]);
    }

    #[test]
    fn memory_keeps_the_last_thousand() {
        let log = AuditLog::in_memory();
        for _ in 0..KEPT + 5 {
            log.record(action("a"), Ok(String::new())).unwrap();
        }
        let entries = log.entries();
        assert_eq!((entries.len(), entries[0].number), (KEPT, KEPT as u64 + 5));
        assert_eq!(log.entry(6).unwrap().number, 6);
        assert_eq!(log.entry(5), None);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_the_next_line_is_whole() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            eprintln!("not tested: there is no /dev/full");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::in_file(&path).unwrap();
        log.record(action("a"), Ok(String::new())).unwrap();
        let file = {
            let mut file = log.inner.file.lock().unwrap();
            std::mem::replace(&mut file.as_mut().unwrap().target, Target::File(full))
        };
        log.record(action("b"), Ok(String::new())).unwrap_err();
        assert!(log.is_failing());
        log.inner.file.lock().unwrap().as_mut().unwrap().target = file;
        log.record(action("c"), Ok("茶".repeat(33_334))).unwrap();
        assert!(!log.is_failing());
        let entries = AuditLog::in_file(&path).unwrap().entries();
        let numbers: Vec<_> = entries.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [3, 1]);
        assert!(entries[0].outcome.ends_with("… (100002 bytes in all)"));
    }
}
