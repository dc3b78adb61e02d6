//! Runs the closures of `commute` again when their start value has changed (C2.9). They run on a thread of their own,
//! never on the storage's. Commits that wait together are computed one after the other, each on the result of the
//! previous one, so that they are committed together. While a closure takes long, for example because it waits for
//! another commit, a spare thread continues with the waiting commits.

use crate::client_id::ClientKey;
use crate::contain::contain;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ChangeSet, ChangeStep, Commute, ContainerId, KeyChange, StaleCommute};
use crate::transaction::state::changes::Closure;
use crate::transaction::worker::Worker;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// This many closures can wait for others without blocking those of other sessions.
const MAX_SPARE_THREADS: usize = 7;

/// A commit that must compute some of its values again.
pub(crate) struct Recompute {
    pub(crate) set: Box<ChangeSet>,
    pub(crate) commutes: Vec<StaleCommute>,
    pub(crate) commit: Box<dyn StaleCommit>,
}

/// The commit that waits for its values. This module knows nothing else of it.
pub(crate) trait StaleCommit: Send {
    fn closure(&self, index: usize) -> Option<&Closure>;
    fn submit_again(self: Box<Self>, set: Box<ChangeSet>);
    fn fail(self: Box<Self>, error: Error);
}

pub(crate) struct Recomputer {
    worker: Worker,
    waiting: Arc<WaitingRecomputes>,
}

#[derive(Default)]
struct WaitingRecomputes(Mutex<VecDeque<Recompute>>);

impl WaitingRecomputes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Recompute>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Recompute> {
        self.lock().pop_front()
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is running a closure again.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

type ValuePath = (ContainerId, ClientKey, Arc<str>, Arc<str>);
type LatestValues = HashMap<ValuePath, Bytes>;

impl Recomputer {
    pub(crate) fn new() -> Self {
        Self {
            worker: Worker::with_spares("cloakroom-commute", MAX_SPARE_THREADS),
            waiting: Arc::default(),
        }
    }

    /// If no thread can be started, the waiting commits fail.
    pub(crate) fn push(&self, recompute: Recompute) {
        self.waiting.lock().push_back(recompute);
        let waiting = self.waiting.clone();
        let started = self.worker.try_run(Box::new(move || run(&waiting)));
        if let Err(error) = started {
            let error = Error::new(
                ErrorKind::NotWritten,
                "no thread can be started to run the closure of a commute",
            )
            .with_source(error);
            while let Some(recompute) = self.waiting.take() {
                recompute.commit.fail(error.clone());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

/// Takes at most the commits that wait now, so that it does not build without end on commits that may fail. Each waits
/// until its turn comes. If a closure before it does not return, another thread takes it.
fn run(waiting: &WaitingRecomputes) {
    let mut latest = LatestValues::new();
    let many = waiting.lock().len();
    for Recompute {
        mut set,
        commutes,
        commit,
    } in std::iter::from_fn(|| waiting.take()).take(many)
    {
        match recompute(&mut set, &commutes, &*commit, &mut latest) {
            Ok(()) => commit.submit_again(set),
            Err(error) => commit.fail(error),
        }
    }
}

fn recompute(
    set: &mut ChangeSet,
    stale: &[StaleCommute],
    commit: &dyn StaleCommit,
    latest: &mut LatestValues,
) -> Result<()> {
    let stale = stale.iter().map(|s| (s.index, &s.current)).collect();
    for client in &mut set.clients {
        for package in &mut client.packages {
            for (key, change) in &mut package.keys {
                let Some((at, current)) = find(change, &stale) else {
                    continue;
                };
                let spot = (
                    package.container_ref.id,
                    client.client,
                    package.package.clone(),
                    key.clone(),
                );
                // The first step starts from the stored value, which the commit before may change.
                let start = match latest.get(&spot) {
                    Some(value) if at == 0 => Some(value.clone()),
                    _ => current,
                };
                let value = rerun_from(change, at, start, commit).map_err(|e| {
                    e.in_container(&*package.container_ref.name)
                        .in_package(&*package.package)
                        .at_key(&**key)
                })?;
                latest.extend(value.map(|value| (spot, value)));
            }
        }
    }
    Ok(())
}

/// The first stale step of a key, and the value before it.
fn find(
    change: &KeyChange,
    stale: &HashMap<usize, &Option<Bytes>>,
) -> Option<(usize, Option<Bytes>)> {
    change.steps.iter().enumerate().find_map(|(at, step)| {
        let ChangeStep::Commute(commute) = step else {
            return None;
        };
        let current = stale.get(&commute.index)?;
        Some((at, (*current).clone()))
    })
}

fn rerun_from(
    change: &mut KeyChange,
    at: usize,
    start: Option<Bytes>,
    commit: &dyn StaleCommit,
) -> Result<Option<Bytes>> {
    let mut value = start;
    for step in change.steps.iter_mut().skip(at) {
        value = Some(match step {
            ChangeStep::Arithmetic(arithmetic) => arithmetic.apply(value.as_deref())?.into(),
            ChangeStep::Commute(commute) => {
                let output = call(commit, commute, value.as_deref())?;
                commute.input = value;
                commute.output = output.clone();
                output
            }
        });
    }
    Ok(value)
}

fn call(commit: &dyn StaleCommit, commute: &Commute, value: Option<&[u8]>) -> Result<Bytes> {
    let panicked = || Error::new(ErrorKind::Panicked, "the closure of a commute panicked");
    let closure = commit.closure(commute.index).ok_or_else(panicked)?;
    RUNNING.set(true);
    let result = contain(|| closure.call(value));
    RUNNING.set(false);
    result.flatten().unwrap_or_else(|| Err(panicked()))
}
