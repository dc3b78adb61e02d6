//! C1.7, C2.1, C2.14: a row reads the same wherever it lies.

use super::{TempStore, builder};
use crate::support::clock::clock;
use crate::support::store::keys_of;
use crate::support::visitors::{get, put};
use crate::support::wait::until;
use cloakroom::{
    ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, Store, StoreBuilder, Txn,
};
use std::time::Duration;

/// All that a reader can see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    values: Vec<(Option<u64>, Vec<String>)>,
    owned: [Vec<usize>; 2],
    statistics: [(u64, u64); 2],
}

const SESSIONS: usize = 12;

/// A store and the ids of its sessions, which differ from store to store.
struct House {
    store: Store,
    clock: Clock,
    ids: Vec<ClientId>,
}

impl House {
    fn new(builder: StoreBuilder, open: impl FnOnce(StoreBuilder) -> Store) -> Self {
        let clock = clock();
        let store = open(builder.clock(clock.clone()));
        let hour = Duration::from_secs(3600);
        let day = ContainerSettings::new().timeout(24 * hour);
        store.register("day", day).unwrap();
        let ids = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        Self { store, clock, ids }
    }

    /// One of many steps, each of which is a commit or more.
    fn step(&mut self, n: usize) {
        let at = |k: usize| n * 5 % SESSIONS + k;
        let id = self.ids[at(0) % SESSIONS].clone();
        let other = self.ids[at(3) % SESSIONS].clone();
        let mut fresh = None;
        match n % 8 {
            0..=2 => {
                let put = |txn: &Txn| {
                    let session = txn.session(&id)?;
                    session.pkg("p").insert("n", n)?;
                    session.pkg("day").insert(&format!("k{}", n % 5), n)?;
                    session.set_owner(Some(["ann", "ben"][n % 2]))
                };
                if self.lives(&id) || n < 2 * SESSIONS {
                    drop(self.store.transact(put));
                }
            }
            3 => {
                let change = |txn: &Txn| {
                    txn.session(&other)?.pkg("p").remove("n")?;
                    txn.session(&other)?.pkg("day").clear()
                };
                drop(self.store.transact(change));
            }
            4 if self.lives(&other) => {
                let end = |txn: &Txn| txn.session(&other)?.destroy();
                self.store.transact(end).unwrap();
            }
            5 if self.lives(&id) => {
                let rotate = |txn: &Txn| txn.session(&id)?.rotate();
                fresh = Some((at(0) % SESSIONS, self.store.transact(rotate).unwrap()));
            }
            6 if self.lives(&id) => {
                let disown = |txn: &Txn| txn.session(&id)?.set_owner(None);
                self.store.transact(disown).unwrap();
            }
            7 => {
                self.clock.advance(Duration::from_secs(700));
                for name in ["", "day"] {
                    self.store.container(name).unwrap().sweep().unwrap();
                }
                // New ones in the place of those that ended.
                let ids: Vec<_> = (0..SESSIONS)
                    .filter(|n| !self.lives(&self.ids[*n]))
                    .collect();
                if let Some(at) = ids.first() {
                    fresh = Some((*at, self.store.client_ids().issue()));
                    let id = &fresh.as_ref().unwrap().1;
                    let put = |txn: &Txn| txn.session(id)?.pkg("p").insert("n", n);
                    self.store.transact(put).unwrap();
                }
            }
            _ => {}
        }
        if let Some((at, id)) = fresh {
            self.ids[at] = id;
        }
    }

    fn lives(&self, id: &ClientId) -> bool {
        let txn = self.store.begin().unwrap();
        txn.session(id).unwrap().exists().unwrap()
    }

    fn see(&self) -> Seen {
        let values = |id: &ClientId| {
            let txn = self.store.begin().unwrap();
            let session = txn.session(id).unwrap();
            let n = session.pkg("p").get("n").unwrap();
            (n, session.pkg("day").keys().unwrap())
        };
        let keys: Vec<ClientKey> = self.ids.iter().map(ClientId::key).collect();
        let owned = |owner: &str| {
            let owned = keys_of(&self.store, owner);
            let place = |key: &ClientKey| keys.iter().position(|k| k == key).unwrap();
            let mut owned: Vec<usize> = owned.iter().map(place).collect();
            owned.sort_unstable();
            owned
        };
        let statistics = |name: &str| {
            let found = self.store.container(name).unwrap().statistics().unwrap();
            (found.live, found.expired)
        };
        Seen {
            values: self.ids.iter().map(values).collect(),
            owned: ["ann", "ben"].map(owned),
            statistics: ["", "day"].map(statistics),
        }
    }
}

// C1.7, C1.9, C3.7
#[test]
fn sessions_are_seen_the_same_in_whatever_layer_their_rows_are() {
    let place = TempStore::new();
    let mut file = House::new(builder(), |builder| builder.open(place.path()).unwrap());
    let mut memory = House::new(builder(), |builder| builder.in_memory().unwrap());
    let mut seen = Vec::new();
    for n in 0..300 {
        file.step(n);
        memory.step(n);
        if n % 11 == 0 {
            file.store.checkpoint().unwrap();
        }
        let there = file.see();
        assert_eq!(there, memory.see(), "after step {n}");
        seen.push(there);
    }
    assert!(
        seen.iter()
            .any(|seen| seen.owned.iter().all(|o| o.len() > 1))
    );
    assert!(file.store.check().unwrap().is_clean());
}

// C2.1
#[test]
fn a_snapshot_reads_its_state_across_checkpoints() {
    let place = TempStore::new();
    let store = place.open();
    let ids: Vec<_> = (0..4).map(|_| store.client_ids().issue()).collect();
    put(&store, &ids[0], 1);
    put(&store, &ids[3], 1);
    store.checkpoint().unwrap();
    put(&store, &ids[1], 1);
    let own = |owner| move |txn: &Txn, id: &ClientId| txn.session(id)?.set_owner(owner);
    store
        .transact(|txn| own(Some("ann"))(txn, &ids[0]))
        .unwrap();
    let held = store.begin().unwrap();
    assert!(held.session(&ids[0]).unwrap().exists().unwrap());
    for n in 2..4 {
        // More than once, so that a row has versions that nobody reads.
        for value in [n + 20, n + 10, n] {
            ids[..3].iter().for_each(|id| put(&store, id, value));
        }
        store.checkpoint().unwrap();
    }
    store.transact(|txn| own(None)(txn, &ids[0])).unwrap();
    store
        .transact(|txn| txn.session(&ids[3])?.destroy())
        .unwrap();
    store.checkpoint().unwrap();
    let session = |n: usize| held.session(&ids[n]).unwrap();
    for (n, expected) in [Some(1), Some(1), None, Some(1)].into_iter().enumerate() {
        let found: Option<u64> = session(n).pkg("p").get("n").unwrap();
        assert_eq!(found, expected, "{n}");
        assert_eq!(session(n).exists().unwrap(), expected.is_some());
    }
    assert_eq!(session(0).pkg("p").keys().unwrap(), ["n"]);
    drop(held);
    assert_eq!(get(&store, &ids[1]), Some(3));
    assert_eq!(get(&store, &ids[3]), None);
}

// C2.14
#[test]
fn a_snapshot_whose_rows_are_in_the_journal_is_too_old_after_its_time() {
    let place = TempStore::new();
    let clock = clock();
    let age = Duration::from_secs(30);
    let builder = builder().clock(clock.clone()).snapshot_max_age(age);
    let store = builder.open(place.path()).unwrap();
    let [read, unread] = [(); 2].map(|()| store.client_ids().issue());
    put(&store, &read, 1);
    put(&store, &unread, 1);
    let held = store.begin().unwrap();
    let value = |id: &ClientId| held.session(id)?.pkg("p").get::<u64>("n");
    assert_eq!(value(&read).unwrap(), Some(1));
    put(&store, &unread, 2);
    clock.advance(age - Duration::from_secs(1));
    put(&store, &unread, 3);
    assert_eq!(store.statistics().unwrap().held_snapshots(), 1);
    clock.advance(Duration::from_secs(2));
    until("the snapshot is let go", || {
        store.statistics().unwrap().held_snapshots() == 0
    });
    assert_eq!(value(&read).unwrap(), Some(1));
    let error = value(&unread).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}");
    assert_eq!(get(&store, &unread), Some(3));
}
