//! C2.2, C7.2, C7.3: the promises of the journal beside a store's file: which files there are, what a kill leaves, what
//! is refused, what bounds it, and that a row reads the same wherever it lies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bounds;
mod damage;
mod kills;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod views;

use cloakroom::{ClientId, ErrorKind, Store, StoreBuilder, Txn};
use std::path::PathBuf;
use std::time::Duration;
use support::files::{self, Image};
use support::store::file_builder;
use support::visitors::put;
use tempfile::TempDir;

const FRAMES: usize = 8192;
const SECTOR: usize = 512;
const NEVER: Duration = Duration::from_secs(1 << 30);

fn builder() -> StoreBuilder {
    file_builder().checkpoint_interval(NEVER)
}

/// A folder for a store.
struct TempStore(TempDir);

impl TempStore {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn open(&self) -> Store {
        builder().open(self.path()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        files::names(self.0.path())
    }

    /// The files in the folder. Of an idle open store, they are the files that a kill would leave.
    fn image(&self) -> Image {
        files::image(self.0.path())
    }

    /// Leaves nothing but the image.
    fn restore(&self, image: &Image) {
        files::restore(self.0.path(), image);
    }

    /// Refuses the image as damaged, names the file at fault, and leaves all as it was.
    fn assert_refused(&self, image: &Image, file: &str) {
        self.restore(image);
        for verify in [false, true] {
            let error = builder().verify_on_open(verify).open(self.path());
            let error = error.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let path = self.0.path().join(file);
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(self.image() == *image, "a refusal changed something");
        }
    }
}

/// The file of the journal that is written, in what a kill left.
fn active(image: &Image) -> String {
    let journals = image.keys().filter(|name| name.contains(".journal-"));
    let active = journals.max_by_key(|name| frames(&image[*name]).len());
    active.unwrap().clone()
}

fn journals(image: &Image) -> Vec<String> {
    let names = image.keys().filter(|name| name.contains(".journal-"));
    names.cloned().collect()
}

/// Where the frames of a journal file begin, of its present use.
fn frames(file: &[u8]) -> Vec<usize> {
    let salt = |at: usize| &file[at + 8..at + 16];
    let mut frames = Vec::new();
    let mut at = FRAMES;
    while file[at..].starts_with(b"CLOK") && salt(at) == salt(FRAMES) {
        frames.push(at);
        let len = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap());
        at = (at + 24 + len as usize).next_multiple_of(SECTOR);
    }
    frames
}

/// What a kill leaves of a store with a session that was set to 1, 2 and 3, each in a group of its own.
fn killed(place: &TempStore) -> (Image, ClientId) {
    let store = place.open();
    let id = store.client_ids().issue();
    (1..=3).for_each(|n| put(&store, &id, n));
    let image = place.image();
    assert_eq!(frames(&image[&active(&image)]).len(), 3);
    (image, id)
}

/// Sets many sessions to many values. Returns the final ones.
fn fill(store: &Store, ids: &[ClientId], mut each: impl FnMut(&Store)) -> Vec<String> {
    let mut values = vec![String::new(); ids.len()];
    for n in 0..400 {
        let at = n * 7 % ids.len();
        values[at] = format!("{n} {}", "x".repeat(n * 13 % 5000));
        let put = |txn: &Txn| txn.session(&ids[at])?.pkg("p").insert("text", &values[at]);
        store.transact(put).unwrap();
        each(store);
    }
    values
}

fn contains(image: &Image, text: &str) -> bool {
    let file = &image["store"];
    file.windows(text.len()).any(|part| part == text.as_bytes())
}
