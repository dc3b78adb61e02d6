//! The sweeps of this process that are under way.

use super::cache::RowCache;
use super::current::RowsByClient;
use super::load_queue::RowsOrDamage;
use crate::client_id::ClientKey;
use crate::expiry::ExpiryPolicy;
use crate::storage::ContainerId;
use std::collections::{HashMap, VecDeque};

/// About how many bytes of the rows that sweeps have read last are kept for their commits.
const READ_LAST: usize = 4 << 20;
/// How many sweeps that were broken off are remembered at most.
const REMEMBERED: usize = 8;

pub(super) struct SweepState {
    /// The name of this process in the lease.
    pub(super) holder: [u8; 16],
    /// Whether this process has had the lease.
    pub(super) has_swept: bool,
    /// The policies by which this process has read all sessions of a container. The times of the rows are right for these.
    pub(super) read_by: HashMap<ContainerId, ExpiryPolicy>,
    under_way: VecDeque<(ContainerId, ClientKey, SweepPass)>,
    /// The rows that sweeps have read last, so that their commits need not read them again.
    read_last: RowCache,
}

/// What a sweep still has to read.
pub(super) struct SweepPass {
    /// Up to where it has read.
    pub(super) last: ClientKey,
    pub(super) left: LeftToSweep,
}

pub(super) enum LeftToSweep {
    /// All sessions.
    Everything,
    /// These clients, in the order of their keys, and perhaps more.
    Candidates {
        clients: VecDeque<ClientKey>,
        has_more: bool,
    },
}

impl SweepState {
    pub(super) fn new(holder: [u8; 16]) -> Self {
        Self {
            holder,
            has_swept: false,
            read_by: HashMap::new(),
            under_way: VecDeque::new(),
            read_last: RowCache::new(READ_LAST),
        }
    }

    /// Notes what a sweep has read.
    pub(super) fn note_read(&mut self, found: &[(ClientKey, RowsOrDamage)]) {
        for (client, rows) in found {
            if let Ok(rows) = rows {
                self.read_last.put(*client, rows.clone());
            }
        }
    }

    /// What sweeps have read last of these clients. They do not read it again.
    pub(super) fn take_read(&mut self, clients: &[ClientKey]) -> RowsByClient {
        let mut found = RowsByClient::new();
        for client in clients {
            if let Some(rows) = self.read_last.get(*client) {
                found.insert(*client, rows);
                self.read_last.remove(*client);
            }
        }
        found
    }

    /// Notes how a sweep goes on that was told of the sessions up to a client.
    pub(super) fn put(&mut self, container: ContainerId, told: ClientKey, pass: SweepPass) {
        self.under_way.push_back((container, told, pass));
        if self.under_way.len() > REMEMBERED {
            self.under_way.pop_front();
        }
    }

    /// How a sweep goes on that was told of the sessions up to a client. If that is forgotten, it looks for candidates anew.
    pub(super) fn take(&mut self, container: ContainerId, told: ClientKey) -> SweepPass {
        let is_it = |(of, at, _): &(ContainerId, ClientKey, _)| (*of, *at) == (container, told);
        let found = self.under_way.iter().rposition(is_it);
        let found = found.and_then(|at| self.under_way.remove(at));
        found.map_or_else(|| SweepPass::candidates(told), |(.., pass)| pass)
    }
}

impl SweepPass {
    /// All sessions.
    pub(super) fn everything() -> Self {
        Self {
            last: ClientKey::from_bytes([0; 16]),
            left: LeftToSweep::Everything,
        }
    }

    /// The candidates after a client, which are not looked for yet.
    pub(super) fn candidates(after: ClientKey) -> Self {
        Self {
            last: after,
            left: LeftToSweep::Candidates {
                clients: VecDeque::new(),
                has_more: true,
            },
        }
    }
}
