//! C4.2: the store tells when each of its secrets was made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use chrono::{DateTime, Utc};
use cloakroom::{Clock, Store};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use support::clock::{HOUR, clock};
use support::engine::needs_files;
use support::store::place;

fn open(path: &Path, clock: &Clock) -> Store {
    let builder = Store::builder().clock(clock.clone());
    builder.implicit_sweeps(false).open(path).unwrap()
}

/// Name and age of each secret.
fn secrets(store: &Store) -> Vec<(u8, Option<DateTime<Utc>>)> {
    let secrets = store.secrets().unwrap().into_iter();
    secrets.map(|it| (it.name, it.created)).collect()
}

#[test]
fn the_age_of_a_secret_goes_wherever_the_store_goes() {
    needs_files!("it is about the file");
    let (folder, path) = place();
    let clock = clock();
    let made = clock.now();
    let store = open(&path, &clock);
    assert_eq!(secrets(&store), [(0, Some(made))]);
    clock.advance(HOUR);
    let rotated = clock.now();
    store.rotate_secret().unwrap();
    let expected = [(0, Some(made)), (1, Some(rotated))];
    assert_eq!(secrets(&store), expected);
    clock.advance(HOUR);

    let backup = folder.path().join("backup");
    store
        .backup(&backup, |_| ControlFlow::Continue(()))
        .unwrap();
    store.close().unwrap();
    let restored = folder.path().join("restored");
    Store::restore([&backup], &restored, |_| ControlFlow::Continue(())).unwrap();
    let salvaged = folder.path().join("salvaged");
    assert!(
        Store::builder()
            .salvage(&path, &salvaged)
            .unwrap()
            .is_whole()
    );
    let compact = Store::builder().compact(&path, |_| ControlFlow::Continue(()));
    compact.unwrap();
    for path in [&restored, &salvaged, &path] {
        let store = open(path, &clock);
        assert_eq!(secrets(&store), expected, "{path:?}");
        store.close().unwrap();
    }

    let store = open(&path, &clock);
    store.retire_secret(0).unwrap();
    store.close().unwrap();
    assert_eq!(secrets(&open(&path, &clock)), expected[1..]);
}

#[test]
fn a_store_of_an_earlier_version_does_not_know_how_old_its_secrets_are() {
    needs_files!("it is about the file");
    for fixture in ["format-1.redb", "format-2.redb"] {
        let (_folder, path) = place();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        fs::copy(fixtures.join(fixture), &path).unwrap();
        let clock = clock();
        let store = open(&path, &clock);
        let before = secrets(&store);
        assert!(
            before.iter().all(|(_, created)| created.is_none()),
            "{before:?}"
        );
        let rotated = store.rotate_secret().unwrap();
        let (last, older) = (secrets(&store).pop().unwrap(), before.len());
        assert_eq!(last, (rotated, Some(clock.now())));
        store.close().unwrap();
        let after = secrets(&open(&path, &clock));
        assert_eq!((&after[..older], after[older]), (&before[..], last));
    }
}

#[test]
fn a_store_in_memory_knows_how_old_its_secrets_are() {
    needs_files!("the engine for tests does not note it");
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    assert_eq!(secrets(&store), [(0, Some(clock.now()))]);
}
