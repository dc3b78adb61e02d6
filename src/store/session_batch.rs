//! Sessions of another store that are written in one commit.

use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::record::SessionRow;
use crate::storage::{
    ChangeSet, ClientChange, Mark, MergeFindings, OnDuplicate, Outcome, PackageChange, Seen,
    SeenState, SessionEnd, WaiterKind,
};
use crate::transaction::{ContainerEntry, Env, ShownSession};
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// How many sessions a batch has, and about how many bytes.
const SESSIONS: usize = 256;
const BYTES: usize = 1 << 20;
/// How long an import waits before it checks again whether the storage accepts more.
const PAUSE: Duration = Duration::from_millis(5);

/// A session of another store, and where it goes.
pub(super) struct ImportedSession {
    pub(super) container: Arc<ContainerEntry>,
    pub(super) client: ClientKey,
    pub(super) row: Box<SessionRow>,
    pub(super) packages: Vec<PackageChange>,
    /// The number of its line, where it comes from an export.
    pub(super) number: u64,
}

#[derive(Default)]
pub(super) struct SessionBatch {
    sessions: Vec<ImportedSession>,
    bytes: usize,
    /// The line that was at fault.
    wrong: Option<u64>,
}

impl SessionBatch {
    pub(super) fn is_full(&self) -> bool {
        self.sessions.len() >= SESSIONS || self.bytes >= BYTES
    }

    #[cfg(feature = "export")]
    pub(super) fn line_of_error(&self) -> Option<u64> {
        self.wrong
    }

    /// Adds a session, which takes about so many bytes.
    pub(super) fn add(&mut self, session: ImportedSession, bytes: usize) {
        self.bytes += bytes;
        self.sessions.push(session);
    }

    /// Writes the sessions in one commit. Returns how many were written, and how many were there.
    pub(super) fn commit(&mut self, env: &Env, existing: OnDuplicate) -> Result<(u64, u64)> {
        let sessions = std::mem::take(&mut self.sessions);
        self.bytes = 0;
        if sessions.is_empty() {
            return Ok((0, 0));
        }
        // The merge may rely on the rows that a transaction has read, as of then.
        let since = env.storage.mark();
        let snapshot = env.snapshot()?;
        let keys: Vec<_> = sessions.iter().map(|it| it.client).collect();
        snapshot.load(&keys).wait()?;
        let mut rows = Vec::with_capacity(sessions.len());
        let mut known = BTreeSet::new();
        for it in &sessions {
            self.wrong = Some(it.number);
            if !known.insert((it.container.id(), it.client)) {
                return Err(refused("the session comes twice"));
            }
            let row = snapshot.session(it.container.id(), it.client);
            rows.push(row.map_err(|error| it.named(error))?);
        }
        self.wrong = None;
        let now = env.clock.timestamp();
        let mut clients = Vec::with_capacity(sessions.len());
        let seen = seen(env, &sessions, rows, now);
        let places: Vec<_> = sessions.iter().map(|it| (it.number, it.client)).collect();
        for (it, seen) in sessions.into_iter().zip(seen) {
            self.wrong = Some(it.number);
            let seen = seen.map_err(|error| it.named(error))?;
            clients.push(it.change(seen, existing));
        }
        self.wrong = None;
        while env.storage.has_backpressure() {
            thread::sleep(PAUSE);
        }
        let count = places.len() as u64;
        match submit(env, (since, now), clients) {
            Ok(written) => Ok((written, count.saturating_sub(written))),
            Err((error, client)) => {
                let at_fault = places.iter().find(|(_, key)| Some(*key) == client);
                self.wrong = at_fault.map(|(number, _)| *number);
                let is_there = error.kind() == ErrorKind::Conflict && at_fault.is_some();
                Err(match is_there {
                    true => refused("the store has this session already"),
                    false => error,
                })
            }
        }
    }
}

/// Commits, and returns how many sessions were written. Or the error, and the client at fault.
fn submit(
    env: &Env,
    (since, now): (Mark, Timestamp),
    clients: Vec<ClientChange>,
) -> Result<u64, (Error, Option<ClientKey>)> {
    let findings = MergeFindings::default();
    let set = ChangeSet {
        now,
        since,
        clients,
        refusals: env.refusals(),
        limits: env.rules.limits,
        registry: env.registry.load().number,
        foreign: None,
        carried: None,
        findings: Some(findings.clone()),
        swept: 0,
    };
    let (reply, answer) = mpsc::sync_channel(1);
    let done = Box::new(move |outcome| {
        let _ = reply.send(match outcome {
            Outcome::Committed(_) => Ok(()),
            Outcome::Failed(error, client) => Err((error, client)),
            Outcome::Stale(..) => {
                let why = "an import has no values to compute";
                Err((Error::new(ErrorKind::Conflict, why), None))
            }
        });
    });
    let submission = env.storage.submit(Box::new(set), WaiterKind::Task, done);
    let outcome = answer.recv();
    drop(submission);
    outcome.unwrap_or_else(|_| Err((Error::stopped(), None)))?;
    Ok(findings.take().founded.len() as u64)
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

impl ImportedSession {
    fn named(&self, error: Error) -> Error {
        error.in_container(&*self.container.container_ref.name)
    }

    fn change(self, seen: Seen, existing: OnDuplicate) -> ClientChange {
        ClientChange {
            client: self.client,
            seen: vec![seen],
            exists: None,
            replaced: None,
            founder: None,
            packages: self.packages,
            home: None,
            timeout: None,
            owner: None,
            label: None,
            authenticated_at: None,
            ends_at: None,
            end: SessionEnd::Imported(existing),
            ends_in: Vec::new(),
            ends_of: None,
            keeps_owner: false,
            leads_on: None,
            imported: Some(self.row),
            carries: 0,
        }
    }
}

/// What the store has of the sessions. A row that has expired is none (C3.2), nor is one that only leads on from a
/// renewed id.
fn seen(
    env: &Env,
    sessions: &[ImportedSession],
    rows: Vec<Option<SessionRow>>,
    now: Timestamp,
) -> Vec<Result<Seen>> {
    let shown = sessions.iter().zip(&rows).filter_map(|(it, row)| {
        Some(ShownSession {
            container: &it.container,
            client: it.client,
            row: row.as_ref()?,
            keeping: None,
        })
    });
    let times = wait(env.times_to_decide_by(&shown.collect::<Vec<_>>(), now));
    let mut times = times.into_iter();
    let seen = sessions.iter().zip(rows).map(|(it, row)| {
        let times = row.as_ref().and_then(|_| times.next()).transpose()?;
        Ok(Seen {
            container_ref: it.container.container_ref.clone(),
            state: state(&it.container, row.as_ref().zip(times), now),
            row,
            observed: false,
            listed: false,
            touch: None,
        })
    });
    seen.collect()
}

fn state(
    container: &ContainerEntry,
    stored: Option<(&SessionRow, Times)>,
    now: Timestamp,
) -> SeenState {
    let Some((row, times)) = stored else {
        return SeenState::Absent;
    };
    let incarnation = row.incarnation;
    match container.policy.is_expired(&times, now) || row.optional.moved.is_some() {
        true => SeenState::Expired {
            incarnation,
            last_access: times.last_access,
            timeout: times.timeout,
            ends_at: times.ends_at,
            is_id_confirmed: times.unconfirmed_since.is_none(),
        },
        false => SeenState::Live { incarnation },
    }
}
