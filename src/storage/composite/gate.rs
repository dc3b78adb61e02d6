//! Orders the commits that concern memory. If the durable engine answers late, it also separates them from the
//! snapshots of both engines, so that both parts of a snapshot show the same moment.

use crate::client_id::ClientKey;
use crate::contain::contain;
use crate::process::Process;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Commits that change memory exclude snapshots. They exclude each other if they have a client in common. Snapshots,
/// and the commits of one client, enter in the order of arrival, so none starves. A commit overtakes waiting commits of
/// other clients: a client that keeps a slow disk busy delays no other client. No thread is blocked: an entry that must
/// wait is called back.
#[derive(Default)]
pub(super) struct CommitGate {
    state: Mutex<GateState>,
    process: Process,
}

#[derive(Default)]
struct GateState {
    snapshots: usize,
    commits: usize,
    /// How many commits have entered so far.
    entered: u64,
    /// The clients of the commits that are inside.
    clients: HashSet<ClientKey>,
    waiting: VecDeque<(Entry, GateCallback)>,
    /// Whether a thread is admitting waiting entries.
    is_admitting: bool,
}

/// Called once, when its entry is inside the gate.
type GateCallback = Box<dyn FnOnce(Inside) + Send>;

enum Entry {
    Snapshot,
    Commit(Vec<ClientKey>),
}

/// The right to be inside the gate. Dropping it leaves the gate.
pub(super) struct Inside {
    gate: Arc<CommitGate>,
    /// `None` for a snapshot.
    clients: Option<Vec<ClientKey>>,
}

impl CommitGate {
    /// Begins a snapshot once no commit is inside.
    pub(super) fn enter_snapshot(self: &Arc<Self>, go: GateCallback) {
        self.enter(Entry::Snapshot, go);
    }

    /// Begins a commit once neither a snapshot nor a commit of one of these clients is inside.
    pub(super) fn enter_commit(self: &Arc<Self>, clients: Vec<ClientKey>, go: GateCallback) {
        self.enter(Entry::Commit(clients), go);
    }

    fn enter(self: &Arc<Self>, entry: Entry, go: GateCallback) {
        let mut state = self.lock();
        state.waiting.push_back((entry, go));
        self.admit(state);
    }

    /// The number of commits that have entered, if none is inside. Between two equal answers no commit was inside.
    pub(super) fn quiet(&self) -> Option<u64> {
        let state = self.lock();
        (state.commits == 0).then_some(state.entered)
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits the waiting entries that may enter. Only one thread at a time does this. Otherwise commits that leave at
    /// once would call each other recursively.
    fn admit<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, GateState>) {
        if std::mem::replace(&mut state.is_admitting, true) {
            return;
        }
        while let Some((entry, go)) = state.next() {
            let clients = state.admit_entry(entry);
            let inside = Inside {
                gate: self.clone(),
                clients,
            };
            drop(state);
            // A panic drops `inside`, which leaves the gate. The other entries must not wait for ever.
            let _ = contain(|| go(inside));
            state = self.lock();
        }
        state.is_admitting = false;
    }
}

impl GateState {
    /// The first waiting entry that may enter. It overtakes no snapshot, and no commit of its own clients.
    fn next(&mut self) -> Option<(Entry, GateCallback)> {
        let mut ahead = HashSet::new();
        let mut found = None;
        for (at, (entry, _)) in self.waiting.iter().enumerate() {
            match entry {
                Entry::Snapshot => {
                    found = (ahead.is_empty() && self.admits_now(entry)).then_some(at);
                    break;
                }
                Entry::Commit(clients) => {
                    if self.admits_now(entry) && !clients.iter().any(|it| ahead.contains(it)) {
                        found = Some(at);
                        break;
                    }
                    ahead.extend(clients.iter().copied());
                }
            }
        }
        self.waiting.remove(found?)
    }

    fn admits_now(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Snapshot => self.commits == 0,
            Entry::Commit(clients) => {
                self.snapshots == 0 && !clients.iter().any(|it| self.clients.contains(it))
            }
        }
    }

    fn admit_entry(&mut self, entry: Entry) -> Option<Vec<ClientKey>> {
        match entry {
            Entry::Snapshot => {
                self.snapshots += 1;
                None
            }
            Entry::Commit(clients) => {
                self.commits += 1;
                self.entered += 1;
                self.clients.extend(&clients);
                Some(clients)
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // In a forked process, a thread that does not exist there may hold the lock (C7.5).
        if !self.gate.process.is_this() {
            return;
        }
        let mut state = self.gate.lock();
        match &self.clients {
            None => state.snapshots -= 1,
            Some(clients) => {
                state.commits -= 1;
                for client in clients {
                    state.clients.remove(client);
                }
            }
        }
        self.gate.admit(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    fn client(n: u8) -> ClientKey {
        ClientKey::from_bytes([n; 16])
    }

    struct Queue {
        gate: Arc<CommitGate>,
        tell: Sender<(&'static str, Inside)>,
        told: Receiver<(&'static str, Inside)>,
    }

    impl Queue {
        fn new() -> Self {
            let (tell, told) = channel();
            let gate = Arc::default();
            Self { gate, tell, told }
        }

        fn callback(&self, name: &'static str) -> GateCallback {
            let tell = self.tell.clone();
            Box::new(move |inside| tell.send((name, inside)).unwrap())
        }

        fn snapshot(&self, name: &'static str) {
            self.gate.enter_snapshot(self.callback(name));
        }

        fn commit(&self, name: &'static str, clients: &[u8]) {
            let clients = clients.iter().copied().map(client).collect();
            self.gate.enter_commit(clients, self.callback(name));
        }

        /// The entries that came in. Each leaves when its `Inside` is dropped.
        fn entered(&self) -> (Vec<&'static str>, Vec<Inside>) {
            self.told.try_iter().unzip()
        }
    }

    // C1.7
    #[test]
    fn snapshots_and_commits_are_never_inside_together_and_enter_in_order() {
        let queue = Queue::new();
        queue.snapshot("a");
        queue.snapshot("b");
        queue.commit("c", &[1]);
        queue.snapshot("d");
        let (names, first) = queue.entered();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(queue.gate.quiet(), Some(0));
        drop(first);
        let (names, second) = queue.entered();
        assert_eq!((names, queue.gate.quiet()), (vec!["c"], None));
        drop(second);
        assert_eq!(queue.entered().0, ["d"]);
        assert_eq!(queue.gate.quiet(), Some(1));
    }

    // C2.8
    #[test]
    fn a_client_who_must_wait_delays_nobody_else() {
        let queue = Queue::new();
        queue.commit("a", &[1]);
        queue.commit("a again", &[1, 2]);
        queue.commit("b", &[2]);
        queue.commit("c", &[3]);
        let (names, inside) = queue.entered();
        assert_eq!(names, ["a", "c"], "b comes after one of its client");
        queue.snapshot("s");
        queue.commit("d", &[4]);
        assert!(queue.entered().0.is_empty(), "nobody overtakes a snapshot");
        drop(inside);
        let (names, second) = queue.entered();
        assert_eq!(names, ["a again"]);
        drop(second);
        let (names, third) = queue.entered();
        assert_eq!(names, ["b"]);
        drop(third);
        let (names, snapshot) = queue.entered();
        assert_eq!(names, ["s"]);
        drop(snapshot);
        assert_eq!(queue.entered().0, ["d"]);
    }

    #[test]
    fn a_callback_that_panics_does_not_close_the_gate() {
        let queue = Queue::new();
        queue
            .gate
            .enter_commit(vec![client(1)], Box::new(|_| panic!("a recorder")));
        queue.commit("a", &[1]);
        assert_eq!(queue.entered().0, ["a"]);
    }

    #[test]
    fn commits_of_one_client_are_inside_one_after_the_other() {
        let queue = Queue::new();
        queue.commit("a", &[1, 2]);
        queue.commit("b", &[3]);
        queue.commit("c", &[2]);
        let (names, inside) = queue.entered();
        assert_eq!(names, ["a", "b"]);
        drop(inside);
        assert_eq!(queue.entered().0, ["c"]);
    }
}
