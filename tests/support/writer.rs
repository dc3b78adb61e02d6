//! Holds up the store's writer thread, so that a test can say what waits when it goes on.

use cloakroom::Store;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// The writer answers a commit by waking its future; this waker keeps it there until it is dropped.
pub(crate) struct HeldWriter(Arc<Gate>);

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    arrived: bool,
    open: bool,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock().unwrap();
        state.arrived = true;
        self.changed.notify_all();
        while !state.open {
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl HeldWriter {
    /// Commits a session of a client of its own, and returns when the writer stands still after that.
    pub(crate) fn of(store: &Store) -> Self {
        let gate = Arc::new(Gate::default());
        let waker = Waker::from(gate.clone());
        let txn = store.begin().unwrap();
        let id = store.client_ids().issue();
        txn.session(&id)
            .unwrap()
            .pkg("held")
            .insert("up", 1)
            .unwrap();
        let mut committing: Pin<Box<dyn Future<Output = _>>> = Box::pin(txn.commit_async());
        // It may be through before the waker is in place; then there is nothing to hold.
        match committing.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => {
                result.unwrap();
                return Self::of(store);
            }
            Poll::Pending => {}
        }
        let mut state = gate.state.lock().unwrap();
        while !state.arrived {
            state = gate.changed.wait(state).unwrap();
        }
        drop(state);
        Self(gate)
    }
}

impl Drop for HeldWriter {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().open = true;
        self.0.changed.notify_all();
    }
}
