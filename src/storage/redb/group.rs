//! One write transaction over both databases of a store: a group of commits, or a change to the
//! store itself.

use super::bugs::Bugs;
use super::failure::{self, Contained, Moment, Writing};
use super::open::{begin_durable, plain};
use super::queue::CommitJob;
use super::tables::{CONTAINERS, META, RETIRED, Writer, Writers};
use super::touches::Pending;
use super::unsettled::{Before, Half, Unsettled};
use super::{Shared, Tally};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::{Refusal, resolve};
use crate::storage::quota::Quota;
use crate::storage::record::{ContainerRecord, Kind, seal_plain};
use crate::storage::{ContainerId, Outcome, SecretRecord, Settings};
use redb::Database;
use std::sync::atomic::Ordering;

/// How many rows of ended containers and old tombstones go in one step.
const RECLAIMED: usize = 1000;

/// The file, and the containers in memory.
pub(super) struct Databases {
    pub(super) file: Database,
    pub(super) memory: Database,
    pub(super) opened: Moment,
}

pub(super) struct Group<'a> {
    pub(super) databases: &'a mut Databases,
    pub(super) shared: &'a Shared,
    pub(super) retired: &'a mut Vec<ContainerId>,
    pub(super) number: u64,
    pub(super) unsettled: &'a mut Unsettled,
    /// How many sessions may be founded, where that is limited.
    pub(super) quota: Option<&'a mut Quota>,
}

/// Which databases a group changed, and the touches that it took along.
pub(super) struct Written {
    pub(super) file: bool,
    pub(super) memory: bool,
    pub(super) touches: Vec<Pending>,
    pub(super) touched: u64,
}

impl Group<'_> {
    /// Validates and applies each job, then commits what is left of them once. Each job is computed
    /// in full before its first write, so that one which fails leaves no trace in the others. The
    /// jobs come back with their outcomes, also when the commit fails.
    pub(super) fn commit(
        &mut self,
        jobs: Vec<CommitJob>,
        flush: bool,
        answers: &mut Vec<(CommitJob, Outcome)>,
    ) -> Result<Written> {
        self.shared.io.begin_commit();
        // Whoever is not reached when storage fails is told so, like the others.
        answers.extend(jobs.into_iter().map(|job| (job, Outcome::Committed)));
        let bugs = self.shared.bugs;
        let file_txn = bugs.begin(&self.databases.file)?;
        let memory_txn = self
            .databases
            .memory
            .begin_write()
            .map(Contained::new)
            .map_err(failure::transaction)?;
        let written = {
            let mut writers = Writers {
                file: Writer::open(&file_txn)?,
                memory: Writer::open(&memory_txn)?,
                touches: &self.shared.touches,
                registry: self.shared.registry.load(Ordering::Acquire),
            };
            let mut half = Half {
                number: self.number,
                writes: Vec::new(),
            };
            for (job, outcome) in answers.iter_mut() {
                let may_found = |founded| self.may_found(founded);
                *outcome = apply(&mut writers, job, &mut half, may_found, bugs)?;
            }
            if writers.file.dirty && !half.writes.is_empty() {
                half.mark(&file_txn)?;
                self.unsettled.half = Some(half);
            }
            let touches = if flush || writers.file.dirty {
                self.shared.touches.list()
            } else {
                Vec::new()
            };
            let (memory, file): (Vec<_>, Vec<_>) =
                touches.iter().partition(|t| t.container.is_in_memory());
            let touched = writers.file.touch(&file)? + writers.memory.touch(&memory)?;
            Written {
                file: writers.file.dirty,
                memory: writers.memory.dirty,
                touches,
                touched,
            }
        };
        self.seal(file_txn, memory_txn, &written)?;
        self.unsettled.half = None;
        Ok(written)
    }

    /// Counts sessions that are founded, if they may be.
    fn may_found(&mut self, founded: u64) -> bool {
        let Some(quota) = self.quota.as_mut().filter(|_| founded > 0) else {
            return true;
        };
        let may = quota.take(founded, self.shared.clock.timestamp());
        if !may {
            Tally::add(&self.shared.counters.refused, 1);
        }
        may
    }

    /// Makes the file durable, then changes memory, which cannot fail (C1.7).
    fn seal(&self, file: Writing, memory: Writing, written: &Written) -> Result<()> {
        if written.file {
            let bugs = self.shared.bugs;
            bugs.commit(file, &self.databases.file, self.shared)?;
        } else {
            file.abort().map_err(failure::storage)?;
        }
        if written.memory {
            memory.commit().map_err(failure::commit)
        } else {
            memory.abort().map_err(failure::storage)
        }
    }

    /// Changes a container or the secrets.
    pub(super) fn configure(&mut self, settings: &Settings) -> Result<()> {
        self.shared.io.begin_commit();
        let txn = begin_durable(&self.databases.file)?;
        let mut counts = true;
        match settings {
            Settings::PutContainer(record) => {
                let row = put_container(&txn, record)?;
                counts = row.is_none();
                self.unsettled.before = Some(Before {
                    name: record.name.clone(),
                    row,
                    id: ContainerId(record.id),
                });
            }
            Settings::RemoveContainer(name) => {
                self.unsettled.before = Some(remove_container(&txn, name)?);
            }
            Settings::PutSecrets(secrets) => {
                put_secrets(&txn, secrets)?;
                counts = false;
            }
        }
        txn.commit().map_err(failure::commit)?;
        let before = self.unsettled.before.take();
        if let (Settings::RemoveContainer(_), Some(before)) = (settings, before) {
            self.retired.push(before.id);
        }
        if counts {
            self.shared.registry.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Removes some of what unregistered containers and old tombstones left.
    pub(super) fn reclaim(&mut self, now: Timestamp) -> Result<u64> {
        self.shared.io.begin_commit();
        let file_txn = begin_durable(&self.databases.file)?;
        let memory_txn = self
            .databases
            .memory
            .begin_write()
            .map(Contained::new)
            .map_err(failure::transaction)?;
        let mut emptied = None;
        let (written, removed) = {
            let mut file = Writer::open(&file_txn)?;
            let mut memory = Writer::open(&memory_txn)?;
            let mut removed = file.bury(now, RECLAIMED)? + memory.bury(now, RECLAIMED)?;
            if let Some(&id) = self.retired.last() {
                let place = if id.is_in_memory() {
                    &mut memory
                } else {
                    &mut file
                };
                let rows = place.reclaim(id, RECLAIMED)?;
                removed += rows;
                if rows == 0 {
                    let mut retired = file_txn.open_table(RETIRED).map_err(failure::table)?;
                    retired.remove(id.0).map_err(failure::storage)?;
                    file.dirty = true;
                    // Another one may be left.
                    removed += 1;
                    emptied = Some(id);
                }
            }
            let written = Written {
                file: file.dirty,
                memory: memory.dirty,
                touches: Vec::new(),
                touched: 0,
            };
            (written, removed)
        };
        self.seal(file_txn, memory_txn, &written)?;
        if emptied.is_some() {
            self.retired.pop();
        }
        Ok(removed)
    }
}

fn too_many_sessions() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "too many new sessions: the store's limit for an interval (max_new_sessions) is reached",
    )
}

/// Merges one job into the group; an error concerns the storage and so the whole group.
fn apply(
    writers: &mut Writers<'_>,
    job: &mut CommitJob,
    half: &mut Half,
    may_found: impl FnOnce(u64) -> bool,
    bugs: Bugs,
) -> Result<Outcome> {
    let Some(mut set) = job.take_set() else {
        return Ok(Outcome::Committed);
    };
    bugs.before_merging(&mut set);
    match resolve(&set, writers, half.number) {
        Ok(writes) if !may_found(writes.founded) => Ok(Outcome::Failed(too_many_sessions(), None)),
        Ok(mut writes) => {
            bugs.before_writing(&mut writes);
            if !writes.is_empty() {
                writers.file.apply(&writes, |id| !id.is_in_memory())?;
                if writers.memory.apply(&writes, ContainerId::is_in_memory)? {
                    half.writes.push(writes);
                }
            }
            Ok(Outcome::Committed)
        }
        Err(Refusal::Stale(commutes)) => Ok(Outcome::Stale(set, commutes, None)),
        // The file cannot be read any more; that is nobody's own fault.
        Err(Refusal::Failed(e, _)) if e.kind() == ErrorKind::Unavailable => Err(e),
        Err(Refusal::Failed(e, client)) => Ok(Outcome::Failed(e, client)),
    }
}

/// Stores a container; returns the row that it had. A new one gets the next number.
fn put_container(txn: &Writing, record: &ContainerRecord) -> Result<Option<Vec<u8>>> {
    let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
    let before = containers
        .insert(record.name.as_str(), &*record.encode()?)
        .map_err(failure::storage)?
        .map(|row| row.value().to_vec());
    if before.is_none() {
        let mut meta = txn.open_table(META).map_err(failure::table)?;
        let next = ContainerId(record.id).number() + 1;
        let next = next.max(plain(&*meta, "next-container")?);
        let sealed = seal_plain(Kind::Meta, b"next-container", next)?;
        meta.insert("next-container", &*sealed)
            .map_err(failure::storage)?;
    }
    Ok(before)
}

/// Removes a container's row, and remembers that what it holds is to be reclaimed.
fn remove_container(txn: &Writing, name: &str) -> Result<Before> {
    let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
    let row = containers
        .remove(name)
        .map_err(failure::storage)?
        .map(|row| row.value().to_vec());
    let Some(row) = row else {
        return Err(Error::new(ErrorKind::NoSuchContainer, "no such container").in_container(name));
    };
    let record = ContainerRecord::decode(name, &row)?;
    let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
    retired.insert(record.id, ()).map_err(failure::storage)?;
    Ok(Before {
        name: name.to_owned(),
        row: Some(row),
        id: ContainerId(record.id),
    })
}

fn put_secrets(txn: &Writing, secrets: &[SecretRecord]) -> Result<()> {
    let list: Vec<(u8, [u8; 32])> = secrets.iter().map(|s| (s.0, s.1)).collect();
    let mut meta = txn.open_table(META).map_err(failure::table)?;
    let sealed = seal_plain(Kind::Meta, b"secrets", list)?;
    meta.insert("secrets", &*sealed).map_err(failure::storage)?;
    Ok(())
}
