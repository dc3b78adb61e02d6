//! The findings of a merge about the sessions of a change set, in addition to the rows to write.

use crate::client_id::ClientKey;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The findings of the merge of a change set. If an engine merges the change set again, the new findings replace the
/// old ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct MergeFindings(Arc<Mutex<ClientFindings>>);

/// The findings of a merge about clients.
#[derive(Debug, Default)]
pub(crate) struct ClientFindings {
    /// The clients that begin a session. The others join a session that was founded meanwhile.
    pub(crate) founded: Vec<ClientKey>,
    /// The clients whose session got another id meanwhile, each with its new client.
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
