//! Sessions of an export that are written in one commit.

use super::export_lines::SessionLine;
use super::import_reader::invalid;
use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::merge::check_name;
use crate::storage::record::{AccessPart, SessionRow};
use crate::storage::{
    ChangeBase, ChangeSet, ClientChange, ContainerHome, ContainerRef, KeyChange, Mark,
    MergeFindings, Observed, OnDuplicate, Outcome, PackageChange, Seen, SeenState, SessionEnd,
    WaiterKind,
};
use crate::transaction::{ContainerEntry, Env, ShownSession};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// How many sessions a batch has, and how many bytes their lines.
const SESSIONS: usize = 256;
const BYTES: usize = 1 << 20;
/// How long an import waits before it checks again whether the storage accepts more.
const PAUSE: Duration = Duration::from_millis(5);

/// A session as its line has it.
struct ImportedSession {
    line: SessionLine,
    number: u64,
    container: Arc<ContainerEntry>,
    client: ClientKey,
}

#[derive(Default)]
pub(super) struct ImportBatch {
    sessions: Vec<ImportedSession>,
    bytes: usize,
    /// The line that was at fault.
    wrong: Option<u64>,
}

impl ImportBatch {
    pub(super) fn is_full(&self) -> bool {
        self.sessions.len() >= SESSIONS || self.bytes >= BYTES
    }

    pub(super) fn line_of_error(&self) -> Option<u64> {
        self.wrong
    }

    pub(super) fn add(
        &mut self,
        env: &Env,
        line: SessionLine,
        (number, len): (u64, usize),
    ) -> Result<()> {
        let limits = &env.rules.limits;
        let client: ClientKey = line.client.parse()?;
        let registry = env.registry.load();
        let container = registry
            .get(&line.container)
            .ok_or_else(|| invalid("the container of the session has no line"))?;
        check_own_name(container, &line.container)?;
        if container.id().home() != ContainerHome::Durable {
            return Err(invalid("here the container does not live in the file"));
        }
        let owner = line.owner.iter().map(|owner| ("the owner", owner));
        let label = line.label.iter().map(|label| ("the label", label));
        let packages = line.packages.keys().map(|name| ("the package id", name));
        let keys = line.packages.values().flat_map(BTreeMap::keys);
        let keys = keys.map(|key| ("the key", key));
        for (what, name) in owner.chain(label).chain(packages).chain(keys) {
            check_name(what, name, limits)?;
        }
        self.bytes += len;
        let container = container.clone();
        self.sessions.push(ImportedSession {
            line,
            number,
            container,
            client,
        });
        Ok(())
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
                return Err(invalid("the session has a line already"));
            }
            let row = snapshot.session(it.container.id(), it.client);
            rows.push(row.map_err(|error| it.named(error))?);
        }
        self.wrong = None;
        let now = env.clock.timestamp();
        let mut clients = Vec::with_capacity(sessions.len());
        for (it, seen) in sessions.iter().zip(seen(env, &sessions, rows, now)) {
            self.wrong = Some(it.number);
            let seen = seen.map_err(|error| it.named(error))?;
            clients.push(change(&it.line, seen, (it.client, existing))?);
        }
        self.wrong = None;
        while env.storage.has_backpressure() {
            thread::sleep(PAUSE);
        }
        let count = sessions.len() as u64;
        match submit(env, (since, now), clients) {
            Ok(written) => Ok((written, count.saturating_sub(written))),
            Err((error, client)) => {
                let at_fault = sessions.iter().find(|it| Some(it.client) == client);
                self.wrong = at_fault.map(|it| it.number);
                let is_there = error.kind() == ErrorKind::Conflict && at_fault.is_some();
                Err(match is_there {
                    true => invalid("the store has this session already"),
                    false => error,
                })
            }
        }
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

impl ImportedSession {
    fn named(&self, error: Error) -> Error {
        error.in_container(&*self.container.container_ref.name)
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
        },
        false => SeenState::Live { incarnation },
    }
}

fn change(
    session: &SessionLine,
    seen: Seen,
    (client, existing): (ClientKey, OnDuplicate),
) -> Result<ClientChange> {
    let access = AccessPart {
        last_access: Timestamp(session.last_access_ms),
        created: Timestamp(session.created_ms),
        id_issued: Timestamp(session.id_issued_ms),
        is_id_confirmed: session.id_confirmed,
    };
    let text = |text: &Option<String>| text.as_deref().map(|text| Some(text.into()));
    let time = |time: Option<i64>| time.map(|time| Some(Timestamp(time)));
    let packages = packages(session, &seen.container_ref)?;
    Ok(ClientChange {
        client,
        seen: vec![seen],
        exists: None,
        replaced: None,
        founder: None,
        packages,
        home: None,
        timeout: session.timeout_ms.map(|ms| Some(Duration::from_millis(ms))),
        owner: text(&session.owner),
        label: text(&session.label),
        authenticated_at: time(session.authenticated_at_ms),
        ends_at: time(session.ends_at_ms),
        end: SessionEnd::Imported(access, existing),
        ends_in: Vec::new(),
        ends_of: None,
        keeps_owner: false,
        leads_on: None,
        carries: 0,
    })
}

fn packages(session: &SessionLine, place: &ContainerRef) -> Result<Vec<PackageChange>> {
    let mut packages = Vec::with_capacity(session.packages.len());
    for (name, values) in &session.packages {
        let mut keys = Vec::with_capacity(values.len());
        for (key, value) in values {
            let put = KeyChange {
                base: ChangeBase::Put(value.stored()?.into()),
                steps: Vec::new(),
            };
            keys.push((key.as_str().into(), put));
        }
        packages.push(PackageChange {
            container_ref: place.clone(),
            package: name.as_str().into(),
            observed: Observed::default(),
            clear: false,
            keys,
        });
    }
    Ok(packages)
}
