//! Lets the commits of one process that go behind the lock of a client's row go one after the other, so that they do not all
//! keep a connection while they wait for the same lock. Commits whose outcome is not known go first: the others would
//! replace the versions by which their outcome is found out. Knows no server.

use super::shared::lock;
use crate::client_id::ClientKey;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

#[derive(Debug, Default)]
pub(super) struct ClientGates(Mutex<HashMap<ClientKey, ClientGate>>);

/// The gate of a client. There is none if nobody holds it or waits at it.
#[derive(Debug, Default)]
struct ClientGate {
    is_held: bool,
    /// How many commits there are whose outcome is not known, whether they wait or not.
    lost: usize,
    /// Those that look up a lost commit.
    first: VecDeque<oneshot::Sender<GateHold>>,
    others: VecDeque<oneshot::Sender<GateHold>>,
}

/// What a commit goes behind the locks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GatePass {
    /// To find out what became of an earlier attempt.
    LookUp,
    Commit,
}

/// The right to be the only commit of this process behind the lock of a client's row. Dropping it ends it.
#[derive(Debug)]
pub(super) struct GateHold {
    /// `None`: it has no effect.
    gates: Option<Arc<ClientGates>>,
    client: ClientKey,
}

/// While it lasts, other commits of these clients wait until what became of a lost one is known.
#[derive(Debug)]
pub(super) struct LostMark {
    gates: Arc<ClientGates>,
    clients: BTreeSet<ClientKey>,
}

impl ClientGates {
    /// Whether what became of a commit of this client is not known.
    pub(super) fn has_lost(&self, client: ClientKey) -> bool {
        lock(&self.0).get(&client).is_some_and(|gate| gate.lost > 0)
    }

    /// Notes that what became of a commit of these clients is not known.
    pub(super) fn mark_lost(self: &Arc<Self>, clients: BTreeSet<ClientKey>) -> LostMark {
        let mut gates = lock(&self.0);
        for client in &clients {
            gates.entry(*client).or_default().lost += 1;
        }
        drop(gates);
        let gates = self.clone();
        LostMark { gates, clients }
    }

    /// Waits until no other commit is behind the locks of these clients. `None`: they have not ended until this moment. All
    /// wait in the order of the keys, so that none waits for another in a circle.
    pub(super) async fn enter(
        self: &Arc<Self>,
        clients: impl IntoIterator<Item = ClientKey>,
        pass: GatePass,
        until: Instant,
    ) -> Option<Vec<GateHold>> {
        let clients: BTreeSet<_> = clients.into_iter().collect();
        let mut holds = Vec::with_capacity(clients.len());
        for client in clients {
            let entered = self.wait_at(client, pass);
            holds.push(timeout_at(until, entered).await.ok()?.ok()?);
        }
        Some(holds)
    }

    fn wait_at(self: &Arc<Self>, client: ClientKey, pass: GatePass) -> oneshot::Receiver<GateHold> {
        let (enter, entered) = oneshot::channel();
        let mut gates = lock(&self.0);
        let gate = gates.entry(client).or_default();
        match pass {
            GatePass::LookUp => gate.first.push_back(enter),
            GatePass::Commit => gate.others.push_back(enter),
        }
        drop(gates);
        self.admit(client);
        entered
    }

    /// Lets the next one in, if nobody is inside.
    fn admit(self: &Arc<Self>, client: ClientKey) {
        let mut gates = lock(&self.0);
        let Some(gate) = gates.get_mut(&client) else {
            return;
        };
        while !gate.is_held {
            let next = match gate.first.pop_front() {
                None if gate.lost == 0 => gate.others.pop_front(),
                next => next,
            };
            let Some(next) = next else { break };
            gate.is_held = true;
            let hold = GateHold {
                gates: Some(self.clone()),
                client,
            };
            if let Err(mut refused) = next.send(hold) {
                // It waits no longer. Ending its hold would take this lock.
                refused.gates = None;
                gate.is_held = false;
            }
        }
        let is_idle = !gate.is_held && gate.lost == 0;
        if is_idle && gate.first.is_empty() && gate.others.is_empty() {
            gates.remove(&client);
        }
    }
}

impl Drop for GateHold {
    fn drop(&mut self) {
        let Some(gates) = self.gates.take() else {
            return;
        };
        if let Some(gate) = lock(&gates.0).get_mut(&self.client) {
            gate.is_held = false;
        }
        gates.admit(self.client);
    }
}

impl Drop for LostMark {
    fn drop(&mut self) {
        for client in &self.clients {
            if let Some(gate) = lock(&self.gates.0).get_mut(client) {
                gate.lost -= 1;
            }
            self.gates.admit(*client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use std::pin::Pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    fn client(n: u8) -> ClientKey {
        ClientKey::from_bytes([n; 16])
    }

    type Entered = Pin<Box<dyn Future<Output = Option<Vec<GateHold>>>>>;

    /// Whether a commit has come in.
    fn is_in(entered: &mut oneshot::Receiver<GateHold>) -> bool {
        match entered.try_recv() {
            // It stays inside.
            Ok(hold) => {
                std::mem::forget(hold);
                true
            }
            Err(_) => false,
        }
    }

    // C2.10, C10.2
    #[test]
    fn one_commit_of_a_client_is_inside_and_lost_ones_come_first() {
        let gates = Arc::<ClientGates>::default();
        let inside = block_on(gates.wait_at(client(1), GatePass::Commit)).unwrap();
        let [mut second, mut third] = [(); 2].map(|()| gates.wait_at(client(1), GatePass::Commit));
        assert!(
            is_in(&mut gates.wait_at(client(2), GatePass::Commit)),
            "of another"
        );
        let lost = gates.mark_lost(BTreeSet::from([client(1)]));
        assert!(gates.has_lost(client(1)) && !gates.has_lost(client(2)));
        let looking = gates.wait_at(client(1), GatePass::LookUp);
        drop(inside);
        assert!(!is_in(&mut second));
        let looking = block_on(looking).unwrap();
        drop(looking);
        assert!(!is_in(&mut second), "there is another that is lost");
        drop(lost);
        let second = block_on(second).unwrap();
        assert!(!is_in(&mut third));
        drop(second);
        drop(block_on(third).unwrap());
        assert!(!lock(&gates.0).contains_key(&client(1)), "nothing is left");
    }

    // C10.2: a commit that is given up keeps nobody out.
    #[test]
    fn who_waits_no_longer_is_passed_over() {
        let gates = Arc::<ClientGates>::default();
        let inside = block_on(gates.wait_at(client(1), GatePass::Commit)).unwrap();
        let given_up = gates.wait_at(client(1), GatePass::Commit);
        let let_in = gates.wait_at(client(1), GatePass::Commit);
        let mut last = gates.wait_at(client(1), GatePass::Commit);
        drop(given_up);
        drop(inside);
        assert!(!is_in(&mut last));
        // It was let in and never noticed.
        drop(let_in);
        drop(block_on(last).unwrap());
        assert!(lock(&gates.0).is_empty());
    }

    // C10.2
    #[test]
    fn waiting_has_an_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let gates = Arc::<ClientGates>::default();
            let both = [client(2), client(1)];
            let until = Instant::now() + Duration::from_secs(60);
            let inside = gates
                .enter([client(2)], GatePass::Commit, until)
                .await
                .unwrap();
            let late = gates.enter(both, GatePass::Commit, Instant::now());
            assert!(late.await.is_none());
            let mut entered: Entered = Box::pin({
                let gates = gates.clone();
                async move { gates.enter(both, GatePass::Commit, until).await }
            });
            let mut context = Context::from_waker(Waker::noop());
            assert!(entered.as_mut().poll(&mut context).is_pending());
            drop(inside);
            assert_eq!(entered.await.unwrap().len(), 2);
            assert!(lock(&gates.0).is_empty());
        });
    }
}
