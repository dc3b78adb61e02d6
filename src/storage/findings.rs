//! What a merge finds out of the sessions that a change set concerns, beside the rows to write.

use crate::client_id::ClientKey;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the merge of a change set found out. A change set that an engine merges again replaces what it left here before.
#[derive(Clone, Debug, Default)]
pub(crate) struct MergeFindings(Arc<Mutex<ClientFindings>>);

/// What a merge found out of clients.
#[derive(Debug, Default)]
pub(crate) struct ClientFindings {
    /// Those that begin a session. Others join one that was founded meanwhile.
    pub(crate) founded: Vec<ClientKey>,
    /// Those whose session was given another id meanwhile, and its new client.
    pub(crate) moved: Vec<(ClientKey, ClientKey)>,
}

impl MergeFindings {
    pub(crate) fn set(&self, findings: ClientFindings) {
        *self.lock() = findings;
    }

    pub(crate) fn take(&self) -> ClientFindings {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, ClientFindings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientFindings {
    /// The client under which a session was changed.
    pub(crate) fn newest(&self, client: ClientKey) -> ClientKey {
        let mut newest = client;
        // In the order in which they were followed.
        for (from, to) in &self.moved {
            if *from == newest {
                newest = *to;
            }
        }
        newest
    }
}
