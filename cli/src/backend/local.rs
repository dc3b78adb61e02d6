//! A store that this process opens: on this disk, or in a server.

use super::interface::{
    Backend, Ended, Figures, Filter, ImportHow, Page, SettingsChange, Source, Step, Swept, Transfer,
};
use crate::failure::{Failure, Outcome};
use crate::json::{
    CheckJson, DamageJson, EntryJson, ExportedJson, ImportedJson, ListedJson, MeasuresJson,
    PartJson, SecretJson, SettingsJson,
};
use crate::stoppable::is_broken_off;
use chrono::{DateTime, Utc};
use cloakroom::{
    Backup, BackupPhase, BackupProgress, ClientKey, ErrorKind, ImportSettings, Imported, Result,
    SessionFilter, Store,
};
use serde_json::value::{RawValue, to_raw_value};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) struct LocalStore {
    store: Store,
    place: String,
}

impl LocalStore {
    /// A store, and how people know it.
    pub(crate) fn new(store: Store, place: String) -> Self {
        Self { store, place }
    }

    pub(crate) fn close(self) -> Outcome<()> {
        Ok(self.store.close()?)
    }
}

impl Backend for LocalStore {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn now(&self) -> Outcome<DateTime<Utc>> {
        Ok(self.store.now())
    }

    fn containers(&self) -> Outcome<Vec<String>> {
        let containers = self.store.containers();
        Ok(containers.iter().map(|it| it.name().to_owned()).collect())
    }

    fn figures(&self) -> Outcome<Figures> {
        let statistics = self.store.statistics()?;
        Ok(Figures {
            file_bytes: statistics.file_len(),
            journal_bytes: statistics.journal_len(),
            unreadable_parts: statistics.unreadable_parts() as u64,
        })
    }

    fn all_settings(&self) -> Outcome<Vec<SettingsJson>> {
        let containers = self.store.containers();
        let settings = containers.iter().map(|container| {
            let names = container.names()?;
            Ok(SettingsJson::of(&names, &container.settings()?))
        });
        settings.collect()
    }

    fn settings(&self, container: &str) -> Outcome<SettingsJson> {
        let container = self.store.container(container)?;
        Ok(SettingsJson::of(
            &container.names()?,
            &container.settings()?,
        ))
    }

    fn configure(&self, container: &str, change: &SettingsChange) -> Outcome<SettingsJson> {
        let container = self.store.container(container)?;
        let mut settings = container.settings()?;
        if let Some(timeout) = change.timeout {
            settings = settings.timeout(timeout);
        }
        if let Some(resolution) = change.resolution {
            settings = settings.resolution(resolution);
        }
        if let Some(lifetime) = change.max_lifetime {
            settings = settings.max_lifetime(Some(lifetime).filter(|it| !it.is_zero()));
        }
        if let Some(sweeps) = change.implicit_sweeps {
            settings = settings.implicit_sweeps(sweeps);
        }
        container.configure(settings.clone())?;
        Ok(SettingsJson::of(&container.names()?, &settings))
    }

    fn sessions(
        &self,
        container: &str,
        filter: &Filter,
        after: Option<ClientKey>,
        limit: u64,
    ) -> Outcome<Page> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let list =
            (self.store.container(container)?).sessions(&session_filter(filter)?, after, most)?;
        let sessions = list.sessions.iter();
        Ok(Page {
            sessions: sessions.map(|it| ListedJson::of(container, it)).collect(),
            examined: list.examined as u64,
            next: list.next,
        })
    }

    fn entry(&self, client: ClientKey) -> Outcome<Option<EntryJson>> {
        let entry = self.store.entry(client)?;
        Ok(entry.map(|entry| EntryJson {
            client: entry.client.to_string(),
            renewed_as: entry.renewed_as.map(|client| client.to_string()),
            containers: entry.parts.iter().map(PartJson::of).collect(),
        }))
    }

    fn values(
        &self,
        client: ClientKey,
        container: &str,
        package: &str,
    ) -> Outcome<Vec<(String, Box<RawValue>)>> {
        let values = self.store.entry_values(client, container, package)?;
        let values = values.into_iter().map(|(name, value)| {
            let value = to_raw_value(&value).map_err(io::Error::from)?;
            Ok((name, value))
        });
        values.collect()
    }

    fn count_of(&self, owner: &str) -> Outcome<u64> {
        Ok(self.store.sessions_of(owner)?.len() as u64)
    }

    fn end(&self, client: ClientKey) -> Outcome<Ended> {
        ended(self.store.end(client))
    }

    fn end_all_of(&self, owner: &str) -> Outcome<Ended> {
        ended(self.store.end_all_of(owner))
    }

    fn end_all(&self) -> Outcome<Ended> {
        ended(self.store.end_all())
    }

    fn measure(&self, step: Step<'_>) -> Outcome<Vec<MeasuresJson>> {
        let mut measured = Vec::new();
        let mut before = 0;
        for container in self.store.containers() {
            let measures =
                container.measure(|so_far| step(before + so_far.live + so_far.expired, None))?;
            before += measures.live + measures.expired;
            if !measures.is_complete || step(before, None).is_break() {
                return Err(Failure::unmeasured());
            }
            measured.push(MeasuresJson::of(container.name(), &measures));
        }
        Ok(measured)
    }

    fn sweep(&self, step: Step<'_>) -> Outcome<Swept> {
        let (mut scanned, mut sum) = (0, Swept::default());
        for container in self.store.containers() {
            let swept = container.sweep_with(|so_far| step(scanned + so_far.scanned, None))?;
            scanned += swept.scanned;
            sum.removed += swept.removed;
            sum.unreadable += swept.unreadable;
            if !swept.is_complete {
                return Ok(sum);
            }
        }
        sum.complete = true;
        Ok(sum)
    }

    fn check(&self, step: Step<'_>) -> Outcome<CheckJson> {
        let check = (self.store).check_with(|so_far| step(so_far.rows, Some(so_far.of)))?;
        Ok(CheckJson {
            sessions: check.sessions,
            packages: check.packages,
            damaged_records: check.damaged,
            damaged_pages: check.damaged_pages,
            findings: check.findings.iter().map(DamageJson::of).collect(),
            bytes_in_use: check.bytes_in_use,
            file_bytes: self.store.statistics()?.file_len(),
            complete: check.is_complete,
        })
    }

    fn unit(&self, of: Transfer) -> &'static str {
        match of {
            Transfer::Backup => "sessions backed up",
            Transfer::Export => "sessions exported",
            Transfer::Import => "sessions imported",
        }
    }

    fn backup(&self, since: &[PathBuf], to: &Path, step: Step<'_>) -> Outcome<Backup> {
        let progress = |so_far: BackupProgress| step(position(so_far), None);
        let backup = match since.is_empty() {
            true => self.store.backup(to, progress)?,
            false => self.store.backup_since(since, to, progress)?,
        };
        Ok(backup)
    }

    fn backup_to(&self, writer: &mut (dyn Write + Send), step: Step<'_>) -> Outcome<u64> {
        let progress = |so_far: BackupProgress| step(position(so_far), None);
        Ok(self.store.backup_to(writer, progress)?.sessions)
    }

    fn export(&self, writer: &mut dyn Write, step: Step<'_>) -> Outcome<ExportedJson> {
        let exported = (self.store).export_with(writer, |so_far| step(so_far.sessions, None))?;
        match exported.is_complete {
            false => Err(Failure::unexported()),
            true => Ok(ExportedJson {
                containers: exported.containers,
                sessions: exported.sessions,
                packages: exported.packages,
                damaged: exported.damaged,
                bytes: exported.bytes,
            }),
        }
    }

    fn import(&self, from: Source, how: ImportHow, step: Step<'_>) -> Outcome<ImportedJson> {
        let settings = ImportSettings::new(how.on_duplicate.into());
        let settings = settings.after_line(how.after_line).max_line(how.max_line);
        let (mut sessions, mut lines) = (0, 0);
        let progress = |so_far: &Imported| {
            (sessions, lines) = (so_far.sessions, so_far.lines);
            step(so_far.sessions + so_far.skipped, None)
        };
        let imported = self.store.import_with(from.reader, settings, progress);
        let imported = imported.map_err(|error| match error.kind() {
            _ if error.io_error().is_some_and(is_broken_off) => {
                Failure::partly_imported(sessions, lines)
            }
            ErrorKind::InvalidInput => Failure::not_imported(error.to_string()),
            _ => error.into(),
        })?;
        match imported.is_complete {
            false => Err(Failure::partly_imported(imported.sessions, imported.lines)),
            true => Ok(ImportedJson {
                containers: imported.containers,
                sessions: imported.sessions,
                skipped: imported.skipped,
                damaged: imported.damaged,
            }),
        }
    }

    fn secrets(&self) -> Outcome<Vec<SecretJson>> {
        let secrets = self.store.secrets()?.into_iter();
        let secrets = secrets.map(|secret| SecretJson {
            number: secret.name,
            is_issuing: secret.is_issuing,
            created: secret.created,
        });
        Ok(secrets.collect())
    }

    fn rotate_secret(&self) -> Outcome<u8> {
        Ok(self.store.rotate_secret()?)
    }

    fn retire_secret(&self, number: u8) -> Outcome<()> {
        Ok(self.store.retire_secret(number)?)
    }
}

/// How far a backup is: sessions, or bytes while it is verified.
fn position(so_far: BackupProgress) -> u64 {
    match so_far.phase {
        BackupPhase::Verifying => so_far.bytes,
        _ => so_far.sessions,
    }
}

/// What a call has ended. Damage ends no command: what is sound has ended.
fn ended(ended: Result<u64>) -> Outcome<Ended> {
    match ended {
        Ok(sessions) => Ok(Ended {
            sessions,
            damage: None,
        }),
        Err(error) => match (error.kind(), error.sessions_ended()) {
            (ErrorKind::Corrupt, Some(sessions)) => Ok(Ended {
                sessions,
                damage: Some(error.to_string()),
            }),
            _ => Err(error.into()),
        },
    }
}

fn session_filter(wanted: &Filter) -> Outcome<SessionFilter> {
    let mut filter = match &wanted.key {
        Some(digits) => SessionFilter::new().key_prefix(digits)?,
        None => SessionFilter::new(),
    };
    if let Some(owner) = &wanted.owner {
        filter = filter.owner(owner);
    }
    if let Some(label) = &wanted.label {
        filter = filter.label(label);
    }
    if let Some(idle) = wanted.idle_at_least {
        filter = filter.idle_at_least(idle);
    }
    if let Some(idle) = wanted.idle_at_most {
        filter = filter.idle_at_most(idle);
    }
    if let Some(age) = wanted.age_at_least {
        filter = filter.age_at_least(age);
    }
    if let Some(age) = wanted.age_at_most {
        filter = filter.age_at_most(age);
    }
    if let Some(size) = wanted.bytes_at_least {
        filter = filter.bytes_at_least(size);
    }
    if let Some(size) = wanted.bytes_at_most {
        filter = filter.bytes_at_most(size);
    }
    Ok(match wanted.with_expired {
        true => filter.with_expired(),
        false => filter,
    })
}
