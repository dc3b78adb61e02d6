//! Lets the commits of one process that go behind the lock of a client's row go one after the other, so that they do not all
//! keep a connection while they wait for the same lock. Commits whose outcome is not known go first: the others would
//! replace the versions by which their outcome is found out. Knows no server.

use super::shared::lock;
use crate::client_id::ClientKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

#[derive(Debug, Default)]
pub(super) struct ClientGates(Mutex<GateTable>);

#[derive(Debug, Default)]
struct GateTable {
    clients: HashMap<ClientKey, ClientGate>,
    waiting: BTreeMap<GatePlace, WaitingEntry>,
    arrived: u64,
}

/// The gate of a client. There is none if nobody holds it or waits at it.
#[derive(Debug, Default)]
struct ClientGate {
    is_held: bool,
    /// How many commits there are whose outcome is not known, whether they wait or not.
    lost: usize,
    waiting: BTreeSet<GatePlace>,
}

/// A place among those that wait: those that look up a lost commit come first, then all in the order in which they came.
type GatePlace = (GatePass, u64);

#[derive(Debug)]
struct WaitingEntry {
    clients: BTreeSet<ClientKey>,
    enter: oneshot::Sender<GateHold>,
}

/// What a commit goes behind the locks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GatePass {
    /// To find out what became of an earlier attempt.
    LookUp,
    Commit,
}

/// The right to be the only commit of this process behind the locks of these clients' rows. Dropping it ends it.
#[derive(Debug)]
pub(super) struct GateHold {
    /// `None`: it has no effect.
    gates: Option<Arc<ClientGates>>,
    clients: BTreeSet<ClientKey>,
}

/// A commit that waits. Dropping it ends that.
struct GateWait<'a> {
    gates: &'a Arc<ClientGates>,
    place: GatePlace,
}

/// While it lasts, other commits of these clients wait until what became of a lost one is known.
#[derive(Debug)]
pub(super) struct LostMark {
    gates: Arc<ClientGates>,
    clients: BTreeSet<ClientKey>,
}

impl GateTable {
    /// Whether nobody is before this place at the gates of its clients.
    fn admits(&self, (pass, arrived): GatePlace, clients: &BTreeSet<ClientKey>) -> bool {
        let mut gates = clients.iter().filter_map(|it| self.clients.get(it));
        gates.all(|gate| {
            !gate.is_held
                && gate.waiting.first() == Some(&(pass, arrived))
                && (pass == GatePass::LookUp || gate.lost == 0)
        })
    }

    /// Takes a place away. Returns who waited there.
    fn leave(&mut self, place: GatePlace) -> Option<WaitingEntry> {
        let entry = self.waiting.remove(&place)?;
        for client in &entry.clients {
            if let Some(gate) = self.clients.get_mut(client) {
                gate.waiting.remove(&place);
            }
        }
        Some(entry)
    }

    fn change(&mut self, clients: &BTreeSet<ClientKey>, change: impl Fn(&mut ClientGate)) {
        for client in clients {
            if let Some(gate) = self.clients.get_mut(client) {
                change(gate);
            }
        }
    }
}

impl ClientGates {
    /// Whether what became of a commit of this client is not known.
    pub(super) fn has_lost(&self, client: ClientKey) -> bool {
        let table = lock(&self.0);
        table.clients.get(&client).is_some_and(|gate| gate.lost > 0)
    }

    /// Notes that what became of a commit of these clients is not known.
    pub(super) fn mark_lost(self: &Arc<Self>, clients: BTreeSet<ClientKey>) -> LostMark {
        let mut table = lock(&self.0);
        for client in &clients {
            table.clients.entry(*client).or_default().lost += 1;
        }
        drop(table);
        let gates = self.clone();
        LostMark { gates, clients }
    }

    /// Waits until no other commit is behind the locks of these clients. `None`: they have not ended until this moment. It
    /// enters all gates at once. So what waits keeps nobody out who looks up a lost commit, and none waits for another in a
    /// circle.
    pub(super) async fn enter(
        self: &Arc<Self>,
        clients: impl IntoIterator<Item = ClientKey>,
        pass: GatePass,
        until: Instant,
    ) -> Option<GateHold> {
        let (place, entered) = self.wait_at(clients.into_iter().collect(), pass);
        let _waiting = GateWait { gates: self, place };
        timeout_at(until, entered).await.ok()?.ok()
    }

    fn wait_at(
        self: &Arc<Self>,
        clients: BTreeSet<ClientKey>,
        pass: GatePass,
    ) -> (GatePlace, oneshot::Receiver<GateHold>) {
        let (enter, entered) = oneshot::channel();
        let mut table = lock(&self.0);
        table.arrived += 1;
        let place = (pass, table.arrived);
        for client in &clients {
            let gate = table.clients.entry(*client).or_default();
            gate.waiting.insert(place);
        }
        let mine = clients.clone();
        table.waiting.insert(place, WaitingEntry { clients, enter });
        drop(table);
        self.admit(&mine);
        (place, entered)
    }

    /// Lets in who may enter now that something has changed at these gates.
    fn admit(self: &Arc<Self>, changed: &BTreeSet<ClientKey>) {
        let mut table = lock(&self.0);
        let mut changed: Vec<_> = changed.iter().copied().collect();
        while let Some(client) = changed.pop() {
            let gate = table.clients.get(&client);
            let first = gate.and_then(|gate| gate.waiting.first().copied());
            let entry = first.and_then(|place| Some((place, table.waiting.get(&place)?)));
            if let Some((place, entry)) = entry
                && table.admits(place, &entry.clients)
                && let Some(WaitingEntry { clients, enter }) = table.leave(place)
            {
                table.change(&clients, |gate| gate.is_held = true);
                let gates = Some(self.clone());
                if let Err(mut refused) = enter.send(GateHold { gates, clients }) {
                    // It waits no longer. Ending its hold would take this lock.
                    refused.gates = None;
                    table.change(&refused.clients, |gate| gate.is_held = false);
                    changed.extend(&refused.clients);
                }
            }
            if let Some(gate) = table.clients.get(&client)
                && !gate.is_held
                && gate.lost == 0
                && gate.waiting.is_empty()
            {
                table.clients.remove(&client);
            }
        }
    }
}

impl Drop for GateWait<'_> {
    fn drop(&mut self) {
        let left = lock(&self.gates.0).leave(self.place);
        if let Some(entry) = left {
            self.gates.admit(&entry.clients);
        }
    }
}

impl Drop for GateHold {
    fn drop(&mut self) {
        let Some(gates) = self.gates.take() else {
            return;
        };
        lock(&gates.0).change(&self.clients, |gate| gate.is_held = false);
        gates.admit(&self.clients);
    }
}

impl Drop for LostMark {
    fn drop(&mut self) {
        let mut table = lock(&self.gates.0);
        table.change(&self.clients, |gate| gate.lost -= 1);
        drop(table);
        self.gates.admit(&self.clients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use std::time::Duration;

    fn clients(all: &[u8]) -> BTreeSet<ClientKey> {
        let all = all.iter().map(|n| ClientKey::from_bytes([*n; 16]));
        all.collect()
    }

    type Entered = oneshot::Receiver<GateHold>;

    fn come(gates: &Arc<ClientGates>, all: &[u8], pass: GatePass) -> Entered {
        gates.wait_at(clients(all), pass).1
    }

    fn commit(gates: &Arc<ClientGates>, all: &[u8]) -> Entered {
        come(gates, all, GatePass::Commit)
    }

    /// Whether a commit has come in. It stays inside.
    fn is_in(entered: &mut Entered) -> bool {
        entered.try_recv().map(std::mem::forget).is_ok()
    }

    fn is_idle(gates: &ClientGates) -> bool {
        let table = lock(&gates.0);
        table.clients.is_empty() && table.waiting.is_empty()
    }

    // C2.10, C10.2
    #[test]
    fn one_commit_of_a_client_is_inside_and_lost_ones_come_first() {
        let gates = Arc::<ClientGates>::default();
        let inside = block_on(commit(&gates, &[1])).unwrap();
        let [mut second, mut third] = [(); 2].map(|()| commit(&gates, &[1]));
        drop(block_on(commit(&gates, &[2])).unwrap());
        let lost = gates.mark_lost(clients(&[1]));
        let [one, two] = [1, 2].map(|n| ClientKey::from_bytes([n; 16]));
        assert!(gates.has_lost(one) && !gates.has_lost(two));
        let looking = come(&gates, &[1], GatePass::LookUp);
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
        assert!(is_idle(&gates), "nothing is left");
    }

    // C10.2: a commit that waits for what became of a lost one keeps nobody out who looks that up.
    #[test]
    fn a_commit_that_waits_for_lost_ones_is_inside_no_gate() {
        let gates = Arc::<ClientGates>::default();
        let first = gates.mark_lost(clients(&[2, 3]));
        let second = gates.mark_lost(clients(&[4, 5]));
        let mut between = commit(&gates, &[1, 2, 4]);
        assert!(!is_in(&mut between));
        drop(block_on(come(&gates, &[1, 2, 3], GatePass::LookUp)).unwrap());
        drop(block_on(come(&gates, &[1, 4, 5], GatePass::LookUp)).unwrap());
        drop(first);
        assert!(!is_in(&mut between));
        drop(second);
        drop(block_on(between).unwrap());
        assert!(is_idle(&gates));
    }

    // C2.10: none is overtaken by commits that need fewer gates.
    #[test]
    fn commits_of_several_clients_enter_in_their_turn() {
        let gates = Arc::<ClientGates>::default();
        let inside = block_on(commit(&gates, &[2])).unwrap();
        let mut both = commit(&gates, &[1, 2]);
        let mut late = commit(&gates, &[1]);
        assert!(!is_in(&mut both) && !is_in(&mut late));
        drop(inside);
        let both = block_on(both).unwrap();
        assert!(!is_in(&mut late));
        drop(both);
        drop(block_on(late).unwrap());
        assert!(is_idle(&gates));
    }

    // C10.2: a commit that is given up keeps nobody out.
    #[test]
    fn who_waits_no_longer_is_passed_over() {
        let gates = Arc::<ClientGates>::default();
        let inside = block_on(commit(&gates, &[1])).unwrap();
        let given_up = commit(&gates, &[1, 2]);
        let let_in = commit(&gates, &[1]);
        let mut last = commit(&gates, &[1, 2]);
        drop(given_up);
        drop(inside);
        assert!(!is_in(&mut last));
        // It was let in and never noticed.
        drop(let_in);
        drop(block_on(last).unwrap());
        assert!(is_idle(&gates));
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
            let later = Instant::now() + Duration::from_secs(60);
            let enter = |all, until| gates.enter(clients(all), GatePass::Commit, until);
            let inside = enter(&[2], later).await.unwrap();
            assert!(enter(&[1, 2], Instant::now()).await.is_none());
            drop(enter(&[1], later).await.unwrap());
            let (entered, ()) = tokio::join!(enter(&[1, 2], later), async { drop(inside) });
            drop(entered.unwrap());
            assert!(is_idle(&gates));
        });
    }
}
