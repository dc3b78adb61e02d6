//! The sweeps of this process that are under way.

use super::current::RowsByClient;
use super::load_queue::RowsOrDamage;
use crate::client_id::ClientKey;
use crate::expiry::ExpiryPolicy;
use crate::storage::ContainerId;
use std::collections::{HashMap, VecDeque};

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
    read_last: [RowsByClient; 2],
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
            read_last: Default::default(),
        }
    }

    /// Notes what a sweep has read, in place of what was read two times before. No commit may start from rows that lack
    /// their large packages, nor from damaged ones, which may be right on the server by now.
    pub(super) fn note_read(&mut self, found: &[(ClientKey, RowsOrDamage)]) {
        let whole = found.iter().filter_map(|(client, rows)| {
            let rows = rows.as_ref().ok()?;
            (!rows.has_large_packages() && !rows.is_damaged).then(|| (*client, rows.clone()))
        });
        self.read_last.swap(0, 1);
        let [newest, _] = &mut self.read_last;
        newest.clear();
        newest.extend(whole);
    }

    /// What sweeps have read last of these clients.
    pub(super) fn read_of(&self, clients: &[ClientKey]) -> RowsByClient {
        let of = |client| self.read_last.iter().find_map(|rows| rows.get(client));
        let found = clients.iter();
        found
            .filter_map(|client| Some((*client, of(client)?.clone())))
            .collect()
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
