//! C5.4: damage anywhere in a file is found and named at the opening and later, and the readable rest can be salvaged
//! into a new store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod journals;
mod pages;
mod refusals;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, ClientKey, ContainerSettings, Salvage, Store, StoreBuilder};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::clock::clock;

const PAGE: usize = 4096;
const SESSIONS: usize = 200;

fn builder() -> StoreBuilder {
    support::store::builder(&clock()).cache_size(1 << 20)
}

/// A store that was closed in order, and the ids of its sessions.
struct House {
    folder: tempfile::TempDir,
    image: Vec<u8>,
    ids: Vec<String>,
    ended: String,
}

fn value(n: usize) -> String {
    format!("the value of session {n}, and of no other;")
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        let store = builder().open(&path).unwrap();
        let minute = Duration::from_secs(60);
        let settings = ContainerSettings::new().timeout(minute);
        store.register("short", settings).unwrap();
        store.rotate_secret().unwrap();
        let txn = store.begin().unwrap();
        let mut ids: Vec<ClientId> = Vec::new();
        for n in 0..SESSIONS {
            let id = store.client_ids().issue();
            let session = txn.session(&id).unwrap();
            session.pkg("app").insert("value", value(n)).unwrap();
            session.pkg("short").insert("n", n as u64).unwrap();
            if n.is_multiple_of(2) {
                session.set_owner(Some("ann")).unwrap();
            }
            ids.push(id);
        }
        txn.commit().unwrap();
        let ended = ids.pop().unwrap();
        let txn = store.begin().unwrap();
        txn.session(&ended).unwrap().destroy().unwrap();
        txn.commit().unwrap();
        store.close().unwrap();
        Self {
            image: std::fs::read(&path).unwrap(),
            ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
            ended: ended.as_str().to_owned(),
            folder,
        }
    }

    fn place(&self, name: &str, image: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, image).unwrap();
        path
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("to")
    }

    /// The image, with something done to every page of it that `is` one. Older versions of the page may
    /// lie about.
    fn with(&self, is: impl Fn(&[u8]) -> bool, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut image = self.image.clone();
        let mut any = false;
        for page in image.chunks_mut(PAGE).skip(1).filter(|page| is(page)) {
            change(page);
            any = true;
        }
        assert!(any);
        image
    }

    fn salvage(&self, image: &[u8]) -> Salvage {
        let from = self.place("from", image);
        let report = builder().salvage(&from, self.to()).unwrap();
        assert_eq!(std::fs::read(&from).unwrap(), image);
        report
    }

    /// The sessions that have their value; the others read empty.
    fn read(&self, store: &Store) -> BTreeSet<usize> {
        let mut there = BTreeSet::new();
        for (n, id) in self.ids.iter().enumerate() {
            let id = store.client_ids().verify(id).unwrap();
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            match session.pkg("app").get::<String>("value").unwrap() {
                Some(found) if found == value(n) => drop(there.insert(n)),
                Some(_) => panic!("another value"),
                None => {}
            }
        }
        there
    }

    fn key(&self, n: usize) -> ClientKey {
        key_of(&self.folder.path().join("base"), &self.ids[n])
    }
}

fn key_of(path: &Path, id: &str) -> ClientKey {
    let store = builder().open(path).unwrap();
    store.client_ids().verify(id).unwrap().key()
}

fn contains(page: &[u8], text: &[u8]) -> bool {
    page.windows(text.len()).any(|part| part == text)
}

fn open_salvaged(house: &House) -> Store {
    builder().verify_on_open(true).open(house.to()).unwrap()
}

#[cfg(unix)]
fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Without an end to this test, it would hang.
#[cfg(unix)]
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    let long = std::time::Duration::from_secs(60);
    told.recv_timeout(long).expect("it hangs")
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
