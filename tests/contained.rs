//! C5.4: where redb panics over a damaged file in the middle of a write, the panic ends there. The process
//! goes on, so does the store, and its file is let go of when it is closed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, ErrorKind, Store, StoreBuilder};
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;

fn builder() -> StoreBuilder {
    Store::builder().implicit_sweeps(false).cache_size(1 << 20)
}

/// A store with one session, closed in order.
fn made(folder: &Path) -> (PathBuf, String) {
    let path = folder.join("store");
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    let id = id.as_str().to_owned();
    store.close().unwrap();
    (path, id)
}

fn put(store: &Store, id: &ClientId, n: u64) -> cloakroom::Result<()> {
    store.transact(|txn| txn.session(id)?.pkg("p").insert("n", n))
}

fn get(store: &Store, id: &ClientId) -> cloakroom::Result<Option<u64>> {
    store.begin()?.session(id)?.pkg("p").get("n")
}

/// Flips a bit in what redb says of a table, wherever a version of that lies.
fn flip_in_definition(path: &Path, table: &str, byte: usize, bit: u8) {
    let mut image = std::fs::read(path).unwrap();
    let mut flipped = 0;
    for page in image.chunks_mut(PAGE).skip(1) {
        let pairs = usize::from(u16::from_le_bytes([page[2], page[3]]));
        let end = |page: &[u8], n: usize| {
            let at = 4 + 4 * n;
            u32::from_le_bytes(page[at..at + 4].try_into().unwrap()) as usize
        };
        // The list of tables: names, then definitions, after where each of them ends.
        if page[0] != 1 || pairs != 7 || !page.windows(10).any(|part| part == b"tombstones") {
            continue;
        }
        let name = (0..pairs).find(|n| {
            let start = if *n == 0 {
                4 + 8 * pairs
            } else {
                end(page, n - 1)
            };
            page[start..end(page, *n)] == *table.as_bytes()
        });
        let at = end(page, pairs + name.unwrap() - 1) + byte;
        page[at] ^= 1 << bit;
        flipped += 1;
    }
    assert!(flipped > 0);
    std::fs::write(path, image).unwrap();
}

/// What a store with a damage gives: never a panic, a wrong value or no answer.
struct Given {
    opened: bool,
    written: cloakroom::Result<()>,
}

/// Opens the store, reads, writes, closes, and opens again: nobody holds its lock.
fn lived(path: &Path, id: &str) -> Given {
    let refused = |kind| matches!(kind, ErrorKind::Corrupt | ErrorKind::Unavailable);
    // The record that identifies a store may itself be damaged.
    let not_opened = |kind| matches!(kind, ErrorKind::Corrupt | ErrorKind::NotAStore);
    let store = match builder().open(path) {
        Ok(store) => store,
        Err(e) => {
            assert!(not_opened(e.kind()), "{e:?}");
            return Given {
                opened: false,
                written: Ok(()),
            };
        }
    };
    let id = store.client_ids().verify(id).unwrap();
    let read = |store: &Store, n| match get(store, &id) {
        Ok(found) => assert!(found.is_none_or(|found| found == n), "{found:?}"),
        Err(e) => assert!(refused(e.kind()), "{e}"),
    };
    read(&store, 1);
    let written = put(&store, &id, 2);
    let now = if written.is_ok() { 2 } else { 1 };
    // It reopens itself or goes on trying to; each is answered either way.
    for _ in 0..3 {
        read(&store, now);
        let again = put(&store, &id, now);
        assert!(again.is_ok() || written.is_err(), "{again:?}");
    }
    drop(store.close());
    match builder().open(path) {
        Ok(store) => read(&store, now),
        Err(e) => assert!(not_opened(e.kind()), "{e:?}"),
    }
    Given {
        opened: true,
        written,
    }
}

/// C5.4, C7.1. A kind of table that redb does not know: it panics, and poisons what its other tables need to
/// close.
/// With its debug assertions it refuses the file instead.
#[test]
fn a_panic_of_redb_while_a_commit_opens_its_tables_ends_there() {
    let folder = tempfile::tempdir().unwrap();
    let (path, id) = made(folder.path());
    flip_in_definition(&path, "tombstones", 0, 2);
    let given = lived(&path, &id);
    if given.opened {
        assert_eq!(given.written.unwrap_err().kind(), ErrorKind::NotWritten);
    }
    let saved = folder.path().join("saved");
    builder().salvage(&path, &saved).unwrap();
    let saved = builder().open(&saved).unwrap();
    let id = saved.client_ids().verify(&id).unwrap();
    assert_eq!(get(&saved, &id).unwrap(), Some(1));
}

#[test]
fn no_flipped_bit_in_what_redb_says_of_a_table_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (path, id) = made(folder.path());
    let image = std::fs::read(&path).unwrap();
    let (mut refused, mut failed) = (0, 0);
    for table in ["meta", "owners", "packages", "sessions", "tombstones"] {
        // Its kind, how many rows it has, whether there is a root, that root's place and size, and the
        // widths of the rows.
        for byte in [0, 1, 9, 10, 17, 42, 43, 47, 48] {
            for bit in 0..8 {
                std::fs::write(&path, &image).unwrap();
                flip_in_definition(&path, table, byte, bit);
                let given = lived(&path, &id);
                refused += u32::from(!given.opened);
                failed += u32::from(given.written.is_err());
            }
        }
    }
    println!("{refused} refused, {failed} failed");
}
