//! The store of a running application, through its administration.

use super::address::{Address, Way};
use super::client::{Answered, Client, Patience, Size, Trouble};
use super::interface::{
    Backend, Ended, Figures, Filter, ImportHow, Page, SettingsChange, Source, Step, Swept, Transfer,
};
use super::token;
use super::transfer::{End, Lines, receive, send};
use super::wire::{
    ChangeWire, ContainersWire, EndedWire, EntryWire, ExportEndWire, FiguresWire, FormWire,
    MeasuredWire, NumberWire, SecretsWire, SessionsWire, StatusWire, TaskWire, VersionWire,
};
use crate::args::Duplicates;
use crate::failure::{Failure, Outcome};
use crate::json::{
    CheckJson, EntryJson, ExportedJson, ImportedJson, MeasuresJson, SecretJson, SettingsJson,
};
use crate::output::error_line;
use crate::text::plain;
use chrono::{DateTime, Utc};
use cloakroom::{Backup, BackupMark, BackupProgress, ClientKey, ErrorKind};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::NamedTempFile;
use ureq::http::StatusCode;

/// The version of the JSON that this program reads.
const SCHEMA: u32 = 1;
/// The most sessions that one request asks for.
const MOST: u64 = 500;
/// The time between two looks at a task.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The kind of errors of which a part may be done.
const KIND_CORRUPT: &str = "Corrupt";

pub(crate) struct RemoteStore {
    client: Client,
    address: String,
}

impl RemoteStore {
    /// Asks whether there is an administration that this program can work with.
    pub(crate) fn reach(at: &str, token_file: Option<&Path>, patience: Patience) -> Outcome<Self> {
        let address = Address::read(at)?;
        let authorization = token::authorization(token_file)?;
        if address.way == Way::Open && authorization.is_some() {
            error_line(&format!(
                "warning: the token goes to {} without encryption: anybody on the way can read it. Use https://",
                plain(&address.text)
            ))?;
        }
        let store = Self {
            client: Client::new(&address, authorization, patience),
            address: address.text,
        };
        store.status()?;
        Ok(store)
    }

    fn status(&self) -> Outcome<StatusWire> {
        let status: serde_json::Value = self.client.get("/status", &[])?;
        // A later version may have renamed the other members.
        let version = VersionWire::deserialize(&status);
        let version = version.map_err(|_| self.client.no_administration())?;
        if version.program != "cloakroom-admin" {
            return Err(self.client.no_administration());
        }
        if version.schema != SCHEMA {
            let (theirs, version) = (version.schema, plain(&version.version));
            let what = format!(
                "the administration at {} speaks version {theirs} of its JSON, and this program version {SCHEMA}",
                self.address
            );
            let advice =
                format!("Use the program cloakroom of the version of the application: {version}.");
            return Err(Failure::unusable("other-version", what, &advice));
        }
        StatusWire::deserialize(&status).map_err(|_| self.client.no_administration())
    }

    /// The figures of the running application, and the time of its clock.
    pub(crate) fn live(&self) -> Outcome<(DateTime<Utc>, FiguresWire)> {
        let status = self.status()?;
        Ok((status.now, status.figures))
    }

    /// A member that the version has.
    fn given<T>(&self, member: Option<T>) -> Outcome<T> {
        member.ok_or_else(|| self.client.no_administration())
    }

    fn ended(&self, answer: Answered<ChangeWire<EndedWire>>) -> Outcome<Ended> {
        match answer {
            Ok(change) => Ok(Ended {
                sessions: self.given(change.result)?.ended,
                damage: None,
            }),
            Err(Trouble::Refused(status, refusal)) => match refusal.sessions_ended {
                Some(sessions) if refusal.kind.as_deref() == Some(KIND_CORRUPT) => Ok(Ended {
                    sessions,
                    damage: Some(refusal.text.unwrap_or_default()),
                }),
                _ => Err(refusal.failure(status)),
            },
            Err(Trouble::Failure(failure)) => Err(failure),
        }
    }

    /// Begins work of the maintenance page, and follows it to its end. Asks it to stop when the step says so.
    fn work<T: DeserializeOwned>(&self, path: &str, step: Step<'_>) -> Outcome<T> {
        let mut task: TaskWire =
            (self.client).post(&format!("/maintenance/{path}"), &[], Size::Usual)?;
        let address = format!("/maintenance/tasks/{}", task.number);
        let mut pause = FIRST_PAUSE;
        let mut is_asked = false;
        while task.ended.is_none() {
            let is_to_stop = step(task.done, task.of).is_break();
            if is_to_stop && !is_asked {
                is_asked = true;
                let _: TaskWire = self
                    .client
                    .post(&format!("{address}/stop"), &[], Size::Usual)?;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            task = self.client.get(&address, &[])?;
        }
        if let Some(result) = task.result {
            let result = T::deserialize(result);
            return result.map_err(|_| self.client.no_administration());
        }
        let outcome = task.outcome.unwrap_or_default();
        if task.stopped && task.failed {
            let what = format!("{} at {} was stopped: {outcome}", task.label, self.address);
            let advice = "What was done stays done. Run the command again to do the rest.";
            return Err(Failure::interrupted(what, advice));
        }
        let what = format!("{} at {} has failed: {outcome}", task.label, self.address);
        let advice = "The log of the application has more. Try again.";
        Err(Failure::unusable("task", what, advice))
    }

    /// A whole backup in a file without a name, verified and on the disk.
    fn fetch_backup(
        &self,
        folder: &Path,
        since: Option<&BackupMark>,
        step: Step<'_>,
    ) -> Outcome<(NamedTempFile, Backup)> {
        let failed = |error: io::Error| {
            Failure::file(format!("{} cannot be written to", folder.display()), &error)
        };
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        let form = since.map(|since| ("since", hex(since.as_bytes())));
        let request = ("/maintenance/backup", form.into_iter().collect());
        let end = receive(&self.client, request, &mut file, &mut *step)?;
        if end == End::BrokenOff {
            let what = "the backup was broken off".to_owned();
            return Err(Failure::of_kind("Interrupted", what));
        }
        file.as_file().sync_all().map_err(failed)?;
        let backup = Backup::verify_with(file.path(), |so_far| step(so_far.bytes, None));
        let backup = backup.map_err(|error| match error.kind() {
            // A download can end as if it were whole.
            ErrorKind::Corrupt | ErrorKind::NotAStore => {
                self.client.cut_short(&io::Error::other(error.to_string()))
            }
            _ => error.into(),
        })?;
        Ok((file, backup))
    }

    fn key(&self, text: Option<String>) -> Outcome<Option<ClientKey>> {
        let key = text.map(|text| text.parse());
        key.transpose().map_err(|_| self.client.no_administration())
    }
}

impl Backend for RemoteStore {
    fn place(&self) -> String {
        self.address.clone()
    }

    fn now(&self) -> Outcome<DateTime<Utc>> {
        Ok(self.status()?.now)
    }

    fn containers(&self) -> Outcome<Vec<String>> {
        Ok(self.status()?.containers)
    }

    fn figures(&self) -> Outcome<Figures> {
        let figures = self.status()?.figures;
        Ok(Figures {
            file_bytes: figures.file_bytes,
            journal_bytes: figures.journal_bytes,
            unreadable_parts: figures.unreadable_parts,
        })
    }

    fn all_settings(&self) -> Outcome<Vec<SettingsJson>> {
        let list: ContainersWire = self.client.get("/containers", &[])?;
        Ok(list.containers.into_iter().map(Into::into).collect())
    }

    fn settings(&self, container: &str) -> Outcome<SettingsJson> {
        let query = [("name", container.to_owned())];
        let form: FormWire = self.client.get("/containers/edit", &query)?;
        Ok(form.container.into())
    }

    fn configure(&self, container: &str, change: &SettingsChange) -> Outcome<SettingsJson> {
        let mut form = vec![("name", container.to_owned())];
        form.extend(change.timeout.map(|it| ("timeout", written(it))));
        form.extend(change.resolution.map(|it| ("resolution", written(it))));
        form.extend(change.max_lifetime.map(|it| match it.is_zero() {
            true => ("max_lifetime", String::new()),
            false => ("max_lifetime", written(it)),
        }));
        form.extend(
            change
                .implicit_sweeps
                .map(|it| ("implicit_sweeps", it.to_string())),
        );
        let _: serde_json::Value = self.client.post("/containers/edit", &form, Size::Usual)?;
        self.settings(container)
    }

    fn sessions(
        &self,
        container: &str,
        filter: &Filter,
        after: Option<ClientKey>,
        limit: u64,
    ) -> Outcome<Page> {
        let mut query = vec![("container", container.to_owned())];
        let mut add = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
        add("key", filter.key.clone());
        add("owner", filter.owner.clone());
        add("label", filter.label.clone());
        add("idle_at_least", filter.idle_at_least.map(written));
        add("idle_at_most", filter.idle_at_most.map(written));
        add("age_at_least", filter.age_at_least.map(written));
        add("age_at_most", filter.age_at_most.map(written));
        add(
            "bytes_at_least",
            filter.bytes_at_least.map(|it| it.to_string()),
        );
        add(
            "bytes_at_most",
            filter.bytes_at_most.map(|it| it.to_string()),
        );
        add("expired", filter.with_expired.then(|| "yes".to_owned()));
        add("limit", Some(limit.min(MOST).to_string()));
        add("after", after.map(|it| it.to_string()));
        let list: SessionsWire = self.client.get("/sessions", &query)?;
        let sessions = list.sessions.into_iter();
        Ok(Page {
            sessions: sessions.map(|it| it.listed(container)).collect(),
            examined: list.examined,
            next: self.key(list.next)?,
        })
    }

    fn entry(&self, client: ClientKey) -> Outcome<Option<EntryJson>> {
        match self
            .client
            .get::<EntryWire>(&format!("/sessions/{client}"), &[])
        {
            Ok(entry) => Ok(Some(entry.into())),
            Err(Trouble::Refused(StatusCode::NOT_FOUND, _)) => Ok(None),
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn values(
        &self,
        client: ClientKey,
        container: &str,
        package: &str,
    ) -> Outcome<Vec<(String, Box<RawValue>)>> {
        let form = [
            ("container", container.to_owned()),
            ("package", package.to_owned()),
        ];
        let path = format!("/sessions/{client}/values");
        let entry: EntryWire = self.client.post(&path, &form, Size::Values)?;
        let part = entry
            .parts
            .into_iter()
            .find(|part| part.container == container);
        let packages = self.given(part)?.packages;
        let package = packages.into_iter().find(|it| it.name == package);
        let keys = self.given(package)?.keys.into_iter();
        let values = keys.map(|key| Ok((key.name, self.given(key.value)?)));
        values.collect()
    }

    fn count_of(&self, owner: &str) -> Outcome<u64> {
        let (mut count, mut after) = (0, None);
        loop {
            let mut query = vec![("owner", owner.to_owned())];
            query.extend(after.map(|after: ClientKey| ("after", after.to_string())));
            let list: SessionsWire = self.client.get("/owners", &query)?;
            count += list.sessions.len() as u64;
            after = self.key(list.next)?;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    fn end(&self, client: ClientKey) -> Outcome<Ended> {
        self.ended(
            self.client
                .post(&format!("/sessions/{client}/end"), &[], Size::Usual),
        )
    }

    fn end_all_of(&self, owner: &str) -> Outcome<Ended> {
        let form = [("owner", owner.to_owned())];
        self.ended(self.client.post("/owners/end", &form, Size::Usual))
    }

    fn end_all(&self) -> Outcome<Ended> {
        let ended: EndedWire = self.work("end-all", &mut |_, _| ControlFlow::Continue(()))?;
        Ok(Ended {
            sessions: ended.ended,
            damage: ended.damage,
        })
    }

    fn measure(&self, step: Step<'_>) -> Outcome<Vec<MeasuresJson>> {
        let measured: MeasuredWire = self.work("measure", step)?;
        Ok(measured.containers)
    }

    fn sweep(&self, step: Step<'_>) -> Outcome<Swept> {
        self.work("sweep", step)
    }

    fn check(&self, step: Step<'_>) -> Outcome<CheckJson> {
        self.work("check", step)
    }

    fn unit(&self, of: Transfer) -> &'static str {
        match of {
            Transfer::Backup | Transfer::Export => "bytes received",
            Transfer::Import => "bytes sent",
        }
    }

    fn backup(&self, since: &[PathBuf], to: &Path, step: Step<'_>) -> Outcome<Backup> {
        let mark = since.last().map(BackupMark::of).transpose()?;
        if let Some(mark) = &mark
            && self
                .status()?
                .identity
                .is_some_and(|store| store != mark.store)
        {
            let what = "the backup that --since names is of another store";
            let advice = "Name a backup of this store, or leave --since out for a whole one.";
            return Err(Failure::usage(what, advice));
        }
        let failed =
            |error: io::Error| Failure::file(format!("{} cannot be written", to.display()), &error);
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let (file, backup) = self.fetch_backup(folder, mark.as_ref(), &mut *step)?;
        match (&mark, &backup.previous) {
            // It does not remember what changed since. What was fetched is compared with the chain here.
            (Some(_), None) => {
                let told = |so_far: BackupProgress| step(so_far.bytes, None);
                return Ok(Backup::make_incremental(since, file.path(), to, told)?);
            }
            (Some(mark), Some(previous)) if previous.id == mark.id => {}
            (None, None) => {}
            _ => return Err(self.client.no_administration()),
        }
        file.persist_noclobber(to)
            .map_err(|error| failed(error.error))?;
        // So that its name is on the disk, too.
        if let Ok(folder) = File::open(folder) {
            folder.sync_all().map_err(failed)?;
        }
        Ok(backup)
    }

    fn backup_to(&self, writer: &mut (dyn Write + Send), step: Step<'_>) -> Outcome<u64> {
        let (file, backup) = self.fetch_backup(&env::temp_dir(), None, step)?;
        io::copy(&mut file.reopen()?, writer)?;
        writer.flush()?;
        Ok(backup.sessions)
    }

    fn export(&self, writer: &mut dyn Write, step: Step<'_>) -> Outcome<ExportedJson> {
        let mut lines = Lines::new(writer);
        if receive(
            &self.client,
            ("/maintenance/export", Vec::new()),
            &mut lines,
            step,
        )? == End::BrokenOff
        {
            return Err(Failure::unexported());
        }
        let end = lines.last().map(serde_json::from_slice::<ExportEndWire>);
        match end {
            Some(Ok(ExportEndWire { end })) => Ok(ExportedJson {
                containers: end.containers,
                sessions: end.sessions,
                packages: end.packages,
                damaged: end.damaged,
                bytes: lines.bytes,
            }),
            _ => {
                let missing = io::Error::other("the last line is missing");
                Err(self.client.cut_short(&missing))
            }
        }
    }

    fn import(&self, from: Source, how: ImportHow, step: Step<'_>) -> Outcome<ImportedJson> {
        let on_duplicate = match how.on_duplicate {
            Duplicates::Skip => "skip",
            Duplicates::Replace => "replace",
            Duplicates::Fail => "fail",
        };
        let query = vec![
            ("on_duplicate", on_duplicate.to_owned()),
            ("after_line", how.after_line.to_string()),
            ("max_line", how.max_line.to_string()),
        ];
        let request = ("/maintenance/import", query);
        let (answer, end) = send(&self.client, request, from.reader, from.bytes, step)?;
        match (answer, end) {
            (Ok(imported), _) => self.given(imported.result),
            (Err(Trouble::Refused(_, refusal)), End::BrokenOff) if refusal.imported.is_some() => {
                let done = self.given(refusal.imported)?;
                Err(Failure::partly_imported(done.sessions, done.lines))
            }
            (Err(Trouble::Refused(_, refusal)), _) if refusal.is_invalid() => {
                Err(Failure::not_imported(refusal.text.unwrap_or_default()))
            }
            (Err(trouble), _) => Err(trouble.into()),
        }
    }

    fn secrets(&self) -> Outcome<Vec<SecretJson>> {
        let list: SecretsWire = self.client.get("/maintenance/secrets", &[])?;
        Ok(list.secrets)
    }

    fn rotate_secret(&self) -> Outcome<u8> {
        let new: NumberWire = self.work("rotate-secret", &mut |_, _| ControlFlow::Continue(()))?;
        Ok(new.number)
    }

    fn retire_secret(&self, number: u8) -> Outcome<()> {
        let form = [
            ("number", number.to_string()),
            ("confirm", "yes".to_owned()),
        ];
        let _: serde_json::Value =
            self.client
                .post("/maintenance/secrets/retire", &form, Size::Usual)?;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A duration as the forms of the administration read it.
fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
