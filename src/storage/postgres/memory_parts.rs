//! The clients of commits that have a part in memory, and whose outcome could not be found out in time. Until it is known,
//! nobody reads these clients: both parts show, or none. Knows no server.

use super::failure::unavailable;
use crate::client_id::ClientKey;
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Each client is there once: the containers in memory take no other commit of it meanwhile.
#[derive(Debug, Default)]
pub(super) struct MemoryParts {
    clients: Mutex<HashSet<ClientKey>>,
    ended: Notify,
}

/// While it lasts, nobody reads these clients. Dropping it ends it.
#[derive(Debug)]
pub(super) struct PartHold {
    parts: Arc<MemoryParts>,
    clients: BTreeSet<ClientKey>,
}

impl MemoryParts {
    fn lock(&self) -> MutexGuard<'_, HashSet<ClientKey>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(self: &Arc<Self>, clients: BTreeSet<ClientKey>) -> PartHold {
        self.lock().extend(&clients);
        let parts = self.clone();
        PartHold { parts, clients }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn has_any(&self, is_read: impl Fn(ClientKey) -> bool) -> bool {
        self.lock().iter().any(|it| is_read(*it))
    }

    /// Refuses to read these clients now.
    pub(super) fn check(&self, is_read: impl Fn(ClientKey) -> bool) -> Result<()> {
        match self.has_any(is_read) {
            true => Err(not_known()),
            false => Ok(()),
        }
    }

    /// Waits until these clients may be read.
    pub(super) async fn settle(
        &self,
        is_read: impl Fn(ClientKey) -> bool,
        until: Instant,
    ) -> Result<()> {
        let settled = async {
            loop {
                let ended = self.ended.notified();
                if !self.has_any(&is_read) {
                    return;
                }
                ended.await;
            }
        };
        timeout_at(until, settled).await.map_err(|_| not_known())
    }
}

fn not_known() -> Error {
    unavailable("the outcome of an earlier commit to the session is not known yet")
}

impl Drop for PartHold {
    fn drop(&mut self) {
        let mut clients = self.parts.lock();
        for client in &self.clients {
            clients.remove(client);
        }
        drop(clients);
        self.parts.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::time::Duration;

    fn client(n: u8) -> ClientKey {
        ClientKey::from_bytes([n; 16])
    }

    // C1.7, C10.2
    #[test]
    fn only_those_who_read_a_held_client_wait_and_not_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let parts = Arc::<MemoryParts>::default();
            let first = parts.hold(BTreeSet::from([client(1)]));
            let second = parts.hold(BTreeSet::from([client(2)]));
            let later = Instant::now() + Duration::from_secs(60);
            parts.settle(|it| it == client(3), later).await.unwrap();
            let late = parts.settle(|it| it == client(1), Instant::now());
            assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Unavailable);
            parts.check(|it| it == client(1)).unwrap_err();
            let waits = parts.settle(|it| it == client(1), later);
            let (waited, ()) = tokio::join!(waits, async { drop(first) });
            waited.unwrap();
            parts.check(|it| it == client(2)).unwrap_err();
            drop(second);
            assert!(parts.is_empty());
        });
    }
}
