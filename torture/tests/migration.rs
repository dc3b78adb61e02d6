//! C7.2: a file of an older format is migrated all or nothing, wherever a power loss ends the opening.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{Clock, Store};
use cloakroom_torture::disk::Disk;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const OWNER: &str = "ann@example.org";
/// The ids in `format-1.redb`, each with the name that is stored under it.
const NAMES: [(&str, &str); 3] = [
    (
        "qQDlOuPXxMGuvjkbDhNNiEZOAM7jiHyUt47kqtjEg2pWITYREhUgjUTmf5EJsLACjeim",
        "Ann",
    ),
    (
        "5n1GjLwOv0S7A64Iz5rvN-yrAACzkiQ7OI1-2ZVfeoS1R4xScaXrjsqeZQCU_y6bCYIE",
        "Ben",
    ),
    (
        "PnVmuDGvvLniYsdxyesPf_gvASQyai8wwK35sed8TukSsGN2kpGroRe8BHcS_a1wxC-m",
        "Cat",
    ),
];

fn open(disk: &Disk) -> cloakroom::Result<Store> {
    Store::builder()
        .clock(Clock::manual("2026-01-01T00:00:05Z".parse().unwrap()))
        .implicit_sweeps(false)
        .cache_size(1 << 20)
        .open_in(disk.folder(), "store")
}

fn assert_holds_everything(store: &Store) {
    assert!(store.check().unwrap().is_clean());
    let txn = store.begin().unwrap();
    for (id, name) in NAMES {
        let id = store.client_ids().verify(id).unwrap();
        let found: Option<String> = txn
            .session(&id)
            .unwrap()
            .pkg("greeter")
            .get("name")
            .unwrap();
        assert_eq!(found.as_deref(), Some(name));
    }
    let ann = store.client_ids().verify(NAMES[0].0).unwrap();
    assert!(
        txn.session(&ann)
            .unwrap()
            .pkg("shop")
            .contains_key("cart")
            .unwrap()
    );
    let owned = store.sessions_of(OWNER).unwrap();
    assert!(owned.len() == 1 && owned[0].client == ann.key());
}

/// What the file says of its format, read past the store; and which of the records are there that came
/// with format 2.
fn format(image: &[u8]) -> (u8, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    fs::write(&path, image).unwrap();
    let database = Database::open(&path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    let format = meta.get("format").unwrap().unwrap();
    let number = format.value().strip_prefix(b"cloakroom").unwrap()[0];
    let later = ["journal", "covered"];
    let there = later
        .iter()
        .filter(|name| meta.get(**name).unwrap().is_some());
    (number, there.count())
}

// C7.2
#[test]
fn a_file_of_format_1_is_migrated_in_one_step_all_or_nothing() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/format-1.redb");
    let image = fs::read(fixture).unwrap();
    let mut chance = fastrand::Rng::with_seed(20_261_124);
    let mut formats = BTreeSet::new();
    for crash in 1.. {
        let disk = Disk::holding("store", image.clone());
        disk.crash_at(crash);
        let opened = open(&disk);
        let is_over = !disk.has_crashed();
        assert_eq!(opened.is_ok(), is_over, "crash {crash}");
        for round in 0..4 {
            let left = disk.after_power_loss(&mut chance);
            let format = format(&left.seen("store"));
            assert!(
                [(1, 0), (2, 2)].contains(&format),
                "crash {crash}: {format:?}"
            );
            formats.insert(format);
            let store = open(&left).unwrap_or_else(|e| panic!("crash {crash}, round {round}: {e}"));
            assert_holds_everything(&store);
            store.close().unwrap();
            assert_holds_everything(&open(&left).unwrap());
        }
        if is_over {
            println!("{} operations", crash - 1);
            break;
        }
    }
    assert_eq!(formats, BTreeSet::from([(1, 0), (2, 2)]));
}
