//! Loads of one client each that wait for a connection. Knows no server.

use super::client_rows::StoredClient;
use crate::client_id::ClientKey;
use crate::error::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How many clients are read by one statement at most.
const BATCH: usize = 128;

#[derive(Default)]
pub(super) struct LoadQueue {
    waiting: Mutex<VecDeque<WaitingLoad>>,
    pub(super) arrived: Notify,
}

/// The rows of a client, or how they are damaged.
pub(super) type RowsOrDamage = Result<Arc<StoredClient>>;

pub(super) struct WaitingLoad {
    pub(super) client: ClientKey,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<RowsOrDamage>>,
}

impl LoadQueue {
    pub(super) fn add(&self, load: WaitingLoad) {
        self.lock().push_back(load);
        self.arrived.notify_one();
    }

    pub(super) fn claim(&self) -> Vec<WaitingLoad> {
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH);
        let claimed = waiting.drain(..count);
        // The caller may have given up meanwhile.
        claimed.filter(|load| !load.reply.is_closed()).collect()
    }

    pub(super) fn put_back(&self, loads: Vec<WaitingLoad>) {
        let mut waiting = self.lock();
        loads
            .into_iter()
            .rev()
            .for_each(|it| waiting.push_front(it));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<WaitingLoad>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
