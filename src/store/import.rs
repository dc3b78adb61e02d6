//! Reads the JSON lines of an export into a store, in batches.

use super::Store;
use super::export_lines::{
    ContainerLine, EndLine, ExportLine, FORMAT, HeaderLine, SessionLine, VERSION,
};
use super::import_reader::{LineReader, invalid};
use super::session_batch::{ImportedSession, SessionBatch};
use crate::block_on::{block_on, wait};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::container::{ContainerSettings, register, register_alias};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::check_name;
use crate::storage::record::{AccessPart, SessionRow};
use crate::storage::{ContainerHome, ContainerRef, OnDuplicate, PackageChange};
use crate::transaction::{ContainerEntry, Env};
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// The result of [`Store::import`]: what is in the store now.
///
/// ```
/// use cloakroom::{OnDuplicate, Store};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let mut lines = Vec::new();
/// store.export(&mut lines)?;
///
/// let copy = Store::in_memory()?;
/// let imported = copy.import(&*lines, OnDuplicate::Fail)?;
/// assert_eq!((imported.sessions, imported.skipped), (1, 0));
/// assert_eq!(copy.entry_values(id.key(), "", "cart")?.len(), 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Containers whose settings were read.
    pub containers: u64,
    /// Sessions that were written, counted once per container.
    pub sessions: u64,
    /// Sessions that were there already and stayed as they were.
    pub skipped: u64,
    /// Sessions and packages that the export names as damaged. It does not have them.
    pub damaged: u64,
    /// All lines up to this number are imported. [`ImportSettings::after_line`] goes on after it.
    pub lines: u64,
    /// Whether everything was read. If not, `progress` has broken it off.
    pub is_complete: bool,
}

/// How an export is imported: [`Store::import_with`].
///
/// ```
/// use cloakroom::{ImportSettings, OnDuplicate, Store};
/// use std::ops::ControlFlow;
///
/// let store = Store::in_memory()?;
/// let mut lines = Vec::new();
/// store.export(&mut lines)?;
///
/// let settings = ImportSettings::new(OnDuplicate::Replace).after_line(2);
/// let imported = store.import_with(&*lines, settings, |imported| {
///     println!("{} lines", imported.lines);
///     ControlFlow::Continue(())
/// })?;
/// assert!(imported.is_complete);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSettings {
    on_duplicate: OnDuplicate,
    after_line: u64,
    max_line: usize,
}

/// A session of the default limits fits, unless it is filled to them.
const LONGEST_LINE: usize = 64 << 20;

impl ImportSettings {
    /// Imports everything.
    #[must_use]
    pub fn new(on_duplicate: OnDuplicate) -> Self {
        Self {
            on_duplicate,
            after_line: 0,
            max_line: LONGEST_LINE,
        }
    }

    /// How many bytes a line may have. A longer one is [`TooLarge`](ErrorKind::TooLarge). To read a line that somebody
    /// wrote for this purpose takes up to 30 times its length in memory, so an export that is not trusted asks for a
    /// low limit. Default: 64 MiB.
    #[must_use]
    pub fn max_line(self, bytes: usize) -> Self {
        Self {
            max_line: bytes,
            ..self
        }
    }

    /// Imports the lines after this one, because an earlier import ended there: [`Imported::lines`]. The earlier lines
    /// are read and checked, but not written.
    #[must_use]
    pub fn after_line(self, line: u64) -> Self {
        Self {
            after_line: line,
            ..self
        }
    }
}

impl Store {
    /// Reads what [`export`](Self::export) wrote, and puts the sessions into this store, with their keys, times,
    /// owners, labels and values. Blocks until that is durable.
    ///
    /// Sessions are written in batches, each in one commit: all of it or nothing. Containers are registered with their
    /// aliases. One that has sessions already keeps its settings, unless `on_duplicate` is
    /// [`Replace`](OnDuplicate::Replace). None moves: one that lives in memory here stays there, and the sessions of the
    /// export that belong in it are refused.
    ///
    /// The ids of the visitors go on working if this store has the secrets of the other one, given to both by
    /// [`StoreBuilder::secret`](crate::StoreBuilder::secret). An export holds no secrets. Without them, its sessions can
    /// be listed and ended here, but no visitor has an id that leads to one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a line that is wrong, that names a session of the store with
    /// [`OnDuplicate::Fail`], that has as a container's name what is an alias here or the other way round, or for a
    /// missing end, with the number of the line; nothing of its batch is written, and the earlier batches are. [`TooNew`](ErrorKind::TooNew) for an export of a newer format.
    /// [`TooLarge`](ErrorKind::TooLarge) if a session exceeds the limits of this store, or a line
    /// [`ImportSettings::max_line`]. [`Io`](ErrorKind::Io) if the
    /// reader fails. A failure of the storage.
    pub fn import(&self, reader: impl Read, on_duplicate: OnDuplicate) -> Result<Imported> {
        let settings = ImportSettings::new(on_duplicate);
        self.import_with(reader, settings, |_| ControlFlow::Continue(()))
    }

    /// [`import`](Self::import), which tells `progress` after each batch what was imported. [`Break`](ControlFlow::Break)
    /// ends it.
    ///
    /// # Errors
    ///
    /// As for [`import`](Self::import).
    pub fn import_with(
        &self,
        reader: impl Read,
        settings: ImportSettings,
        mut progress: impl FnMut(&Imported) -> ControlFlow<()>,
    ) -> Result<Imported> {
        let env = &self.inner.env;
        wait(env.refresh_settings())?;
        let mut import = Import {
            env,
            settings,
            lines: LineReader::new(reader, settings.max_line),
            batch: SessionBatch::default(),
            read: EndLine::default(),
            done: Imported::default(),
        };
        import.header()?;
        loop {
            let flow = import.line().map_err(|error| import.located(error))?;
            match flow {
                ImportFlow::Goes => {}
                ImportFlow::Committed => {
                    if progress(&import.done).is_break() {
                        return Ok(import.done);
                    }
                }
                ImportFlow::Ends => return Ok(import.done),
            }
        }
    }
}

enum ImportFlow {
    Goes,
    Committed,
    Ends,
}

struct Import<'a, R: Read> {
    env: &'a Env,
    settings: ImportSettings,
    lines: LineReader<R>,
    batch: SessionBatch,
    /// What the lines had so far.
    read: EndLine,
    done: Imported,
}

impl<R: Read> Import<'_, R> {
    /// An error with the number of its line.
    fn located(&self, error: Error) -> Error {
        let line = self.batch.line_of_error().unwrap_or(self.lines.number);
        let detail = format!(
            "line {line} of the export; the lines up to {} are imported",
            self.done.lines
        );
        Error::new(error.kind(), detail).with_source(error)
    }

    fn header(&mut self) -> Result<()> {
        let not_an_export = || invalid("this is no export of cloakroom");
        match self.lines.next() {
            Ok(Some(ExportLine::Header(HeaderLine {
                format, version, ..
            }))) if format == FORMAT => {
                if version > VERSION {
                    let why =
                        format!("the export has version {version}; this program reads {VERSION}");
                    return Err(Error::new(ErrorKind::TooNew, why));
                }
                self.done.lines = self.lines.number.max(self.settings.after_line);
                Ok(())
            }
            Ok(_) => Err(not_an_export()),
            Err(error) if error.kind() == ErrorKind::Io => Err(error),
            Err(error) => Err(not_an_export().with_source(error)),
        }
    }

    fn line(&mut self) -> Result<ImportFlow> {
        let Some(line) = self.lines.next()? else {
            return Err(invalid("the export is cut short: its end is missing"));
        };
        let is_wanted = self.lines.number > self.settings.after_line;
        match line {
            ExportLine::Header(_) => return Err(invalid("a second header")),
            ExportLine::Container(container) => {
                self.read.containers += 1;
                if is_wanted {
                    self.container(&container)?;
                }
            }
            ExportLine::Session(session) => {
                self.read.sessions += 1;
                self.read.packages += session.packages.len() as u64;
                if is_wanted {
                    let session = session.imported(self.env, self.lines.number)?;
                    self.batch.add(session, self.lines.len);
                }
            }
            ExportLine::Damaged(_) => {
                self.read.damaged += 1;
                self.done.damaged += 1;
            }
            ExportLine::End(end) => return self.end(end),
        }
        if !self.batch.is_full() {
            return Ok(ImportFlow::Goes);
        }
        self.commit()?;
        Ok(ImportFlow::Committed)
    }

    fn end(&mut self, end: EndLine) -> Result<ImportFlow> {
        if end != self.read {
            return Err(invalid(
                "lines are missing or too many: the end counts others",
            ));
        }
        let number = self.lines.number;
        if self.lines.next()?.is_some() {
            return Err(invalid("a line comes after the end"));
        }
        if self.settings.after_line > number {
            return Err(invalid(
                "the export ends before the line that it is to go on after",
            ));
        }
        self.commit()?;
        self.done.lines = number;
        self.done.is_complete = true;
        Ok(ImportFlow::Ends)
    }

    fn commit(&mut self) -> Result<()> {
        let (written, skipped) = self.batch.commit(self.env, self.settings.on_duplicate)?;
        self.done.sessions += written;
        self.done.skipped += skipped;
        self.done.lines = self.lines.number;
        Ok(())
    }

    fn container(&mut self, line: &ContainerLine) -> Result<()> {
        let known = self.env.registry.load().get(&line.name).cloned();
        self.done.containers += 1;
        if !self.keeps_settings(line, known.as_deref())? {
            let mut settings = line.settings();
            if let Some(known) = &known {
                settings.residence = ContainerSettings::of(known).residence;
            }
            block_on(register(self.env, &line.name, &settings))?;
        }
        let mut aliases = line.aliases.iter();
        aliases
            .try_for_each(|alias| block_on(register_alias(self.env, alias, &line.name)).map(drop))
    }

    /// Whether a container of the store stays as it is.
    fn keeps_settings(&self, line: &ContainerLine, known: Option<&ContainerEntry>) -> Result<bool> {
        let Some(known) = known else { return Ok(false) };
        check_own_name(known, &line.name)?;
        let snapshot = self.env.snapshot()?;
        let first = snapshot.sessions(known.id(), None, 1).wait()?;
        Ok(!first.is_empty() && self.settings.on_duplicate != OnDuplicate::Replace)
    }
}

impl ContainerLine {
    fn settings(&self) -> ContainerSettings {
        ContainerSettings::new()
            .timeout(Duration::from_millis(self.timeout_ms))
            .resolution(Duration::from_millis(self.resolution_ms))
            .max_lifetime(self.max_lifetime_ms.map(Duration::from_millis))
            .implicit_sweeps(self.implicit_sweeps)
    }
}

impl SessionLine {
    /// The session that the line with this number describes.
    fn imported(self, env: &Env, number: u64) -> Result<ImportedSession> {
        let limits = &env.rules.limits;
        let client: ClientKey = self.client.parse()?;
        let registry = env.registry.load();
        let container = registry
            .get(&self.container)
            .ok_or_else(|| invalid("the container of the session has no line"))?;
        check_own_name(container, &self.container)?;
        if container.id().home() != ContainerHome::Durable {
            return Err(invalid("here the container does not live in the file"));
        }
        let owner = self.owner.iter().map(|owner| ("the owner", owner));
        let label = self.label.iter().map(|label| ("the label", label));
        let packages = self.packages.keys().map(|name| ("the package id", name));
        let keys = self.packages.values().flat_map(BTreeMap::keys);
        let keys = keys.map(|key| ("the key", key));
        for (what, name) in owner.chain(label).chain(packages).chain(keys) {
            check_name(what, name, limits)?;
        }
        Ok(ImportedSession {
            row: Box::new(self.row()),
            packages: self.packages(&container.container_ref)?,
            container: container.clone(),
            client,
            number,
        })
    }

    fn row(&self) -> SessionRow {
        let mut row = SessionRow::imported(AccessPart {
            last_access: Timestamp(self.last_access_ms),
            created: Timestamp(self.created_ms),
            id_issued: Timestamp(self.id_issued_ms),
            is_id_confirmed: self.id_confirmed,
        });
        row.timeout = self.timeout_ms.map(Duration::from_millis);
        row.owner = self.owner.as_deref().map(Arc::from);
        if self.label.is_some() || self.authenticated_at_ms.is_some() || self.ends_at_ms.is_some() {
            row.optional.label = self.label.as_deref().map(Arc::from);
            row.optional.authenticated_at = self.authenticated_at_ms.map(Timestamp);
            row.optional.ends_at = self.ends_at_ms.map(Timestamp);
        }
        row
    }

    fn packages(&self, place: &ContainerRef) -> Result<Vec<PackageChange>> {
        let mut packages = Vec::with_capacity(self.packages.len());
        for (name, values) in &self.packages {
            let mut keys = Vec::with_capacity(values.len());
            for (key, value) in values {
                keys.push((key.as_str().into(), value.stored()?.into()));
            }
            packages.push(PackageChange::put(
                place.clone(),
                name.as_str().into(),
                keys,
            ));
        }
        Ok(packages)
    }
}

/// Refuses a container of an export whose name is an alias here: its sessions would be merged with those of another.
pub(super) fn check_own_name(container: &ContainerEntry, name: &str) -> Result<()> {
    match *container.container_ref.name == *name {
        true => Ok(()),
        false => Err(
            invalid("here the container's name is another name of a container").in_container(name),
        ),
    }
}
