//! Computes what a commit writes: the merge over the loaded rows, and the new rows of its clients. Pure.

use super::current::LoadedRows;
use super::row_edit::{ClientWrite, ClientWrites, PlanTerms, RowEdit};
use crate::client_id::ClientKey;
use crate::error::Result;
use crate::storage::merge::{MergeRefusal, found_expired, resolve};
use crate::storage::record::RecordCipher;
use crate::storage::{ChangeSet, ClientChange, MemoryWrites, Seen, Touch, Version};
use std::collections::BTreeMap;

/// What a change set writes.
pub(super) struct CommitPlan {
    /// By client.
    pub(super) writes: BTreeMap<ClientKey, ClientWrite>,
    /// Accesses to sessions of clients that it does not write.
    pub(super) accesses: Vec<Touch>,
    pub(super) founded: u64,
    pub(super) swept: u64,
    /// The writes to containers in memory.
    pub(super) foreign: MemoryWrites,
}

/// Validates a change set against the loaded rows and computes the rows to write.
pub(super) fn plan(
    set: &ChangeSet,
    rows: &LoadedRows<'_>,
    terms: PlanTerms,
    cipher: &RecordCipher,
) -> Result<CommitPlan, MergeRefusal> {
    let mut merged = resolve(set, rows, Version(terms.version))?;
    check_claims(set, rows)?;
    let foreign = MemoryWrites::decode(merged.split_off_memory())?;
    let (founded, swept) = (merged.founded, merged.swept.len() as u64);
    let mut accesses = set.accesses(|client, seen| {
        let id = seen.container_ref.id;
        !id.is_in_memory() && !id.is_in_cookie() && !client.writes_in(id)
    });
    accesses.retain(|touch| !rows.is_found_expired(touch.session, touch.since));
    let mut by_client: BTreeMap<_, Vec<Touch>> = BTreeMap::new();
    for touch in accesses {
        let client = touch.session.client;
        by_client.entry(client).or_default().push(touch);
    }
    let mut writes = BTreeMap::new();
    for (client, changes) in ClientWrites::of(&merged) {
        let mut edit = RowEdit::new(client, rows.rows_of(client)?, terms.clone(), rows.now());
        edit.apply(&changes, cipher)?;
        if let Some(accesses) = by_client.get_mut(&client) {
            accesses.retain(|touch| !edit.access(touch));
        }
        writes.insert(client, edit.finish(cipher)?);
    }
    Ok(CommitPlan {
        writes,
        accesses: by_client.into_values().flatten().collect(),
        founded,
        swept,
        foreign,
    })
}

/// Whether the change set may still write into the sessions that its transaction saw live. A session that another
/// transaction has found expired since must not come back (C2.11, C3.2).
fn check_claims(set: &ChangeSet, rows: &LoadedRows<'_>) -> Result<(), MergeRefusal> {
    for client in set.clients.iter().filter(|client| client.goes_on()) {
        if let Some(seen) = over(set, client, rows) {
            let error = found_expired(&seen.container_ref.name);
            return Err(MergeRefusal::Failed(error, Some(client.client)));
        }
    }
    Ok(())
}

fn over<'c>(set: &ChangeSet, client: &'c ClientChange, rows: &LoadedRows<'_>) -> Option<&'c Seen> {
    client.over(|seen| {
        let session = seen.live_session(client.client);
        let of = (seen.container_ref.id, client.client);
        let mut foreign = set.foreign.iter();
        session.is_some_and(|session| rows.is_found_expired(session, set.since))
            || foreign.any(|foreign| foreign.expired.contains(&of))
    })
}
