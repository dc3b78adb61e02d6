//! Writes the sessions of a store as JSON lines.

use super::Store;
use super::export_lines::{
    ContainerLine, DamagedLine, EndLine, ExportLine, FORMAT, HeaderLine, SessionLine, VERSION,
};
use super::session_walk::{SessionWalk, StoredSession, WalkFrom};
use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerHome;
use crate::storage::record::{SessionRow, millis};
use crate::transaction::{ContainerEntry, Env};
use crate::value::Value;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The result of [`Store::export`]: what was written.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let mut lines = Vec::new();
/// let exported = store.export(&mut lines)?;
/// assert_eq!((exported.containers, exported.sessions), (1, 0));
/// assert!(exported.is_complete);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Containers whose settings were written.
    pub containers: u64,
    /// Sessions, counted once per container.
    pub sessions: u64,
    /// Packages of these sessions.
    pub packages: u64,
    /// Sessions and packages that are damaged. A line of the export names each. A part of the file that cannot be read
    /// counts once.
    pub damaged: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Whether everything was written. If not, `progress` has broken it off, and the last line is missing.
    pub is_complete: bool,
}

impl Store {
    /// Writes the settings of the store's containers and all their live sessions with their values as lines of JSON,
    /// which `docs/export-format.md` describes, and flushes the writer. All of it is the state of the newest commit; commits
    /// go on. Counts as no access. Blocks until it is done; memory holds a few sessions at a time. The state that it reads
    /// is kept until it ends, so the store's file grows by what is written meanwhile. `tracing` tells at level info
    /// that it was exported.
    ///
    /// The lines hold the visitors' data, and keys of clients, but no ids and no secrets. With the same secrets
    /// ([`StoreBuilder::secret`](crate::StoreBuilder::secret)) the visitors' ids find their sessions in the store that
    /// [imports](Self::import) them. Containers in memory and in cookies are left out.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the writer fails; [`SnapshotTooOld`](ErrorKind::SnapshotTooOld) if the store had to reopen
    /// its files meanwhile; a failure of the storage. Damaged sessions are no error:
    /// [`Exported::damaged`] counts them.
    pub fn export(&self, writer: impl Write) -> Result<Exported> {
        self.export_with(writer, |_| ControlFlow::Continue(()))
    }

    /// [`export`](Self::export), which tells `progress` every 64 sessions what was written.
    /// [`Break`](ControlFlow::Break) ends it: the end is missing then.
    ///
    /// # Errors
    ///
    /// As for [`export`](Self::export).
    pub fn export_with(
        &self,
        writer: impl Write,
        mut progress: impl FnMut(&Exported) -> ControlFlow<()>,
    ) -> Result<Exported> {
        let env = &self.inner.env;
        wait(env.refresh_settings())?;
        let registry = env.registry.load_full();
        let is_durable = |it: &&Arc<ContainerEntry>| it.id().home() == ContainerHome::Durable;
        let containers: Vec<_> = registry.containers().iter().filter(is_durable).collect();
        let mut export = Export {
            env,
            out: BufWriter::new(writer),
            now: env.clock.timestamp(),
            state: WalkFrom::now(env)?,
            done: Exported::default(),
        };
        export.begin(&containers)?;
        for container in containers {
            if export.container(container, &mut progress)?.is_break() {
                export.flush()?;
                let sessions = export.done.sessions;
                tracing::info!(sessions, "an export was broken off");
                return Ok(export.done);
            }
        }
        export.end()
    }
}

struct Export<'a, W: Write> {
    env: &'a Env,
    out: BufWriter<W>,
    now: Timestamp,
    state: WalkFrom,
    done: Exported,
}

impl<W: Write> Export<'_, W> {
    fn put(&mut self, line: &ExportLine) -> Result<()> {
        let text = line.text()?;
        self.done.bytes += text.len() as u64;
        self.out.write_all(text.as_bytes()).map_err(not_written)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(not_written)
    }

    fn begin(&mut self, containers: &[&Arc<ContainerEntry>]) -> Result<()> {
        self.put(&ExportLine::Header(HeaderLine {
            format: FORMAT.to_owned(),
            version: VERSION,
            written_ms: self.now.0,
        }))?;
        for container in containers {
            self.done.containers += 1;
            self.put(&ExportLine::Container(ContainerLine::of(container)))?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Exported> {
        self.put(&ExportLine::End(EndLine {
            containers: self.done.containers,
            sessions: self.done.sessions,
            packages: self.done.packages,
            damaged: self.done.damaged,
        }))?;
        self.flush()?;
        self.done.is_complete = true;
        let Exported {
            sessions, damaged, ..
        } = self.done;
        tracing::info!(
            sessions,
            damaged,
            "the sessions were exported, with their values"
        );
        Ok(self.done)
    }

    fn container(
        &mut self,
        container: &ContainerEntry,
        progress: &mut impl FnMut(&Exported) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let state = self.state.clone();
        let mut walk = SessionWalk::new(self.env, container, &state, self.now);
        while let Some(page) = walk
            .page(&mut |client, package, error| self.damaged(container, client, (package, error)))?
        {
            for (client, session) in page {
                self.session(container, client, &session)?;
            }
            if progress(&self.done).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn damaged(
        &mut self,
        container: &ContainerEntry,
        client: ClientKey,
        (package, error): (Option<&str>, Error),
    ) -> Result<()> {
        self.done.damaged += 1;
        self.put(&ExportLine::Damaged(DamagedLine {
            container: container.container_ref.name.to_string(),
            client: client.to_string(),
            package: package.map(str::to_owned),
            error: error.to_string(),
        }))
    }

    fn session(
        &mut self,
        container: &ContainerEntry,
        client: ClientKey,
        StoredSession { row, packages }: &StoredSession,
    ) -> Result<()> {
        // Under an id that was renewed there is no session of its own.
        if row.optional.moved.is_some() {
            return Ok(());
        }
        let mut line = SessionLine::of(container, client, row);
        for (package, values) in packages {
            let values = values.iter();
            let values = values.map(|(key, value)| (key.to_string(), Value::read(value)));
            line.packages.insert(package.to_string(), values.collect());
        }
        self.done.sessions += 1;
        self.done.packages += line.packages.len() as u64;
        self.put(&ExportLine::Session(line))
    }
}

fn not_written(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the export cannot be written").with_source(error)
}

impl ContainerLine {
    fn of(container: &ContainerEntry) -> Self {
        let policy = &container.policy;
        Self {
            name: container.container_ref.name.to_string(),
            timeout_ms: millis(policy.timeout),
            resolution_ms: millis(policy.resolution),
            max_lifetime_ms: policy.max_lifetime.map(millis),
            implicit_sweeps: container.implicit_sweeps,
            aliases: container.aliases.iter().map(|it| it.to_string()).collect(),
        }
    }
}

impl SessionLine {
    fn of(container: &ContainerEntry, client: ClientKey, row: &SessionRow) -> Self {
        let over = container.policy.over_at(&row.times());
        Self {
            container: container.container_ref.name.to_string(),
            client: client.to_string(),
            created_ms: row.access.created.0,
            last_access_ms: row.access.last_access.0,
            expires_ms: (over < Timestamp(i64::MAX)).then_some(over.0),
            id_issued_ms: row.access.id_issued.0,
            id_confirmed: row.access.is_id_confirmed,
            timeout_ms: row.timeout.map(millis),
            owner: row.owner.as_deref().map(str::to_owned),
            label: row.optional.label.as_deref().map(str::to_owned),
            authenticated_at_ms: row.optional.authenticated_at.map(|at| at.0),
            ends_at_ms: row.optional.ends_at.map(|at| at.0),
            packages: Default::default(),
        }
    }
}
