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
    waiting: Mutex<WaitingLoads>,
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct WaitingLoads {
    loads: VecDeque<WaitingLoad>,
    is_closed: bool,
}

/// The rows of a client, or how they are damaged.
pub(super) type RowsOrDamage = Result<Arc<StoredClient>>;

pub(super) struct WaitingLoad {
    pub(super) client: ClientKey,
    pub(super) until: Instant,
    pub(super) reply: Box<dyn LoadReply>,
}

/// What becomes of loaded rows. Dropping it tells the caller that the engine was closed.
pub(super) trait LoadReply: Send {
    fn send(self: Box<Self>, rows: Result<RowsOrDamage>);

    /// Whether the caller still waits.
    fn is_awaited(&self) -> bool;
}

impl LoadReply for oneshot::Sender<Result<RowsOrDamage>> {
    fn send(self: Box<Self>, rows: Result<RowsOrDamage>) {
        let _ = (*self).send(rows);
    }

    fn is_awaited(&self) -> bool {
        !self.is_closed()
    }
}

impl LoadQueue {
    /// A load that comes after the engine was closed is dropped, so that its caller hears of it.
    pub(super) fn add(&self, load: WaitingLoad) {
        let mut waiting = self.lock();
        if !waiting.is_closed {
            waiting.loads.push_back(load);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// Takes the loads that are next. There are none only if none waits.
    pub(super) fn claim(&self) -> Vec<WaitingLoad> {
        let (mut claimed, mut abandoned) = (Vec::new(), Vec::new());
        let mut waiting = self.lock();
        while claimed.len() < BATCH
            && let Some(load) = waiting.loads.pop_front()
        {
            // The caller may have given up meanwhile.
            match load.reply.is_awaited() {
                true => claimed.push(load),
                false => abandoned.push(load),
            }
        }
        drop(waiting);
        drop(abandoned);
        claimed
    }

    pub(super) fn put_back(&self, loads: Vec<WaitingLoad>) {
        let mut waiting = self.lock();
        if !waiting.is_closed {
            let loads = loads.into_iter().rev();
            loads.for_each(|it| waiting.loads.push_front(it));
        }
    }

    /// Drops what waits, for nobody reads it any more.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.loads.clear();
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLoads> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::ClientKey;

    type RowsAnswer = oneshot::Receiver<Result<RowsOrDamage>>;

    fn load() -> (WaitingLoad, RowsAnswer) {
        let (reply, answer) = oneshot::channel();
        let load = WaitingLoad {
            client: ClientKey::from_bytes([1; 16]),
            until: Instant::now(),
            reply: Box::new(reply),
        };
        (load, answer)
    }

    // C10.2
    #[test]
    fn a_load_behind_many_that_nobody_waits_for_is_next() {
        let queue = LoadQueue::default();
        for _ in 0..BATCH {
            queue.add(load().0);
        }
        let (awaited, _answer) = load();
        queue.add(awaited);
        assert_eq!(queue.claim().len(), 1);
        assert!(queue.claim().is_empty());
    }

    // C10.2
    #[test]
    fn who_waits_as_the_engine_is_closed_hears_of_it() {
        let queue = LoadQueue::default();
        let (waiting, mut answer) = load();
        let (claimed, mut late) = load();
        let is_dropped = |answer: &mut oneshot::Receiver<_>| {
            matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed))
        };
        queue.add(waiting);
        assert!(!is_dropped(&mut answer));
        queue.close();
        assert!(is_dropped(&mut answer));
        queue.put_back(vec![claimed]);
        assert!(is_dropped(&mut late));
        let (next, mut answer) = load();
        queue.add(next);
        assert!(is_dropped(&mut answer));
        assert!(queue.claim().is_empty());
    }
}
