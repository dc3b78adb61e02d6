//! What commands ask of a store, wherever it is.

use crate::args::Duplicates;
use crate::failure::Outcome;
use crate::json::{
    CheckJson, EntryJson, ExportedJson, ImportedJson, ListedJson, MeasuresJson, SecretJson,
    SettingsJson,
};
use chrono::{DateTime, Utc};
use cloakroom::{Backup, ClientKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Told how much of a long work is done, and of how much, if that is known. Its answer may break the work off.
pub(crate) type Step<'a> = &'a mut (dyn FnMut(u64, Option<u64>) -> ControlFlow<()> + Send);

/// The sessions that are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) owner: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) idle_at_least: Option<Duration>,
    pub(crate) idle_at_most: Option<Duration>,
    pub(crate) age_at_least: Option<Duration>,
    pub(crate) age_at_most: Option<Duration>,
    pub(crate) bytes_at_least: Option<u64>,
    pub(crate) bytes_at_most: Option<u64>,
    /// The first digits of the key.
    pub(crate) key: Option<String>,
    /// Expired ones that are not removed yet, too.
    pub(crate) with_expired: bool,
}

/// Some sessions of a container.
pub(crate) struct Page {
    pub(crate) sessions: Vec<ListedJson>,
    pub(crate) examined: u64,
    /// Where the next page begins.
    pub(crate) next: Option<ClientKey>,
}

/// The settings that change.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingsChange {
    pub(crate) timeout: Option<Duration>,
    pub(crate) resolution: Option<Duration>,
    /// Zero: none.
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) implicit_sweeps: Option<bool>,
}

/// What is known without reading the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) file_bytes: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) unreadable_parts: u64,
}

/// What was ended, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) sessions: u64,
    /// The first damage.
    pub(crate) damage: Option<String>,
}

impl Ended {
    /// With what another call has ended.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            damage: self.damage.or(other.damage),
        }
    }
}

/// What a sweep has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Swept {
    pub(crate) removed: u64,
    pub(crate) unreadable: u64,
    /// Whether it went through the whole store.
    pub(crate) complete: bool,
}

/// What moves sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    Backup,
    Export,
    Import,
}

/// How an import treats what it reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImportHow {
    pub(crate) on_duplicate: Duplicates,
    pub(crate) after_line: u64,
    pub(crate) max_line: usize,
}

/// What an import reads, and how long that is, if it is known.
pub(crate) struct Source {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) bytes: Option<u64>,
}

/// A store, on this disk or elsewhere. Containers go by any of their names.
pub(crate) trait Backend {
    /// How people know it: by its path or its address.
    fn place(&self) -> String;

    /// The time of the store's clock.
    fn now(&self) -> Outcome<DateTime<Utc>>;

    /// The own names of all containers.
    fn containers(&self) -> Outcome<Vec<String>>;

    fn figures(&self) -> Outcome<Figures>;

    fn all_settings(&self) -> Outcome<Vec<SettingsJson>>;

    fn settings(&self, container: &str) -> Outcome<SettingsJson>;

    /// Returns the settings as they are then.
    fn configure(&self, container: &str, change: &SettingsChange) -> Outcome<SettingsJson>;

    /// At most so many sessions of a container. There may be more, if the page says where it goes on.
    fn sessions(
        &self,
        container: &str,
        filter: &Filter,
        after: Option<ClientKey>,
        limit: u64,
    ) -> Outcome<Page>;

    fn entry(&self, client: ClientKey) -> Outcome<Option<EntryJson>>;

    /// The values of a package, as exports write them. The asking is logged where there is a log.
    fn values(
        &self,
        client: ClientKey,
        container: &str,
        package: &str,
    ) -> Outcome<Vec<(String, Box<RawValue>)>>;

    /// How many sessions an owner has.
    fn count_of(&self, owner: &str) -> Outcome<u64>;

    fn end(&self, client: ClientKey) -> Outcome<Ended>;

    fn end_all_of(&self, owner: &str) -> Outcome<Ended>;

    fn end_all(&self) -> Outcome<Ended>;

    /// Counts and measures the sessions of each container.
    fn measure(&self, step: Step<'_>) -> Outcome<Vec<MeasuresJson>>;

    /// Removes expired sessions.
    fn sweep(&self, step: Step<'_>) -> Outcome<Swept>;

    /// Reads everything.
    fn check(&self, step: Step<'_>) -> Outcome<CheckJson>;

    /// What the steps of a backup, an export and an import count.
    fn unit(&self, of: Transfer) -> &'static str;

    /// Writes a verified backup into a new file: a whole one, or what changed since this chain of earlier ones.
    fn backup(&self, since: &[PathBuf], to: &Path, step: Step<'_>) -> Outcome<Backup>;

    /// Writes a whole backup. Returns the number of its sessions.
    fn backup_to(&self, writer: &mut (dyn Write + Send), step: Step<'_>) -> Outcome<u64>;

    /// Writes all sessions as lines. If the step breaks it off, the last line is missing.
    fn export(&self, writer: &mut dyn Write, step: Step<'_>) -> Outcome<ExportedJson>;

    fn import(&self, from: Source, how: ImportHow, step: Step<'_>) -> Outcome<ImportedJson>;

    /// The secrets that the store keeps, the oldest first.
    fn secrets(&self) -> Outcome<Vec<SecretJson>>;

    /// Makes a new secret. Returns its number.
    fn rotate_secret(&self) -> Outcome<u8>;

    fn retire_secret(&self, number: u8) -> Outcome<()>;
}
