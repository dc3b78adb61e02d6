//! What the threads of one run share: stores, clients, values that are given out once.

use super::model::{Name, Tick};
use cloakroom::{ClientId, Store};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Packages, in containers of their own but for the first; "cache" lives in memory.
pub(super) const PACKAGES: [&str; 3] = ["shop", "bank", "cache"];
/// A counter is out of bits after that many additions.
const BITS: u32 = 62;

/// A key that comes and goes: whose, in what package, what key.
pub(super) type FlagKey = (usize, &'static str, String);

/// Whose session it is, and by what name the history knows it.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) id: ClientId,
}

/// What the threads of one run share.
pub(super) struct World {
    /// Of the same server, or only one.
    stores: Vec<Store>,
    /// Sessions that stay.
    pub(super) lasting: Vec<Client>,
    /// Sessions that are not there at first.
    pub(super) visitors: Vec<Client>,
    /// Sessions that somebody ends.
    pub(super) ending: Vec<Client>,
    ticks: AtomicU64,
    values: AtomicU64,
    bits: Mutex<BTreeMap<Name, u32>>,
    /// Flags that were up at some time.
    flags: Mutex<Vec<FlagKey>>,
}

impl World {
    pub(super) fn new(stores: Vec<Store>, counts: [usize; 3]) -> Self {
        let [lasting, visitors, ending] = counts;
        let store = &stores[0];
        let fresh = |kind: &str, count: usize| -> Vec<Client> {
            let name = |n| format!("{kind}{n}");
            let id = || store.client_ids().issue();
            (0..count)
                .map(|n| Client {
                    name: name(n),
                    id: id(),
                })
                .collect()
        };
        let lasting = fresh("resident", lasting);
        let visitors = fresh("visitor", visitors);
        let ending = fresh("mortal", ending);
        Self {
            lasting,
            visitors,
            ending,
            stores,
            ticks: AtomicU64::new(0),
            values: AtomicU64::new(1),
            bits: Mutex::default(),
            flags: Mutex::default(),
        }
    }

    /// The store of a thread.
    pub(super) fn store(&self, thread: usize) -> &Store {
        &self.stores[thread % self.stores.len()]
    }

    pub(super) fn is_of_several(&self) -> bool {
        self.stores.len() > 1
    }

    /// After that a mortal's id is known from a cookie only, so that nothing is founded under it again.
    pub(super) fn forget_that_ids_are_fresh(&mut self) {
        for mortal in &mut self.ending {
            let known = self.stores[0].client_ids().verify(mortal.id.as_str());
            mortal.id = known.unwrap();
        }
    }

    pub(super) fn tick(&self) -> Tick {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody else writes.
    pub(super) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// A power of two that nobody else adds to this counter, while there are any.
    pub(super) fn bit(&self, name: &Name) -> Option<u64> {
        let mut bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        let next = bits.entry(name.clone()).or_insert(0);
        let bit = (*next < BITS).then(|| 1 << *next);
        *next += 1;
        bit
    }

    /// Lets others take these flags down.
    pub(super) fn offer(&self, raised: Vec<FlagKey>) {
        let mut flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        flags.extend(raised);
    }

    /// A flag that was up at some time.
    pub(super) fn any_flag(&self, rng: &mut Rng) -> Option<FlagKey> {
        let flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        rng.choice(flags.iter()).cloned()
    }
}

/// Whether a client's session is there, as a flag.
pub(super) fn existence(client: &Client) -> Name {
    format!("{}/exists", client.name).into()
}
