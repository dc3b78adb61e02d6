//! What was done on the pages, and by whom (C9.3).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How many entries are kept in memory and shown.
const KEPT: usize = 1000;
/// A longer line of a file is none of ours.
const MAX_LINE: usize = 64 * 1024;

/// One action of an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Counts from 1, without gaps.
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
    inner: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    kept: VecDeque<AuditEntry>,
    file: Option<File>,
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
    /// # Errors
    ///
    /// Those of opening and reading the file.
    pub fn in_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let mut entries = Entries::default();
        let mut reader = BufReader::new(&file);
        let (mut line, mut is_ended) = (Vec::new(), true);
        while reader.read_until(b'\n', &mut line)? > 0 {
            is_ended = line.ends_with(b"\n");
            if line.len() <= MAX_LINE
                && let Ok(entry) = serde_json::from_slice(&line)
            {
                entries.keep(entry);
            }
            line.clear();
        }
        if !is_ended {
            // The process died within a line.
            file.write_all(b"\n")?;
        }
        entries.file = Some(file);
        Ok(Self {
            inner: Arc::new(Mutex::new(entries)),
        })
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

    /// Records an action with its outcome, and returns the number of the entry. Waits for the disk.
    pub(crate) fn record(&self, action: Action, outcome: Result<String, String>) -> u64 {
        let failed = outcome.is_err();
        let (Ok(outcome) | Err(outcome)) = outcome;
        let Action {
            who,
            action,
            subject,
        } = action;
        tracing::info!(target: "cloakroom_admin::audit", who, action, subject, outcome, failed, "administration");
        let mut entries = self.lock();
        let number = entries.last + 1;
        let entry = AuditEntry {
            number,
            at: Utc::now(),
            who,
            action: action.to_owned(),
            subject,
            outcome,
            failed,
        };
        if let Err(error) = entries.write(&entry) {
            tracing::error!(%error, number, "an entry of the audit log was not written to its file");
        }
        entries.keep(entry);
        number
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn write(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }

    fn keep(&mut self, entry: AuditEntry) {
        self.last = self.last.max(entry.number);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry);
    }
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
        assert_eq!(log.record(action("a"), Ok("ended 1".to_owned())), 1);
        assert_eq!(log.record(action("b\n<"), Err("disk full".to_owned())), 2);
        drop(log);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(br#"{"number": 3, "at": "#);
        std::fs::write(&path, bytes).unwrap();

        let log = AuditLog::in_file(&path).unwrap();
        assert_eq!(log.record(action("c"), Ok(String::new())), 3);
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
            log.record(action("a"), Ok(String::new()));
        }
        let entries = log.entries();
        assert_eq!((entries.len(), entries[0].number), (KEPT, KEPT as u64 + 5));
        assert_eq!(log.entry(6).unwrap().number, 6);
        assert_eq!(log.entry(5), None);
    }
}
