//! Sessions of an export that are written in one commit.

use super::export_lines::SessionLine;
use super::import_reader::invalid;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::check_name;
use crate::storage::record::{AccessPart, SessionRow};
use crate::storage::{
    ChangeBase, ChangeSet, ClientChange, ContainerHome, ContainerRef, KeyChange, Mark,
    MergeFindings, Observed, OnDuplicate, Outcome, PackageChange, Seen, SeenState, SessionEnd,
    WaiterKind,
};
use crate::transaction::Env;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How many sessions a batch has, and how many bytes their lines.
const SESSIONS: usize = 256;
const BYTES: usize = 1 << 20;
/// How long an import waits before it checks again whether the storage accepts more.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct ImportBatch {
    /// Each with the number of its line.
    sessions: Vec<(u64, SessionLine, ContainerRef, ClientKey)>,
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
        session: SessionLine,
        (number, len): (u64, usize),
    ) -> Result<()> {
        let limits = &env.rules.limits;
        let client: ClientKey = session.client.parse()?;
        let registry = env.registry.load();
        let container = registry
            .get(&session.container)
            .ok_or_else(|| invalid("the container of the session has no line"))?;
        if container.id().home() != ContainerHome::Durable {
            return Err(invalid("here the container does not live in the file"));
        }
        let owner = session.owner.iter().map(|owner| ("the owner", owner));
        let label = session.label.iter().map(|label| ("the label", label));
        let packages = session.packages.keys().map(|name| ("the package id", name));
        let keys = session.packages.values().flat_map(BTreeMap::keys);
        let keys = keys.map(|key| ("the key", key));
        for (what, name) in owner.chain(label).chain(packages).chain(keys) {
            check_name(what, name, limits)?;
        }
        self.bytes += len;
        let place = container.container_ref.clone();
        self.sessions.push((number, session, place, client));
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
        let keys: Vec<_> = sessions.iter().map(|it| it.3).collect();
        snapshot.load(&keys).wait()?;
        let mut clients = Vec::with_capacity(sessions.len());
        let mut known = BTreeSet::new();
        for (number, session, place, client) in &sessions {
            self.wrong = Some(*number);
            if !known.insert((place.id, *client)) {
                return Err(invalid("the session has a line already"));
            }
            let named = |error: Error| error.in_container(&*place.name);
            let row = snapshot.session(place.id, *client).map_err(named)?;
            clients.push(change(session, seen(place, row), (*client, existing))?);
        }
        self.wrong = None;
        while env.storage.has_backpressure() {
            thread::sleep(PAUSE);
        }
        let count = sessions.len() as u64;
        match submit(env, since, clients) {
            Ok(written) => Ok((written, count.saturating_sub(written))),
            Err((error, client)) => {
                let at_fault = sessions.iter().find(|it| Some(it.3) == client);
                self.wrong = at_fault.map(|it| it.0);
                let is_there = error.kind() == ErrorKind::Conflict && at_fault.is_some();
                Err(match is_there {
                    true => invalid("the store has this session already"),
                    false => error,
                })
            }
        }
    }
}

/// Commits, and returns how many sessions were written. Or the error, and the client at fault.
fn submit(
    env: &Env,
    since: Mark,
    clients: Vec<ClientChange>,
) -> Result<u64, (Error, Option<ClientKey>)> {
    let findings = MergeFindings::default();
    let set = ChangeSet {
        now: env.clock.timestamp(),
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

fn seen(place: &ContainerRef, row: Option<SessionRow>) -> Seen {
    let state = match &row {
        Some(row) => SeenState::Live {
            incarnation: row.incarnation,
        },
        None => SeenState::Absent,
    };
    Seen {
        container_ref: place.clone(),
        row,
        state,
        observed: false,
        listed: false,
        touch: None,
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
