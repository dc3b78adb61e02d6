//! cloakroom through its public interface: values are serialized, conflicts looked for, records
//! checksummed.

use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{KEY, PACKAGES, first_value};
use anyhow::{Context, Result};
use cloakroom::{ClientId, Clock, Store};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct Cloakroom;

impl Peer for Cloakroom {
    fn name(&self) -> &'static str {
        "cloakroom"
    }

    fn about(&self) -> &'static str {
        "its public interface, serialization included; defaults"
    }

    fn counted(&self) -> &'static str {
        "Store::statistics"
    }

    fn make(&self, site: &Site) -> Result<()> {
        let store = open_store(site, &still_clock()?)?;
        let mut ids = BufWriter::new(File::create_new(ids_path(site))?);
        for first in (0..site.sessions).step_by(1000) {
            let txn = store.begin()?;
            for number in first..site.sessions.min(first + 1000) {
                let id = store.client_ids().issue();
                let session = txn.session(&id)?;
                for package in PACKAGES {
                    let value = first_value(number, package);
                    session.pkg(package).insert(KEY, value)?;
                }
                writeln!(ids, "{}", id.as_str())?;
            }
            txn.commit()?;
        }
        ids.flush()?;
        clients(site, &store)?;
        Ok(store.close()?)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let store = open_store(site, &still_clock()?)?;
        let clients = clients(site, &store)?;
        Ok(Box::new(Open { store, clients }))
    }
}

/// A clock that stands still, so that no access time is due unless it is moved.
pub(crate) fn still_clock() -> Result<Clock> {
    Ok(Clock::manual("2026-01-01T00:00:00Z".parse()?))
}

/// A store in which nothing happens by itself but its own upkeep.
pub(crate) fn open_store(site: &Site, clock: &Clock) -> Result<Store> {
    let builder = Store::builder().clock(clock.clone());
    Ok(builder.implicit_sweeps(false).open(path(site))?)
}

/// The store's file.
pub(crate) fn path(site: &Site) -> PathBuf {
    site.folder.join("sessions.redb")
}

/// The ids of the sessions that were looked at last, so that verifying them all does not count as opening.
static KNOWN: Mutex<Option<(PathBuf, Arc<[ClientId]>)>> = Mutex::new(None);

/// The ids of the sessions, as visitors bring them.
pub(crate) fn clients(site: &Site, store: &Store) -> Result<Arc<[ClientId]>> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = ids_path(site);
    if let Some((place, ids)) = &*known
        && *place == path
    {
        return Ok(ids.clone());
    }
    let text = std::fs::read_to_string(&path)?;
    let ids = text.lines().map(|line| store.client_ids().verify(line));
    let ids: Option<Arc<[ClientId]>> = ids.collect();
    let ids = ids.context("an id that the store does not know")?;
    *known = Some((path, ids.clone()));
    Ok(ids)
}

fn ids_path(site: &Site) -> PathBuf {
    site.folder.join("ids")
}

struct Open {
    store: Store,
    clients: Arc<[ClientId]>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        let [package, _] = PACKAGES;
        Ok(Box::new(move |session, value| {
            let client = self.clients.get(session).context("no such session")?;
            let txn = self.store.begin()?;
            txn.session(client)?.pkg(package).insert(KEY, value)?;
            Ok(txn.commit()?)
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(move |session, see| {
            let client = self.clients.get(session).context("no such session")?;
            let txn = self.store.begin()?;
            let session = txn.session(client)?;
            for package in PACKAGES {
                let value: Option<String> = session.pkg(package).get(KEY)?;
                see(value.context("no such value")?.as_bytes());
            }
            Ok(())
        }))
    }

    fn written(&self) -> Result<Option<u64>> {
        Ok(Some(self.store.statistics()?.bytes_written()))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        self.store.clone().close()?;
        self.written()
    }
}
