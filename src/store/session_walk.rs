//! Reads the live sessions of a container with their values, a few at a time.

use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::ExpiryPolicy;
use crate::storage::merge::lost_package;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{SessionPage, Snapshot};
use crate::transaction::{ContainerEntry, Env, ShownSession};
use bytes::Bytes;
use std::sync::Arc;

/// How many sessions are read at once, and about how many bytes: one session more may be read.
const READ: usize = 64;
const BYTES: usize = 4 << 20;

/// Which state is read.
#[derive(Clone)]
pub(super) enum WalkFrom {
    /// The newest one, for each page anew.
    Newest,
    /// That of one moment, which is kept as long as it is read.
    Lasting(Arc<dyn Snapshot>),
}

impl WalkFrom {
    /// The state of now.
    #[cfg(feature = "export")]
    pub(super) fn now(env: &Env) -> Result<Self> {
        env.process.check()?;
        Ok(Self::Lasting(env.storage.lasting_snapshot().wait()?))
    }

    /// The state of now, if the engine keeps it without keeping all that was read.
    pub(super) fn now_if_kept(env: &Env) -> Result<Self> {
        Ok(match env.storage.local() {
            Some(_) => Self::Lasting(env.storage.lasting_snapshot().wait()?),
            None => Self::Newest,
        })
    }

    fn snapshot(&self, env: &Env) -> Result<Arc<dyn Snapshot>> {
        match self {
            Self::Newest => env.snapshot(),
            Self::Lasting(snapshot) => Ok(snapshot.clone()),
        }
    }
}

/// A package, by its keys.
pub(super) type StoredPackage = (Arc<str>, Vec<(Arc<str>, Bytes)>);

/// A live session, or a row that leads from a renewed id to one. Without what differs between copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSession {
    /// With the newest times, and the packages that could be read.
    pub(super) row: SessionRow,
    pub(super) packages: Vec<StoredPackage>,
}

impl StoredSession {
    /// Lowers times that lie so far ahead that the store would lower them (C3.5).
    pub(super) fn lower(&mut self, policy: &ExpiryPolicy, now: Timestamp) {
        if policy.is_ahead(&self.row.times(), now) {
            let access = &mut self.row.access;
            for time in [
                &mut access.last_access,
                &mut access.created,
                &mut access.id_issued,
            ] {
                *time = (*time).min(now);
            }
        }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let packages = self.packages.iter().map(|(name, values)| {
            let values = values.iter().map(|(key, value)| key.len() + value.len());
            name.len() + values.sum::<usize>()
        });
        size_of::<Self>() + packages.sum::<usize>()
    }
}

/// Sessions in the order of their keys.
pub(super) type StoredPage = Vec<(ClientKey, StoredSession)>;

/// Is told of a damaged session, or of a package of one.
pub(super) type DamagedItem<'a> = dyn FnMut(ClientKey, Option<&str>, Error) -> Result<()> + 'a;

/// A reader of one container's sessions, in the order of their keys.
pub(super) struct SessionWalk<'a> {
    env: &'a Env,
    container: &'a ContainerEntry,
    from: &'a WalkFrom,
    /// What has expired by then is left out.
    now: Timestamp,
    after: Option<ClientKey>,
}

impl<'a> SessionWalk<'a> {
    pub(super) fn new(
        env: &'a Env,
        container: &'a ContainerEntry,
        from: &'a WalkFrom,
        now: Timestamp,
    ) -> Self {
        Self {
            env,
            container,
            from,
            now,
            after: None,
        }
    }

    /// The next sessions. `None` at the end.
    pub(super) fn page(&mut self, damaged: &mut DamagedItem<'_>) -> Result<Option<StoredPage>> {
        let (snapshot, rows) = loop {
            let snapshot = self.from.snapshot(self.env)?;
            let rows = snapshot.sessions(self.container.id(), self.after, READ);
            let mut rows = rows.wait()?;
            let clients: Vec<_> = rows.iter().map(|(client, _)| *client).collect();
            let Some(last) = clients.last() else {
                return Ok(None);
            };
            snapshot.load(&clients).wait()?;
            if let WalkFrom::Newest = self.from {
                // The packages are of the load, which may show a later moment.
                rows = self.loaded(&*snapshot, rows);
            }
            if !rows.is_empty() {
                break (snapshot, rows);
            }
            self.after = Some(*last);
        };
        let (sessions, last) = self.read(&*snapshot, rows, (BYTES, damaged))?;
        self.after = last.or(self.after);
        Ok(Some(sessions))
    }

    /// The same sessions as they were when their clients were loaded, those that were there. A damaged row stays.
    fn loaded(&self, snapshot: &dyn Snapshot, rows: SessionPage) -> SessionPage {
        let rows = rows.into_iter().filter_map(|(client, row)| {
            let row = match row {
                Ok(_) => snapshot.session(self.container.id(), client).transpose()?,
                damaged => damaged,
            };
            Some((client, row))
        });
        rows.collect()
    }

    /// The sessions of these clients, those that are there.
    pub(super) fn of(
        &self,
        clients: &[ClientKey],
        damaged: &mut DamagedItem<'_>,
    ) -> Result<StoredPage> {
        let snapshot = self.from.snapshot(self.env)?;
        snapshot.load(clients).wait()?;
        let mut rows = Vec::new();
        for client in clients {
            let row = snapshot.session(self.container.id(), *client);
            rows.extend(row.transpose().map(|row| (*client, row)));
        }
        let (sessions, _) = self.read(&*snapshot, rows, (usize::MAX, damaged))?;
        Ok(sessions)
    }

    /// Reads sessions until they take so many bytes. Returns the last key that was read, too.
    fn read(
        &self,
        snapshot: &dyn Snapshot,
        rows: SessionPage,
        (most, damaged): (usize, &mut DamagedItem<'_>),
    ) -> Result<(StoredPage, Option<ClientKey>)> {
        let readable = rows.iter().filter_map(|(client, row)| {
            Some(ShownSession {
                container: self.container,
                client: *client,
                row: row.as_ref().ok()?,
                keeping: None,
            })
        });
        let times = wait(self.env.times_of(&readable.collect::<Vec<_>>(), self.now));
        let mut times = times.into_iter();
        let mut sessions = Vec::with_capacity(rows.len());
        let (mut bytes, mut last) = (0, None);
        for (client, row) in rows {
            if bytes >= most {
                break;
            }
            last = Some(client);
            let mut row = match row {
                Ok(row) => row,
                Err(error) => {
                    damaged(client, None, only_damage(error)?)?;
                    continue;
                }
            };
            let times = times.next().unwrap_or_else(|| Ok(row.times()))?;
            if self.container.policy.is_expired(&times, self.now) {
                continue;
            }
            row.access.last_access = times.last_access;
            row.access.created = times.created;
            row.access.is_id_confirmed |= times.unconfirmed_since.is_none();
            let packages = self.packages(snapshot, (client, &row), damaged)?;
            row.packages = packages.iter().map(|(name, _)| name.clone()).collect();
            let row = row.without_history();
            let session = StoredSession { row, packages };
            bytes += session.bytes();
            sessions.push((client, session));
        }
        Ok((sessions, last))
    }

    fn packages(
        &self,
        snapshot: &dyn Snapshot,
        (client, row): (ClientKey, &SessionRow),
        damaged: &mut DamagedItem<'_>,
    ) -> Result<Vec<StoredPackage>> {
        let mut packages = Vec::with_capacity(row.packages.len());
        for name in row.packages.iter() {
            let read = snapshot.package(self.container.id(), client, name);
            match read.and_then(|read| read.ok_or_else(lost_package)) {
                Ok(values) => packages.push((name.clone(), values_of(&values))),
                Err(error) => damaged(client, Some(name), only_damage(error)?)?,
            }
        }
        Ok(packages)
    }
}

fn values_of(package: &PackageRow) -> Vec<(Arc<str>, Bytes)> {
    let values = package.iter();
    values.map(|(key, value)| (key.into(), value)).collect()
}

/// Damage is reported. Any other failure ends the walk.
fn only_damage(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Corrupt => Ok(error),
        _ => Err(error),
    }
}
