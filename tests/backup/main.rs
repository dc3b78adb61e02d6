//! C9.1: a backup that is taken while commits go on shows one commit's state, and a store restored from it has that
//! state.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod chains;
mod damage;
mod fixtures;
mod load;
#[path = "../support/mod.rs"]
mod support;
mod whole;

use cloakroom::{BackupProgress, ClientId, ErrorKind, Store, StoreBuilder, Txn};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use support::clock::clock;

fn builder() -> StoreBuilder {
    support::store::builder(&clock()).cache_size(4 << 20)
}

fn go_on(_: BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn store(&self) -> Store {
        builder().open(self.at("store")).unwrap()
    }

    fn restore<P: AsRef<Path>>(&self, chain: &[P]) -> Store {
        let to = self.at("restored");
        let _ = std::fs::remove_file(&to);
        Store::restore(chain, &to, go_on).unwrap();
        let store = builder().verify_on_open(true).open(&to).unwrap();
        assert!(store.check().unwrap().is_clean());
        store
    }
}

fn set(store: &Store, id: &ClientId, key: &str, value: impl serde::Serialize + Clone + Send) {
    let put = |txn: &Txn| txn.session(id)?.pkg("app").insert(key, value.clone());
    store.transact(put).unwrap();
}

/// What a store says of a client: its packages with their keys, its owner and its label.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Session {
        values: BTreeMap<(String, String), String>,
        owner: Option<String>,
        label: Option<String>,
        last_access: String,
    },
    /// The id was ended and is refused.
    Refused,
    None,
}

/// What a store says of an id, which it verifies anew.
fn shown(store: &Store, id: &ClientId) -> Shown {
    let id = store.client_ids().verify(id.as_str()).unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    if !session.exists().unwrap() {
        let put = session.pkg("app").insert("probe", 1);
        let founded = put.is_ok() && session.client_id().is_some_and(|it| it == id);
        assert!(!founded, "a dead id revives");
        return match put.and_then(|()| txn.commit()) {
            Err(error) if error.kind() == ErrorKind::Conflict => Shown::Refused,
            _ => Shown::None,
        };
    }
    let mut values = BTreeMap::new();
    for (package, key) in session.keys().unwrap() {
        let value: Option<serde_json::Value> = session.pkg(&package).get(&key).unwrap();
        values.insert((package, key), value.unwrap().to_string());
    }
    let info = store.session_info(id.key()).unwrap().unwrap();
    Shown::Session {
        values,
        owner: info.owner,
        label: info.label,
        last_access: format!("{:?}", info.last_access),
    }
}
